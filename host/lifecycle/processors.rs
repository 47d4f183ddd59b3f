//! What plugins call of CPUs and memory nodes.

use super::bindings::{cpu, memory, types as wit};
use super::claims::Claim;
use super::functions::{Answer, View, said};
use crate::error::{Error, Result};
use crate::model::cpuset::CpuSet;
use crate::model::sandbox::{Realm, SandboxState};

impl View {
    /// A realm's CPUs. Refused where two realms are in use and were given none: each would think
    /// that it has all.
    fn pool(&self, realm: Realm) -> Result<CpuSet> {
        let text = self.shared.cpus.of(realm);
        if !text.is_empty() {
            return CpuSet::parse(text).map_err(Error::Invalid);
        }
        let pods = self.shared.node.sandboxes();
        if pods.iter().any(|pod| pod.realm != realm && pod.state == SandboxState::Ready) {
            return Err(Error::Precondition(format!(
                "CPUs of the {realm}'s pods cannot be allocated while other pods are here too: \
                 give each realm its own (cpus.kubelet, cpus.agent)"
            )));
        }
        Ok(self.shared.node.online())
    }

    /// Of a container that is being created too. What cannot be done in the end was not allocated.
    async fn allocate_cpus(&self, id: &str, cpus: &str) -> Result<()> {
        let cpus = CpuSet::parse(cpus).map_err(Error::Invalid)?;
        let pending = self.shared.claims.pending(id);
        let pending = pending.filter(|coming| self.reaches(&coming.sandbox, &coming.namespace));
        let (realm, is_there) = match pending {
            Some(coming) => (coming.realm, false),
            None => {
                let (pod, found) = self.container(id)?;
                if found.state.is_over() {
                    let state = &found.state;
                    return Err(Error::Precondition(format!("container {id} is {state}")));
                }
                (pod.realm, true)
            }
        };
        let (pool, list) = (self.pool(realm)?, cpus.to_string());
        let claim = Claim { plugin: self.shared.name.clone(), cpus };
        let taken = self.shared.claims.take(id, claim, &pool);
        let before = taken.map_err(|error| self.of_others(error))?;
        if !is_there {
            return Ok(());
        }
        let moved = self.move_to(id, list).await;
        if moved.is_err() {
            let had = before.map(|before| self.shared.claims.take(id, before, &pool));
            if !matches!(had, Some(Ok(_))) {
                self.shared.claims.give_back(id);
            }
        }
        moved
    }

    /// Whose other CPUs are is not a pod's to know.
    fn of_others(&self, error: Error) -> Error {
        match error {
            Error::Precondition(_) if self.only.is_some() => {
                Error::Precondition("others have some of these CPUs".to_owned())
            }
            error => error,
        }
    }

    async fn move_to(&self, id: &str, cpus: String) -> Result<()> {
        let change = change(Some(cpus), None);
        self.apply(vec![wit::ContainerUpdate {
            container_id: id.to_owned(),
            change,
            ignore_failure: false,
        }])
        .await
    }
}

/// A change of these alone.
pub fn change(cpuset_cpus: Option<String>, cpuset_mems: Option<String>) -> wit::ResourceChange {
    wit::ResourceChange {
        cpu_period: None,
        cpu_quota: None,
        cpu_shares: None,
        memory_limit: None,
        cpuset_cpus,
        cpuset_mems,
    }
}

impl cpu::Host for View {
    async fn topology(&mut self) -> wasmtime::Result<cpu::Layout> {
        Ok(self.shared.node.layout())
    }

    async fn shared_pool(&mut self) -> Answer<String> {
        let realm = self.realm.unwrap_or_else(|| {
            let pods = self.shared.node.sandboxes();
            pods.iter().find(|pod| self.sees(pod)).map_or(Realm::Kubelet, |pod| pod.realm)
        });
        said(self.pool(realm).map(|pool| self.shared.claims.rest(&pool).to_string()))
    }

    async fn allocate(&mut self, id: String, cpus: String) -> Answer<()> {
        said(self.allocate_cpus(&id, &cpus).await)
    }

    async fn release(&mut self, id: String) -> Answer<()> {
        let released = self.shared.claims.release(&self.shared.name, &id);
        said(released.map_err(|error| self.of_others(error)))
    }

    async fn allocations(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let known = self.shared.node.containers(None);
        // What nobody knows any more, a plugin may have to release.
        let is_shown = |id: &str| match self.shared.claims.pending(id) {
            Some(coming) => self.reaches(&coming.sandbox, &coming.namespace),
            None => {
                self.container(id).is_ok() || !known.iter().any(|known| known.id.as_str() == id)
            }
        };
        let held = self.shared.claims.all().into_iter().filter(|(id, _)| is_shown(id));
        Ok(held.map(|(id, claim)| (id, claim.cpus.to_string())).collect())
    }

    async fn pin(&mut self, id: String, cpus: String) -> Answer<()> {
        said(match self.running(&id) {
            Ok(_) => self.move_to(&id, cpus).await,
            Err(error) => Err(error),
        })
    }

    async fn ran_on(&mut self, id: String) -> Answer<cpu::Placement> {
        let placed = match self.running(&id) {
            Ok(id) => {
                let shared = self.shared.clone();
                self.node(async move { shared.node.placement(&id).await }).await
            }
            Err(error) => Err(error),
        };
        said(placed.map(|placed| cpu::Placement {
            allowed: placed.allowed.to_string(),
            seen: placed.seen.to_string(),
        }))
    }
}

impl memory::Host for View {
    async fn nodes(&mut self) -> wasmtime::Result<Vec<memory::Node>> {
        Ok(self.shared.node.memory_nodes())
    }

    async fn set_mems(&mut self, id: String, mems: String) -> Answer<()> {
        let change = change(None, Some(mems));
        let update = wit::ContainerUpdate { container_id: id, change, ignore_failure: false };
        said(self.apply(vec![update]).await)
    }
}
