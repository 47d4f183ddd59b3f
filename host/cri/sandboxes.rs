//! RuntimeService's calls about pod sandboxes.

use std::collections::HashMap;

use super::convert::{required, resources, sandbox, stats};
use super::service::{Service, now};
use super::{security, weight};
use crate::error::{Error, Result};
use crate::model::resources::PodResources;
use crate::model::sandbox::{Realm, Sandbox, SandboxState};
use crate::proto::cri;
use crate::runtime::{Depth, Filter, SandboxUsage};
use crate::telemetry::trace::describe;

impl Service {
    pub(super) async fn answer_run_pod_sandbox(
        &self,
        scope: Option<Realm>,
        request: cri::RunPodSandboxRequest,
    ) -> Result<cri::RunPodSandboxResponse> {
        let config = required(request.config, "config")?;
        weight::sandbox(&config)?;
        security::sandbox(&config)?;
        let config = sandbox::config_from_cri(config)?;
        let realm = scope.unwrap_or(self.realm);
        let name = &config.name;
        describe(&[
            ("k8s.pod.name", &name.name),
            ("k8s.pod.uid", &name.uid),
            ("k8s.namespace.name", &name.namespace),
            ("wasmpod.handler", &request.runtime_handler),
        ]);
        let id = self.runtime.run_sandbox(realm, &request.runtime_handler, config).await?;
        describe(&[("wasmpod.sandbox.id", id.as_str())]);
        Ok(cri::RunPodSandboxResponse { pod_sandbox_id: id.to_string() })
    }

    pub(super) async fn answer_stop_pod_sandbox(
        &self,
        scope: Option<Realm>,
        request: cri::StopPodSandboxRequest,
    ) -> Result<cri::StopPodSandboxResponse> {
        self.runtime.stop_sandbox(scope, &request.pod_sandbox_id).await?;
        Ok(cri::StopPodSandboxResponse {})
    }

    pub(super) async fn answer_remove_pod_sandbox(
        &self,
        scope: Option<Realm>,
        request: cri::RemovePodSandboxRequest,
    ) -> Result<cri::RemovePodSandboxResponse> {
        self.runtime.remove_sandbox(scope, &request.pod_sandbox_id).await?;
        Ok(cri::RemovePodSandboxResponse {})
    }

    pub(super) async fn answer_pod_sandbox_status(
        &self,
        scope: Option<Realm>,
        request: cri::PodSandboxStatusRequest,
    ) -> Result<cri::PodSandboxStatusResponse> {
        // Taken first: what changes meanwhile is newer than this.
        let timestamp = now();
        let found = self.runtime.sandbox(scope, &request.pod_sandbox_id)?;
        Ok(cri::PodSandboxStatusResponse {
            status: Some(sandbox::status(&found)),
            info: if request.verbose { info(&found) } else { HashMap::new() },
            containers_statuses: self.statuses_of(found.id.as_str()),
            timestamp,
        })
    }

    pub(super) async fn answer_list_pod_sandbox(
        &self,
        scope: Option<Realm>,
        request: cri::ListPodSandboxRequest,
    ) -> Result<cri::ListPodSandboxResponse> {
        let (filter, state) = sandbox::filter_from_cri(request.filter)?;
        let found = self.runtime.sandboxes(&Filter { realm: scope, ..filter });
        let items = found
            .iter()
            .filter(|found| sandbox::is_in(found, state))
            .map(|found| sandbox::item(found))
            .collect();
        Ok(cri::ListPodSandboxResponse { items })
    }

    pub(super) async fn answer_pod_sandbox_stats(
        &self,
        scope: Option<Realm>,
        request: cri::PodSandboxStatsRequest,
    ) -> Result<cri::PodSandboxStatsResponse> {
        let found = self.runtime.sandbox(scope, &request.pod_sandbox_id)?;
        let filter = Filter { realm: scope, id: found.id.to_string(), ..Filter::default() };
        let stats = match self.sandbox_stats(&filter).await?.pop() {
            Some(stats) => stats,
            None => cri::PodSandboxStats {
                attributes: Some(sandbox::attributes(&found)),
                ..Default::default()
            },
        };
        Ok(cri::PodSandboxStatsResponse { stats: Some(stats) })
    }

    pub(super) async fn answer_update_pod_sandbox_resources(
        &self,
        scope: Option<Realm>,
        request: cri::UpdatePodSandboxResourcesRequest,
    ) -> Result<cri::UpdatePodSandboxResourcesResponse> {
        weight::pod_resources(&request)?;
        let update = PodResources {
            overhead: request.overhead.map(resources::from_cri),
            resources: request.resources.map(resources::from_cri),
        };
        self.runtime.update_pod_resources(scope, &request.pod_sandbox_id, update).await?;
        Ok(cri::UpdatePodSandboxResourcesResponse {})
    }

    /// There is nothing that could be written down; an unknown pod is told first.
    pub(super) async fn answer_checkpoint_pod(
        &self,
        scope: Option<Realm>,
        request: cri::CheckpointPodRequest,
    ) -> Result<cri::CheckpointPodResponse> {
        let found = self.runtime.sandbox(scope, &request.pod_sandbox_id)?;
        Err(no_checkpoint(&format!("sandbox {}", found.id)))
    }

    pub(super) async fn answer_list_pod_sandbox_stats(
        &self,
        scope: Option<Realm>,
        request: cri::ListPodSandboxStatsRequest,
    ) -> Result<cri::ListPodSandboxStatsResponse> {
        let filter = Filter { realm: scope, ..sandbox::stats_filter_from_cri(request.filter) };
        Ok(cri::ListPodSandboxStatsResponse { stats: self.sandbox_stats(&filter).await? })
    }

    async fn sandbox_stats(&self, filter: &Filter) -> Result<Vec<cri::PodSandboxStats>> {
        let root = &self.runtime.config().root;
        let usages: Vec<SandboxUsage> = self.runtime.sandbox_usage(filter, Depth::Use).await?;
        Ok(usages.iter().map(|usage| stats::of_sandbox(usage, root)).collect())
    }
}

/// Why no checkpoint can be made, and what to do.
pub(super) fn no_checkpoint(of: &str) -> Error {
    Error::Unimplemented(format!(
        "{of} cannot be checkpointed: a running guest's stack is machine state of this process \
         that wasmtime cannot write down; keep what matters in a volume and start it anew"
    ))
}

/// What crictl inspectp shows besides the status.
fn info(sandbox: &Sandbox) -> HashMap<String, String> {
    let state = match sandbox.state {
        SandboxState::Creating => "creating",
        SandboxState::Ready => "ready",
        SandboxState::NotReady => "notready",
        SandboxState::Removing => "removing",
    };
    let info = serde_json::json!({
        "realm": sandbox.realm,
        "state": state,
        "shim": sandbox.shim,
        "hostname": sandbox.config.hostname,
        "logDirectory": sandbox.config.log_directory,
        "cgroupParent": sandbox.config.cgroup_parent,
        "portMappings": sandbox.config.port_mappings,
        "dns": sandbox.config.dns,
        "overhead": sandbox.config.overhead,
        "resources": sandbox.config.resources,
    });
    [("info".to_owned(), info.to_string())].into()
}
