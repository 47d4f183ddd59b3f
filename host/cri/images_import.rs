//! What CRI's ImageService lacks: taking an image in from a file of this machine, for
//! `wasmpod import`. Images belong to the node, so both realms' sockets serve it.

use std::path::Path;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::service::answer;
use crate::error::{Error, Result};
use crate::image::{ImageStore, Name};
use crate::proto::pod::images_server::{Images, ImagesServer};
use crate::proto::pod::{ImportRequest, ImportResponse};

struct Service {
    images: Arc<ImageStore>,
}

/// The service for one socket.
pub fn service(images: Arc<ImageStore>) -> ImagesServer<impl Images> {
    ImagesServer::new(Service { images })
}

#[tonic::async_trait]
impl Images for Service {
    async fn import(
        &self,
        request: Request<ImportRequest>,
    ) -> Result<Response<ImportResponse>, Status> {
        answer(import(&self.images, &request.into_inner()).await)
    }
}

async fn import(images: &ImageStore, request: &ImportRequest) -> Result<ImportResponse> {
    let path = Path::new(&request.path);
    if !path.is_absolute() {
        return Err(Error::Invalid(format!(
            "path {:?} is not absolute: the daemon has a working directory of its own",
            request.path
        )));
    }
    let image = images.import(path, &request.name).await?;
    let name = Name::parse_tag(&request.name)?.tagged();
    Ok(ImportResponse { id: image.id.clone(), name, size: image.size })
}
