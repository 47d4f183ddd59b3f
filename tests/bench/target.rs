//! Something that speaks CRI and is measured: a daemon of our own, or a peer.

use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use tempfile::TempDir;
use tonic::transport::Channel;
use wasmpod::cri::client::connect;
use wasmpod::proto::cri;
use wasmpod::proto::cri::runtime_service_client::RuntimeServiceClient;

use crate::support::{self, Daemon};

pub struct Target {
    pub name: String,
    pub client: RuntimeServiceClient<Channel>,
    pub handler: String,
    logs: TempDir,
}

impl Target {
    pub fn own(daemon: &Daemon) -> Self {
        Self {
            name: "wasmpod".to_owned(),
            client: daemon.runtime(),
            handler: String::new(),
            logs: folder(),
        }
    }

    /// WASMPOD_BENCH_PEER and its image, where they are named.
    pub async fn peer() -> Option<(Self, String)> {
        let named = std::env::var("WASMPOD_BENCH_PEER").ok()?;
        let image = std::env::var("WASMPOD_BENCH_PEER_IMAGE")
            .expect("WASMPOD_BENCH_PEER needs WASMPOD_BENCH_PEER_IMAGE");
        let (socket, handler) = named.split_once(',').unwrap_or((&named, ""));
        let socket = PathBuf::from(socket.trim_start_matches("unix://"));
        let client = RuntimeServiceClient::new(connect(&socket).await.unwrap());
        let name = format!("peer {handler}");
        Some((Self { name, client, handler: handler.to_owned(), logs: folder() }, image))
    }

    /// A pod's messages. Its log directory is made, and a fresh one.
    pub fn sandbox(&self, network: cri::NamespaceMode) -> cri::PodSandboxConfig {
        let mut config = support::sandbox("bench");
        let metadata = config.metadata.as_ref().unwrap();
        let logs = self.logs.path().join(&metadata.uid);
        std::fs::create_dir(&logs).unwrap();
        config.log_directory = logs.display().to_string();
        let linux = config.linux.as_mut().unwrap();
        let options = cri::NamespaceOption { network: network.into(), ..Default::default() };
        linux.security_context.as_mut().unwrap().namespace_options = Some(options);
        config
    }

    pub async fn version(&mut self) {
        self.client.version(cri::VersionRequest::default()).await.unwrap();
    }

    pub async fn run(&mut self, config: &cri::PodSandboxConfig) -> String {
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: self.handler.clone(),
        };
        self.client.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id
    }

    pub async fn create(
        &mut self,
        pod: &str,
        config: &cri::ContainerConfig,
        sandbox: &cri::PodSandboxConfig,
    ) -> String {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(sandbox.clone()),
        };
        self.client.create_container(request).await.unwrap().into_inner().container_id
    }

    pub async fn start(&mut self, container: &str) {
        let request = cri::StartContainerRequest { container_id: container.to_owned() };
        self.client.start_container(request).await.unwrap();
    }

    /// Asks for its status until it has ended.
    pub async fn wait(&mut self, container: &str) -> cri::ContainerStatus {
        loop {
            let request =
                cri::ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
            let answer = self.client.container_status(request).await.unwrap().into_inner();
            let status = answer.status.unwrap();
            if status.state() == cri::ContainerState::ContainerExited {
                return status;
            }
            tokio::task::yield_now().await;
        }
    }

    pub async fn remove(&mut self, pod: &str) {
        let pod_sandbox_id = pod.to_owned();
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        self.client.stop_pod_sandbox(request).await.unwrap();
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id };
        self.client.remove_pod_sandbox(request).await.unwrap();
    }

    /// As another client on the same connection.
    pub fn another(&self) -> Self {
        Self {
            name: self.name.clone(),
            client: self.client.clone(),
            handler: self.handler.clone(),
            logs: folder(),
        }
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("wpbench").tempdir().unwrap()
}

/// Notices the first byte of a file in a folder, without turning in circles meanwhile.
pub struct FirstByte {
    file: PathBuf,
    watch: rustix::fd::OwnedFd,
}

impl FirstByte {
    /// `file` need not be there yet; its folder must.
    pub fn of(file: PathBuf) -> Self {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::MODIFY;
        inotify::add_watch(&watch, file.parent().unwrap(), flags).unwrap();
        Self { file, watch }
    }

    /// Blocks the thread.
    pub fn wait(&self) {
        let begun = std::time::Instant::now();
        let pause = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        while std::fs::metadata(&self.file).map_or(0, |found| found.len()) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no log in {:?}", self.file);
            // The news themselves are not read: any that comes ends this wait, and the ones
            // after it; a few turns are no matter here.
            poll(&mut [PollFd::new(&self.watch, PollFlags::IN)], Some(&pause)).unwrap();
        }
    }
}
