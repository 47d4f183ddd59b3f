//! A pod's own resources while it lives: what is asked for is recorded, and what has a meaning
//! here is applied. That is the CPUs that its containers have unless they name their own, and the
//! memory limit of the pod's cgroup, which whoever asks has changed before: CRI's numbers are sums
//! over the containers that name a limit, and limit nothing.

use std::sync::Arc;

use super::change::Change;
use super::client::answer;
use super::{Runtime, cgroup, launch};
use crate::error::{Error, Result};
use crate::lifecycle::Step;
use crate::model::cpuset::CpuSet;
use crate::model::ids::SandboxId;
use crate::model::resources::{PodResources, Resources};
use crate::model::sandbox::{Realm, Sandbox, SandboxState};
use crate::proto::shim as wire;

impl Runtime {
    pub(super) async fn set_pod_limits(
        self: Arc<Self>,
        id: SandboxId,
        update: PodResources,
    ) -> Result<()> {
        let turn = self.records.turn(id.as_str());
        let _turn = turn.operation.write().await;
        let sandbox =
            self.records.sandbox(&id).ok_or_else(|| Error::not_found("sandbox", id.as_str()))?;
        if sandbox.state != SandboxState::Ready {
            let state = sandbox.state;
            return Err(Error::Precondition(format!("sandbox {id} is {state}, expected ready")));
        }
        let resources = PodResources {
            overhead: sandbox.config.overhead.clone(),
            resources: sandbox.config.resources.clone(),
        };
        let resources = resources.updated(&update);
        let chain = self.chain()?;
        let (overhead, whole) = (resources.overhead.as_ref(), resources.resources.as_ref());
        chain.update_pod(&sandbox, overhead, whole).await?;
        self.apply_pod_limits(&sandbox, resources.resources.as_ref()).await?;
        // A kill between the two leaves the record's, which recovery applies again.
        self.records.change(vec![Change::SetPodResources(id.clone(), resources)]).await?;
        if let Some(sandbox) = self.records.sandbox(&id) {
            self.tell_plugins(Step::UpdatedSandbox, &sandbox, None).await;
        }
        Ok(())
    }

    /// The CPUs that a pod's containers have unless they name their own: the pod's, or else those of
    /// its realm. The list is empty where neither says any.
    pub(super) fn pod_cpus(&self, realm: Realm, resources: Option<&Resources>) -> Result<String> {
        let own = resources.map(|resources| resources.cpuset_cpus.as_str());
        let own = own.filter(|list| !list.is_empty());
        let realms = self.config.cpus.of(realm);
        let Some(own) = own else { return Ok(realms.to_owned()) };
        let cpus = CpuSet::parse(own).map_err(Error::Invalid)?;
        let allowed = CpuSet::parse(realms).ok().filter(|allowed| !allowed.is_empty());
        match allowed.and_then(|allowed| cpus.iter().find(|&cpu| !allowed.contains(cpu))) {
            Some(other) => Err(Error::Invalid(format!(
                "cpu list {own} names CPU {other}, the {realm}'s pods have {realms} (cpus.{realm} of \
                 the configuration)"
            ))),
            None => Ok(own.to_owned()),
        }
    }

    pub(super) async fn apply_pod_limits(
        &self,
        sandbox: &Sandbox,
        resources: Option<&Resources>,
    ) -> Result<()> {
        let shim = self.shims.get(sandbox.shim.as_ref())?;
        let request = wire::UpdateSandboxRequest {
            id: sandbox.id.to_string(),
            memory_limit: cgroup::memory_limit(&sandbox.config.cgroup_parent)?.unwrap_or(0),
            cpuset_cpus: self.pod_cpus(sandbox.realm, resources)?,
        };
        answer("setting a pod's limits", shim.wire().update_sandbox(request)).await.map(drop)
    }
}

/// Refuses what no kernel would take either, and names it.
pub fn check(what: &str, resources: &Resources) -> Result<()> {
    // Of quota and swap, -1 is no limit.
    let numbers = [
        ("cpu_period", resources.cpu_period, 0),
        ("cpu_quota", resources.cpu_quota, -1),
        ("cpu_shares", resources.cpu_shares, 0),
        ("memory_limit_in_bytes", resources.memory_limit, 0),
        ("memory_swap_limit_in_bytes", resources.memory_swap_limit, -1),
        ("oom_score_adj", resources.oom_score_adj, -1000),
    ];
    if let Some((name, number, least)) = numbers.into_iter().find(|(_, n, least)| n < least) {
        return Err(Error::Invalid(format!("{what}.{name} = {number}: the least is {least}")));
    }
    if resources.oom_score_adj > 1000 {
        let number = resources.oom_score_adj;
        return Err(Error::Invalid(format!("{what}.oom_score_adj = {number}: the most is 1000")));
    }
    launch::applied(resources).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_no_kernel_takes_are_named() {
        let good = Resources { cpu_quota: -1, memory_swap_limit: -1, ..Resources::default() };
        check("resources", &good).unwrap();
        for (bad, says) in [
            (Resources { cpu_quota: -2, ..good.clone() }, "resources.cpu_quota = -2"),
            (Resources { cpu_shares: -1, ..good.clone() }, "cpu_shares"),
            (Resources { memory_limit: -1, ..good.clone() }, "memory_limit_in_bytes"),
            (Resources { oom_score_adj: 1001, ..good.clone() }, "oom_score_adj"),
            (Resources { cpuset_cpus: "x".to_owned(), ..good.clone() }, "x"),
            (Resources { cpuset_mems: "0-".to_owned(), ..good.clone() }, "cpuset_mems"),
        ] {
            let error = check("resources", &bad).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(says));
        }
    }
}
