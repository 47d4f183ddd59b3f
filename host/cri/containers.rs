//! RuntimeService's calls about containers.

use std::collections::HashMap;
use std::time::Duration;

use super::convert::{container, required, resources, stats};
use super::sandboxes::no_checkpoint;
use super::service::Service;
use super::{security, weight};
use crate::error::{Error, Result};
use crate::model::container::Container;
use crate::model::sandbox::Realm;
use crate::proto::cri;
use crate::runtime::Filter;
use crate::telemetry::trace::describe;

/// Bytes of output in one ExecSync answer: a message less some room for its other fields.
const MAX_OUTPUT: usize = super::client::MAX_MESSAGE - 4096;

impl Service {
    pub(super) async fn answer_create_container(
        &self,
        scope: Option<Realm>,
        request: cri::CreateContainerRequest,
    ) -> Result<cri::CreateContainerResponse> {
        let config = required(request.config, "config")?;
        weight::container(&config)?;
        security::container(&config)?;
        let config = container::config_from_cri(config)?;
        let sandbox = &request.pod_sandbox_id;
        describe(&[
            ("k8s.container.name", &config.name.name),
            ("image", &config.image.image),
            ("wasmpod.sandbox.id", sandbox),
        ]);
        let id = self.runtime.create_container(scope, sandbox, config).await?;
        describe(&[("wasmpod.container.id", id.as_str())]);
        Ok(cri::CreateContainerResponse { container_id: id.to_string() })
    }

    pub(super) async fn answer_start_container(
        &self,
        scope: Option<Realm>,
        request: cri::StartContainerRequest,
    ) -> Result<cri::StartContainerResponse> {
        describe(&[("wasmpod.container.id", &request.container_id)]);
        self.runtime.start_container(scope, &request.container_id).await?;
        Ok(cri::StartContainerResponse {})
    }

    pub(super) async fn answer_stop_container(
        &self,
        scope: Option<Realm>,
        request: cri::StopContainerRequest,
    ) -> Result<cri::StopContainerResponse> {
        let grace = seconds(request.timeout).unwrap_or_default();
        self.runtime.stop_container(scope, &request.container_id, grace).await?;
        Ok(cri::StopContainerResponse {})
    }

    pub(super) async fn answer_remove_container(
        &self,
        scope: Option<Realm>,
        request: cri::RemoveContainerRequest,
    ) -> Result<cri::RemoveContainerResponse> {
        self.runtime.remove_container(scope, &request.container_id).await?;
        Ok(cri::RemoveContainerResponse {})
    }

    pub(super) async fn answer_list_containers(
        &self,
        scope: Option<Realm>,
        request: cri::ListContainersRequest,
    ) -> Result<cri::ListContainersResponse> {
        let (filter, state) = container::filter_from_cri(request.filter)?;
        let found = self.runtime.containers(&Filter { realm: scope, ..filter });
        let containers = found
            .iter()
            .filter(|found| container::is_in(found, state))
            .map(|found| container::item(found))
            .collect();
        Ok(cri::ListContainersResponse { containers })
    }

    pub(super) async fn answer_container_status(
        &self,
        scope: Option<Realm>,
        request: cri::ContainerStatusRequest,
    ) -> Result<cri::ContainerStatusResponse> {
        let found = self.runtime.container(scope, &request.container_id)?;
        Ok(cri::ContainerStatusResponse {
            status: Some(container::status(&found)),
            info: if request.verbose { self.info(&found).await } else { HashMap::new() },
        })
    }

    pub(super) async fn answer_update_container_resources(
        &self,
        scope: Option<Realm>,
        request: cri::UpdateContainerResourcesRequest,
    ) -> Result<cri::UpdateContainerResourcesResponse> {
        let update = resources::from_cri(request.linux.unwrap_or_default());
        self.runtime.update_resources(scope, &request.container_id, &update).await?;
        Ok(cri::UpdateContainerResourcesResponse {})
    }

    /// There is nothing that could be written down; an unknown container is told first.
    pub(super) async fn answer_checkpoint_container(
        &self,
        scope: Option<Realm>,
        request: cri::CheckpointContainerRequest,
    ) -> Result<cri::CheckpointContainerResponse> {
        let found = self.runtime.container(scope, &request.container_id)?;
        Err(no_checkpoint(&format!("container {}", found.id)))
    }

