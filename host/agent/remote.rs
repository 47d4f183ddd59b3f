//! The agent's CRI client: the few calls it makes, with plain arguments and the library's error.

use std::collections::HashMap;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Status};

use super::configs::POD_UID;
use crate::cri::client::MAX_MESSAGE;
use crate::error::{Error, Result};
use crate::proto::cri;
use crate::proto::cri::image_service_client::ImageServiceClient;
use crate::proto::cri::runtime_service_client::RuntimeServiceClient;
use crate::proto::pod::images_client::ImagesClient;
use crate::proto::pod::pull_response::Item;
use crate::proto::pod::{PullDone, PullProgress, PullRequest};

/// CRI of the agent's realm. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct Remote {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    pulls: ImagesClient<Channel>,
}

/// An image, and what may open its registry.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub image: String,
    /// Texts of docker's config.json.
    pub docker_configs: Vec<String>,
}

/// What a program in a container gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    pub exit_code: i32,
    /// What it wrote, stdout before stderr.
    pub output: String,
}

/// The runtime's message is all that matters of a failed call; what was being done is the
/// caller's event.
fn failed(status: Status) -> Error {
    let text = status.message().to_owned();
    match status.code() {
        Code::DeadlineExceeded => Error::DeadlineExceeded(text),
        Code::Unavailable | Code::Cancelled => Error::Unavailable(text),
        Code::Unimplemented => Error::Unimplemented(text),
        Code::NotFound => Error::not_found("object", text),
        _ => Error::Precondition(text),
    }
}

fn seconds(duration: Duration) -> i64 {
    // A part of a second is a second more: a deadline must not come early.
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

impl Remote {
    pub fn new(channel: Channel) -> Self {
        Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            pulls: ImagesClient::new(channel.clone()),
            images: ImageServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        }
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    /// Sandboxes of a pod.
    pub async fn sandboxes(&self, uid: &str) -> Result<Vec<cri::PodSandbox>> {
        let filter = cri::PodSandboxFilter { label_selector: of_pod(uid), ..Default::default() };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        let answer = self.runtime().list_pod_sandbox(request).await.map_err(failed)?;
        Ok(answer.into_inner().items)
    }

    /// Containers of a pod.
    pub async fn containers(&self, uid: &str) -> Result<Vec<cri::Container>> {
        let filter = cri::ContainerFilter { label_selector: of_pod(uid), ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let answer = self.runtime().list_containers(request).await.map_err(failed)?;
        Ok(answer.into_inner().containers)
    }

    /// `None` for a container that is not there any more.
    pub async fn container_status(&self, id: &str) -> Result<Option<cri::ContainerStatus>> {
        let request =
            cri::ContainerStatusRequest { container_id: id.to_owned(), ..Default::default() };
        match self.runtime().container_status(request).await {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(failed(status)),
        }
    }

    pub async fn run_sandbox(
        &self,
        config: cri::PodSandboxConfig,
        handler: &str,
    ) -> Result<String> {
        let request =
            cri::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        let answer = self.runtime().run_pod_sandbox(request).await.map_err(failed)?;
        Ok(answer.into_inner().pod_sandbox_id)
    }

    /// A sandbox's own addresses, the first first.
    pub async fn addresses(&self, id: &str) -> Result<Vec<String>> {
        let request =
            cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), ..Default::default() };
        let answer = self.runtime().pod_sandbox_status(request).await.map_err(failed)?;
        let network = answer.into_inner().status.and_then(|status| status.network);
        let network = network.unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|more| more.ip);
        Ok(std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect())
    }

    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime().stop_pod_sandbox(request).await.map_err(failed).map(drop)
    }

    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime().remove_pod_sandbox(request).await.map_err(failed).map(drop)
    }

    pub async fn create(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let answer = self.runtime().create_container(request).await.map_err(failed)?;
        Ok(answer.into_inner().container_id)
    }

    pub async fn start(&self, id: &str) -> Result<()> {
        let request = cri::StartContainerRequest { container_id: id.to_owned() };
        self.runtime().start_container(request).await.map_err(failed).map(drop)
    }

    pub async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let request =
            cri::StopContainerRequest { container_id: id.to_owned(), timeout: seconds(grace) };
        self.runtime().stop_container(request).await.map_err(failed).map(drop)
    }

    pub async fn remove(&self, id: &str) -> Result<()> {
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        self.runtime().remove_container(request).await.map_err(failed).map(drop)
    }

    /// Runs `command`; `timeout` of `None` waits for its end however long.
    pub async fn exec(
        &self,
        id: &str,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecResult> {
        let request = cri::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.to_vec(),
            timeout: timeout.map_or(0, seconds),
        };
        let answer = self.runtime().exec_sync(request).await.map_err(failed)?.into_inner();
        let mut output = String::from_utf8_lossy(&answer.stdout).into_owned();
        output.push_str(&String::from_utf8_lossy(&answer.stderr));
        Ok(ExecResult { exit_code: answer.exit_code, output })
    }

    /// The image of that name; `None` when it is not there.
    pub async fn image(&self, name: &str) -> Result<Option<cri::Image>> {
        let image = Some(cri::ImageSpec { image: name.to_owned(), ..Default::default() });
        let request = cri::ImageStatusRequest { image, ..Default::default() };
        let answer = self.images.clone().image_status(request).await.map_err(failed)?;
        Ok(answer.into_inner().image)
    }

    /// Fetches an image, telling how far it is; given up when this is dropped. CRI's PullImage
    /// tells nothing, so it is the daemon's own. The error is what PullImage would say.
    pub async fn pull(&self, wanted: Wanted, tell: impl Fn(PullProgress)) -> Result<PullDone> {
        let request = PullRequest {
            image: wanted.image,
            docker_configs: wanted.docker_configs,
            ..Default::default()
        };
        // Not `failed`: the message is whole, and the kubelet's words begin it.
        let said = |status: Status| Error::Precondition(status.message().to_owned());
        let mut reports = self.pulls.clone().pull(request).await.map_err(said)?.into_inner();
        loop {
            match reports.message().await.map_err(said)?.and_then(|report| report.item) {
                Some(Item::Progress(progress)) => tell(progress),
                Some(Item::Done(done)) => return Ok(done),
                None => return Err(Error::Unavailable("the pull ended without a word".to_owned())),
            }
        }
    }

    /// The stream of what happens to containers; `Error::Unimplemented` where there is none.
    pub async fn events(&self) -> Result<tonic::Streaming<cri::ContainerEventResponse>> {
        let answer = self.runtime().get_container_events(cri::GetEventsRequest {}).await;
        Ok(answer.map_err(failed)?.into_inner())
    }
}

fn of_pod(uid: &str) -> HashMap<String, String> {
    HashMap::from([(POD_UID.to_owned(), uid.to_owned())])
}
