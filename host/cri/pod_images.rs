//! What CRI's ImageService lacks: images from files of this machine, names, machine code and
//! everything else that people do with a store. Images belong to the node, so both realms'
//! sockets serve it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::stored;
use super::image_service::needing;
use super::service::answer;
use super::{codes, pull, push};
use crate::error::{Error, Result};
use crate::image::{ImageStore, Name, Prune, Released, Warmed};
use crate::proto::pod::images_server::{Images, ImagesServer};
use crate::proto::pod::*;
use crate::runtime::Runtime;

/// Pieces of an archive that wait for a slow reader.
const PIECES: usize = 4;

struct Service {
    runtime: Arc<Runtime>,
}

/// The service for one socket.
pub fn service(runtime: Arc<Runtime>) -> ImagesServer<impl Images> {
    ImagesServer::new(Service { runtime })
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Images for Service {
    async fn import(&self, request: Request<ImportRequest>) -> Answer<ImportResponse> {
        answer(import(self.images(), &request.into_inner()).await)
    }

    type PullStream = pull::Reports;

    async fn pull(&self, request: Request<PullRequest>) -> Answer<Self::PullStream> {
        answer(pull::pull(&self.runtime, request.into_inner()))
    }

    type PushStream = push::Reports;

    async fn push(&self, request: Request<PushRequest>) -> Answer<Self::PushStream> {
        Ok(Response::new(push::push(self.images().clone(), request.into_inner())))
    }

    async fn list_stored(&self, _: Request<ListStoredRequest>) -> Answer<ListStoredResponse> {
        let images = self.images();
        let images = images.list().iter().map(|image| stored::image(image, images)).collect();
        Ok(Response::new(ListStoredResponse { images }))
    }

    async fn describe(&self, request: Request<ImageRequest>) -> Answer<DescribeResponse> {
        let described = self.images().describe(&request.into_inner().image).await;
        answer(described.map(|json| DescribeResponse { json: json.to_string() }))
    }

    async fn tag(&self, request: Request<TagRequest>) -> Answer<TagResponse> {
        let TagRequest { image, name } = request.into_inner();
        answer(tag(self.images(), &image, &name).await)
    }

    async fn release(&self, request: Request<ImageRequest>) -> Answer<ReleaseResponse> {
        let image = request.into_inner().image;
        let runtime = self.runtime.clone();
        let in_use = move |id: &str| needing(&runtime, id).is_some();
        let released = self.images().release(&image, in_use).await;
        answer(released.map(|released| match released {
            Released::Untagged { id, name } => ReleaseResponse { id, untagged: name },
            Released::Removed { id } => ReleaseResponse { id, untagged: String::new() },
        }))
    }

    type SaveStream = ReceiverStream<Result<SaveResponse, Status>>;

    async fn save(&self, request: Request<SaveRequest>) -> Answer<Self::SaveStream> {
        let (runtime, wanted) = (self.runtime.clone(), request.into_inner().images);
        let (pieces, stream) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            let writer = std::io::BufWriter::with_capacity(1 << 18, Pieces(pieces.clone()));
            if let Err(error) = runtime.images().save(&wanted, writer).await {
                // A reader that left needs no reason.
                let _ = pieces.send(Err(codes::status(error))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn load(&self, request: Request<LoadRequest>) -> Answer<LoadResponse> {
        answer(load(self.images(), &request.into_inner().path).await)
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Answer<PruneResponse> {
        let which = match request.into_inner().which() {
            prune_request::Which::Unpinned => Prune::Unpinned,
            prune_request::Which::All => Prune::All,
        };
        let runtime = self.runtime.clone();
        let in_use = move |id: &str| {
            !runtime.containers_of_image(id).is_empty() || runtime.hooked_by(id).is_some()
        };
        let pruned = self.images().prune(which, in_use).await;
        answer(pruned.map(|(removed, freed)| PruneResponse {
            removed: removed.into_iter().map(stored::pruned).collect(),
            freed,
        }))
    }

    type CompileStream = ReceiverStream<Result<CompileResponse, Status>>;

    async fn compile(&self, request: Request<ImageRequest>) -> Answer<Self::CompileStream> {
        let (runtime, image) = (self.runtime.clone(), request.into_inner().image);
        let (done, stream) = mpsc::channel(4096);
        tokio::spawn(async move {
            let each = |warmed: &Warmed, of: usize| {
                // As long as there are programs in an image: never full.
                let _ = done.try_send(Ok(stored::warmed(warmed, of)));
            };
            tokio::select! {
                warmed = runtime.images().warm(&image, each) => if let Err(error) = warmed {
                    let _ = done.send(Err(codes::status(error))).await;
                },
                // Nobody waits any more: the children end.
                () = done.closed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn check(&self, _: Request<CheckRequest>) -> Answer<CheckResponse> {
        answer(self.images().check().await.map(|found| CheckResponse {
            images: found.images.into_iter().map(stored::finding).collect(),
            code: found.code.into_iter().map(stored::finding).collect(),
        }))
    }
}

impl Service {
    fn images(&self) -> &Arc<ImageStore> {
        self.runtime.images()
    }
}

/// An archive's bytes on their way to a client.
struct Pieces(mpsc::Sender<Result<SaveResponse, Status>>);

impl std::io::Write for Pieces {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0
            .blocking_send(Ok(SaveResponse { data: data.to_vec().into() }))
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn absolute(path: &str) -> Result<PathBuf> {
    if Path::new(path).is_absolute() {
        return Ok(PathBuf::from(path));
    }
    Err(Error::Invalid(format!(
        "path {path:?} is not absolute: the daemon has a working directory of its own"
    )))
}

async fn load(images: &ImageStore, path: &str) -> Result<LoadResponse> {
    let loaded = images.load(&absolute(path)?).await?;
    Ok(LoadResponse { images: loaded.iter().map(|image| stored::image(image, images)).collect() })
}

async fn tag(images: &ImageStore, image: &str, name: &str) -> Result<TagResponse> {
    let tagged = images.tag(image, name).await?;
    Ok(TagResponse { id: tagged.id.clone(), name: Name::parse_tag(name)?.tagged() })
}

async fn import(images: &ImageStore, request: &ImportRequest) -> Result<ImportResponse> {
    let path = absolute(&request.path)?;
    let image = images.import(&path, &request.name).await?;
    let name = Name::parse_tag(&request.name)?.tagged();
    Ok(ImportResponse { id: image.id.clone(), name, size: image.size })
}
