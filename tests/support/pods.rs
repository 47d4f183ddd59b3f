//! Pods and containers of a test's daemon, driven through CRI.

use std::path::PathBuf;

use tonic::transport::Channel;
use wasmpod::proto::cri;
use wasmpod::proto::cri::runtime_service_client::RuntimeServiceClient;

use super::logs::{self, Log};
use super::wait::eventually_async;

/// A sandbox that is ready.
#[derive(Clone, Debug)]
pub struct Pod {
    pub id: String,
    pub config: cri::PodSandboxConfig,
    pub client: RuntimeServiceClient<Channel>,
}

/// A container of a pod.
#[derive(Clone, Debug)]
pub struct Container {
    pub id: String,
    pub config: cri::ContainerConfig,
    pub pod: Pod,
}

impl Pod {
    pub async fn create(&self, config: cri::ContainerConfig) -> Container {
        self.try_create(config).await.unwrap()
    }

    pub async fn try_create(
        &self,
        config: cri::ContainerConfig,
    ) -> Result<Container, tonic::Status> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config.clone()),
            sandbox_config: Some(self.config.clone()),
        };
        let id = self.client.clone().create_container(request).await?.into_inner().container_id;
        Ok(Container { id, config, pod: self.clone() })
    }

    /// Creates and starts.
    pub async fn run(&self, config: cri::ContainerConfig) -> Container {
        let container = self.create(config).await;
        container.start().await.unwrap();
        container
    }

    /// Runs a guest with these arguments to its end, and gives its standard output. `name` must
    /// be new in the pod.
    pub async fn output_of(&self, name: &str, image: &str, args: &[&str]) -> String {
        let mut config = super::container(name, image);
        config.args = args.iter().map(|word| (*word).to_owned()).collect();
        let container = self.run(config).await;
        container.exit().await;
        container.log().text("stdout")
    }

    pub async fn stop(&self) {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: self.id.clone() };
        self.client.clone().stop_pod_sandbox(request).await.unwrap();
    }

    pub async fn remove(&self) {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() };
        self.client.clone().remove_pod_sandbox(request).await.unwrap();
    }

    pub async fn status(&self) -> Result<cri::PodSandboxStatus, tonic::Status> {
        let request =
            cri::PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), verbose: false };
        let answer = self.client.clone().pod_sandbox_status(request).await?.into_inner();
        Ok(answer.status.unwrap())
    }
}

impl Container {
    pub async fn start(&self) -> Result<(), tonic::Status> {
        let request = cri::StartContainerRequest { container_id: self.id.clone() };
        self.pod.client.clone().start_container(request).await.map(drop)
    }

    /// `seconds` is StopContainer's timeout.
    pub async fn stop(&self, seconds: i64) {
        let request = cri::StopContainerRequest { container_id: self.id.clone(), timeout: seconds };
        self.pod.client.clone().stop_container(request).await.unwrap();
    }

    pub async fn remove(&self) {
        let request = cri::RemoveContainerRequest { container_id: self.id.clone() };
        self.pod.client.clone().remove_container(request).await.unwrap();
    }

    pub async fn status(&self) -> Result<cri::ContainerStatus, tonic::Status> {
        let request = cri::ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
        let answer = self.pod.client.clone().container_status(request).await?.into_inner();
        Ok(answer.status.unwrap())
    }

    /// Waits for its end.
    pub async fn exit(&self) -> cri::ContainerStatus {
        eventually_async(&format!("container {} exits", self.id), || async {
            let status = self.status().await.unwrap();
            (status.state() == cri::ContainerState::ContainerExited).then_some(status)
        })
        .await
    }

    /// Waits until a line of its log contains `text`.
    pub async fn says(&self, text: &str) -> Log {
        super::eventually(&format!("container {} says {text:?}", self.id), || {
            let log = self.log();
            log.contains(text).then_some(log)
        })
        .await
    }

    /// ExecSync; `seconds` of 0 waits for ever.
    pub async fn exec(
        &self,
        argv: &[&str],
        seconds: i64,
    ) -> Result<cri::ExecSyncResponse, tonic::Status> {
        let request = cri::ExecSyncRequest {
            container_id: self.id.clone(),
            cmd: argv.iter().map(|word| (*word).to_owned()).collect(),
            timeout: seconds,
        };
        self.pod.client.clone().exec_sync(request).await.map(tonic::Response::into_inner)
    }

    pub fn log_path(&self) -> PathBuf {
        logs::path(&self.pod.config.log_directory, &self.config.log_path)
    }

    pub fn log(&self) -> Log {
        Log::read(&self.log_path())
    }
}
