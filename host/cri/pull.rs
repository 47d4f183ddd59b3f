//! Pulling: CRI's PullImage, and the pod protocol's, which tells how far it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::codes;
use super::convert::image;
use super::deadline::within;
use super::service::Service;
use crate::error::{Error, Result};
use crate::image::{Arrival, Auth, Imported, Pull, Pulling};
use crate::proto::cri;
use crate::proto::pod::pull_request;
use crate::proto::pod::pull_response::Item;
use crate::proto::pod::{PullDone, PullProgress, PullRequest, PullResponse};
use crate::runtime::Runtime;
use crate::telemetry::trace::describe;

/// Between two reports of a pull's progress.
const PAUSE: Duration = Duration::from_millis(100);

/// What the pod protocol's Pull answers with.
pub type Reports = ReceiverStream<Result<PullResponse, Status>>;

impl Service {
    /// The image's id. Given up at the caller's deadline, or when it goes away.
    pub(super) async fn pull(&self, request: Request<cri::PullImageRequest>) -> Result<String> {
        let (metadata, _, request) = request.into_parts();
        let spec = request.image.unwrap_or_default();
        self.handler(&spec)?;
        describe(&[("image", &spec.image)]);
        let wanted = Pull {
            name: spec.image.clone(),
            auth: request.auth.map(image::auth),
            imported: Imported::Keep,
        };
        let pulling = self.runtime.images().pull(wanted)?;
        let doing = || format!("pulling image {:?}", spec.image);
        let image = within(&metadata, doing, pulling.done()).await?;
        self.runtime.image_pulled(&image);
        Ok(image.id.clone())
    }

    /// Images are the same for every handler; one that does not exist is a mistake.
    pub(super) fn handler(&self, spec: &cri::ImageSpec) -> Result<()> {
        let handler = &spec.runtime_handler;
        if handler.is_empty() || self.runtime.config().handler(handler).is_some() {
            return Ok(());
        }
        Err(Error::Invalid(format!("runtime handler {handler:?} is none of wasmpod's")))
    }
}

/// Begins a pull and reports on it until it is done or nobody listens any more.
pub fn pull(runtime: &Arc<Runtime>, request: PullRequest) -> Result<Reports> {
    let imported = match request.imported() {
        pull_request::Imported::Keep => Imported::Keep,
        pull_request::Imported::Replace => Imported::Replace,
    };
    let auth = match request.auth {
        Some(login) => Some(image::login(login)),
        None => Auth::of_docker(&request.docker_configs, &request.image)?,
    };
    let pulling = runtime.images().pull(Pull { name: request.image, auth, imported })?;
    let (sender, reports) = mpsc::channel(16);
    let runtime = runtime.clone();
    tokio::spawn(async move {
        let outcome = tokio::select! {
            () = sender.closed() => return,
            outcome = report(&runtime, pulling, &sender) => outcome,
        };
        let last = outcome.map_err(codes::status);
        // A listener that left needs no last word.
        let _ = sender.send(last).await;
    });
    Ok(ReceiverStream::new(reports))
}

async fn report(
    runtime: &Arc<Runtime>,
    pulling: Pulling,
    sender: &mpsc::Sender<Result<PullResponse, Status>>,
) -> Result<PullResponse> {
    let progress = pulling.progress();
    // A listener that is slow misses some: each says everything.
    let tell = |now| drop(sender.try_send(Ok(PullResponse { item: Some(Item::Progress(now)) })));
    let image = tokio::select! {
        image = pulling.done() => image?,
        () = telling(progress, tell) => return Err(Error::Internal("a pull without an end".to_owned())),
    };
    runtime.image_pulled(&image);
    let done = PullDone { id: image.id.clone(), digests: image.digests.clone(), size: image.size };
    Ok(PullResponse { item: Some(Item::Done(done)) })
}

/// Tells of progress for as long as it is waited for, now and then.
pub async fn telling(mut progress: watch::Receiver<Arrival>, tell: impl Fn(PullProgress)) {
    while progress.changed().await.is_ok() {
        tell(image::progress(&progress.borrow_and_update()));
        tokio::time::sleep(PAUSE).await;
    }
    std::future::pending().await
}
