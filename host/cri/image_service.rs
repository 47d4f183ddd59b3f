//! CRI's ImageService. Images belong to the node, so realms do not matter here.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::chunks::{Chunks, chunks};
use super::convert::image;
use super::service::{Service, answer, now};
use crate::error::{Error, Result as Outcome};
use crate::image::{Image, Usage};
use crate::model::container::ContainerState;
use crate::proto::cri::image_service_server::ImageService;
use crate::proto::cri::{self, *};
use crate::runtime::Runtime;

type Answer<T> = Result<Response<T>, Status>;

fn reference(spec: Option<ImageSpec>) -> String {
    spec.map(|spec| spec.image).unwrap_or_default()
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let images = self.listed(request.into_inner().filter);
        Ok(Response::new(ListImagesResponse { images }))
    }

    /// An absent image is an empty answer, not an error.
    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Answer<ImageStatusResponse> {
        let request = request.into_inner();
        let spec = request.image.unwrap_or_default();
        let wanted = spec.image.clone();
        let found = if wanted.is_empty() { None } else { self.runtime.images().get(&wanted) };
        let info = match &found {
            Some(found) if request.verbose => info(found),
            _ => HashMap::new(),
        };
        let spec = (!spec.runtime_handler.is_empty()).then_some(spec);
        let shown = found.and_then(|found| self.shown(vec![found]).pop());
        let image = shown.map(|shown| cri::Image { spec, ..shown });
        Ok(Response::new(ImageStatusResponse { image, info }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        answer(self.pull(request).await.map(|image_ref| PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Answer<RemoveImageResponse> {
        answer(self.remove(&reference(request.into_inner().image)).await)
    }

    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        answer(self.filesystems().await)
    }

    type StreamImagesStream = Chunks<StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        let images = self.listed(request.into_inner().filter);
        Ok(Response::new(chunks(images, |images| StreamImagesResponse { images })))
    }
}

impl Service {
    fn listed(&self, filter: Option<ImageFilter>) -> Vec<crate::proto::cri::Image> {
        let wanted = reference(filter.and_then(|filter| filter.image));
        let images = self.runtime.images();
        let found = if wanted.is_empty() {
            images.list()
        } else {
            images.get(&wanted).into_iter().collect()
        };
        self.shown(found)
    }

    /// Images that are hooks of pods are pinned meanwhile: a kubelet knows no container of them.
    fn shown(&self, found: Vec<Arc<Image>>) -> Vec<cri::Image> {
        let hooks = self.runtime.hooks_images();
        let mut shown: Vec<_> = found.iter().map(|found| image::item(found)).collect();
        for item in &mut shown {
            item.pinned |= hooks.contains(&item.id);
        }
        shown
    }

    /// The kubelet reads the first of each list, and takes them for one file system when their
    /// mount points are the same text.
    async fn filesystems(&self) -> Outcome<cri::ImageFsInfoResponse> {
        let images = self.runtime.images().usage().await?;
        let (roots, size) = self.runtime.writable_usage().await;
        let is_one = device(&roots) == device(&images.mountpoint);
        let mountpoint = if is_one { images.mountpoint.clone() } else { roots };
        let containers = Usage { mountpoint, bytes: size.bytes, inodes: size.inodes };
        Ok(cri::ImageFsInfoResponse {
            image_filesystems: vec![image::filesystem(&images, now())],
            container_filesystems: vec![image::filesystem(&containers, now())],
        })
    }

    async fn remove(&self, reference: &str) -> Outcome<cri::RemoveImageResponse> {
        let images = self.runtime.images();
        if let Some(found) = images.get(reference)
            && let Some(user) = needing(&self.runtime, &found.id)
        {
            return Err(Error::Precondition(format!("image {reference:?} is used by {user}")));
        }
        let runtime = self.runtime.clone();
        images.remove(reference, move |id| needing(&runtime, id).is_some()).await?;
        Ok(cri::RemoveImageResponse {})
    }
}

/// Who needs an image's files: a container that runs, or may, or a pod whose own hooks they are. A
/// container that has exited is begun never again, and keeps its record; a kubelet collects only
/// images of which it has no container.
pub(super) fn needing(runtime: &Runtime, image: &str) -> Option<String> {
    let mut all = runtime.containers_of_image(image).into_iter();
    let container = all.find(|found| !matches!(found.state, ContainerState::Exited { .. }));
    container
        .map(|found| format!("container {} ({})", found.id, found.config.name.name))
        .or_else(|| runtime.hooked_by(image).map(|pod| format!("the hooks of pod {pod}")))
}

fn device(folder: &Path) -> Option<u64> {
    std::fs::metadata(folder).map(|found| found.dev()).ok()
}

/// What crictl inspecti shows besides the image: its OCI configuration and its programs.
fn info(image: &Image) -> HashMap<String, String> {
    let config = &image.config;
    let programs: HashMap<&str, &str> = image
        .programs
        .iter()
        .map(|program| (program.path.as_str(), program.digest.as_str()))
        .collect();
    let info = serde_json::json!({
        "imageSpec": { "config": {
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "Env": config.env,
            "WorkingDir": config.working_dir,
            "User": config.user,
            "StopSignal": config.stop_signal,
            "Labels": config.labels,
        }},
        "programs": programs,
    });
    [("info".to_owned(), info.to_string())].into()
}