    pub(super) async fn answer_reopen_container_log(
        &self,
        scope: Option<Realm>,
        request: cri::ReopenContainerLogRequest,
    ) -> Result<cri::ReopenContainerLogResponse> {
        self.runtime.reopen_log(scope, &request.container_id).await?;
        Ok(cri::ReopenContainerLogResponse {})
    }

    pub(super) async fn answer_exec_sync(
        &self,
        scope: Option<Realm>,
        request: cri::ExecSyncRequest,
    ) -> Result<cri::ExecSyncResponse> {
        if request.cmd.is_empty() {
            return Err(Error::Invalid("cmd is empty".to_owned()));
        }
        let timeout = seconds(request.timeout);
        let id = &request.container_id;
        let mut output = self.runtime.exec(scope, id, request.cmd, timeout).await?;
        output.stdout.truncate(MAX_OUTPUT);
        output.stderr.truncate(MAX_OUTPUT - output.stdout.len());
        Ok(cri::ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.exit_code,
        })
    }

    pub(super) async fn answer_container_stats(
        &self,
        scope: Option<Realm>,
        request: cri::ContainerStatsRequest,
    ) -> Result<cri::ContainerStatsResponse> {
        let found = self.runtime.container(scope, &request.container_id)?;
        let filter = Filter { realm: scope, id: found.id.to_string(), ..Filter::default() };
        let stats = match self.container_stats_of(&filter).await?.pop() {
            Some(stats) => stats,
            None => stats::of_idle_container(&found),
        };
        Ok(cri::ContainerStatsResponse { stats: Some(stats) })
    }

    pub(super) async fn answer_list_container_stats(
        &self,
        scope: Option<Realm>,
        request: cri::ListContainerStatsRequest,
    ) -> Result<cri::ListContainerStatsResponse> {
        let filter = Filter { realm: scope, ..container::stats_filter_from_cri(request.filter) };
        Ok(cri::ListContainerStatsResponse { stats: self.container_stats_of(&filter).await? })
    }

    async fn container_stats_of(&self, filter: &Filter) -> Result<Vec<cri::ContainerStats>> {
        let root = &self.runtime.config().root;
        let usages = self.runtime.container_usage(filter).await?;
        Ok(usages.iter().map(|usage| stats::of_container(usage, root)).collect())
    }

    /// What crictl inspect shows besides the status.
    async fn info(&self, container: &Container) -> HashMap<String, String> {
        let stuck_threads = self.runtime.stuck_threads(container).await;
        let sandbox = self.runtime.sandbox(None, container.sandbox.as_str()).ok();
        let config = &container.config;
        let info = serde_json::json!({
            "sandboxID": container.sandbox,
            "realm": container.realm,
            "state": container.state.name(),
            "shim": sandbox.as_ref().and_then(|sandbox| sandbox.shim.clone()),
            "runtimeHandler": sandbox.as_ref().map(|sandbox| sandbox.handler.clone()),
            "argv": self.argv(container),
            "env": config.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
            "workingDir": config.working_dir,
            "stdin": config.stdin,
            "tty": config.tty,
            "stuckThreads": stuck_threads,
            "readonlyRootfs": config.readonly_rootfs,
        });
        [("info".to_owned(), info.to_string())].into()
    }

    /// The command line that runs, as OCI merges an image's with a container's: a command
    /// replaces the image's entrypoint and its arguments.
    fn argv(&self, container: &Container) -> Vec<String> {
        let config = &container.config;
        let image = self.runtime.images().get(&container.image_id);
        let (entrypoint, cmd) = image
            .map(|image| (image.config.entrypoint.clone(), image.config.cmd.clone()))
            .unwrap_or_default();
        let (command, default_args) = if config.command.is_empty() {
            (entrypoint, cmd)
        } else {
            (config.command.clone(), Vec::new())
        };
        let args = if config.args.is_empty() { default_args } else { config.args.clone() };
        [command, args].concat()
    }
}

/// CRI's timeouts: whole seconds, where 0 and less say none.
fn seconds(number: i64) -> Option<Duration> {
    u64::try_from(number).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}
