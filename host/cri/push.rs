//! Pushing: the pod protocol's, which tells how far it is.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::codes;
use super::convert::image;
use super::pull::telling;
use crate::error::Result;
use crate::image::{Arrival, ImageStore};
use crate::proto::pod::push_response::Item;
use crate::proto::pod::{PushDone, PushRequest, PushResponse};

/// What the pod protocol's Push answers with.
pub type Reports = ReceiverStream<Result<PushResponse, Status>>;

/// Begins a push and reports on it until it is done or nobody listens any more.
pub fn push(images: Arc<ImageStore>, request: PushRequest) -> Reports {
    let (sender, reports) = mpsc::channel(16);
    tokio::spawn(async move {
        let (told, progress) = watch::channel(Arrival::default());
        let pushing = pushing(&images, request, told);
        let tell =
            |now| drop(sender.try_send(Ok(PushResponse { item: Some(Item::Progress(now)) })));
        let outcome = tokio::select! {
            () = sender.closed() => return,
            () = telling(progress, tell) => return,
            outcome = pushing => outcome,
        };
        let last = outcome.map(|done| PushResponse { item: Some(Item::Done(done)) });
        // A listener that left needs no last word.
        let _ = sender.send(last.map_err(codes::status)).await;
    });
    ReceiverStream::new(reports)
}

async fn pushing(
    images: &ImageStore,
    request: PushRequest,
    told: watch::Sender<Arrival>,
) -> Result<PushDone> {
    let auth = request.auth.map(image::login);
    let names = (request.image.as_str(), request.target.as_str());
    let pushed = images.push_with(names, auth.as_ref(), told).await?;
    let count = |blobs: usize| u32::try_from(blobs).unwrap_or(u32::MAX);
    let (sent, had) = (count(pushed.sent), count(pushed.had));
    Ok(PushDone { name: pushed.name, digest: pushed.digest, sent, had })
}
