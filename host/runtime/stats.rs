//! What containers and sandboxes use: shims count, the writable roots are measured here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::sweep::{self, Size};
use super::{ContainerUsage, Runtime, SandboxUsage};
use crate::model::container::{Container, ContainerState};
use crate::model::ids::{ContainerId, SandboxId, ShimId};
use crate::model::sandbox::{Sandbox, SandboxState};
use crate::proto::shim as wire;

/// How long a measured size is given out again.
const FRESH: Duration = Duration::from_secs(10);
/// A shim that takes longer is left out of the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Containers that a question to the shims names at most.
const NAMED_MAX: usize = 16;

/// Sizes of writable roots, as last measured.
#[derive(Default)]
pub struct Sizes(Mutex<Known>);

type Known = HashMap<ContainerId, (Instant, Size)>;

impl Sizes {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the shims counted, by id.
#[derive(Default)]
struct Counted {
    containers: HashMap<String, wire::ContainerStats>,
    sandboxes: HashMap<String, wire::SandboxStats>,
}

impl Runtime {
    /// Those of `containers` that run, in their order.
    pub(super) async fn usage_of(&self, containers: Vec<Arc<Container>>) -> Vec<ContainerUsage> {
        let running: Vec<_> = containers
            .into_iter()
            .filter(|container| matches!(container.state, ContainerState::Running { .. }))
            .collect();
        // Asking for everything is cheaper than naming many.
        let named = if running.len() > NAMED_MAX { &[] } else { running.as_slice() };
        let ids = named.iter().map(|container| container.id.to_string()).collect();
        let holders: BTreeSet<&SandboxId> = running.iter().map(|c| &c.sandbox).collect();
        let shims = holders.into_iter().filter_map(|id| self.records.sandbox(id)?.shim.clone());
        let counted = self.count(shims.collect(), ids).await;
        self.measure(&running).await;
        let sizes = self.sizes.lock();
        running.iter().filter_map(|container| usage(container, &counted, &sizes)).collect()
    }

    /// Those of `sandboxes` that are ready, in their order, with their running containers.
    pub(super) async fn usage_of_sandboxes(
        &self,
        sandboxes: Vec<Arc<Sandbox>>,
    ) -> Vec<SandboxUsage> {
        let ready: Vec<_> =
            sandboxes.into_iter().filter(|s| s.state == SandboxState::Ready).collect();
        let shims = ready.iter().filter_map(|sandbox| sandbox.shim.clone()).collect();
        let counted = self.count(shims, Vec::new()).await;
        let containers: BTreeMap<SandboxId, Vec<Arc<Container>>> = {
            let index = self.records.read();
            ready.iter().map(|s| (s.id.clone(), index.containers_of(&s.id))).collect()
        };
        let running: Vec<_> = containers
            .values()
            .flatten()
            .filter(|container| matches!(container.state, ContainerState::Running { .. }))
            .cloned()
            .collect();
        self.measure(&running).await;
        let sizes = self.sizes.lock();
        let of_sandbox = |sandbox: &Arc<Sandbox>| {
            let stats = counted.sandboxes.get(sandbox.id.as_str())?;
            let held = containers.get(&sandbox.id).into_iter().flatten();
            Some(SandboxUsage {
                sandbox: sandbox.clone(),
                timestamp: stats.timestamp,
                cpu_nanos: stats.cpu_nanos,
                memory: stats.memory,
                containers: held.filter_map(|c| usage(c, &counted, &sizes)).collect(),
            })
        };
        ready.iter().filter_map(of_sandbox).collect()
    }

    /// Threads of a container that stay in system calls now; 0 where no shim knows it.
    pub async fn stuck_threads(&self, container: &Container) -> u32 {
        let shim = self.records.sandbox(&container.sandbox).and_then(|s| s.shim.clone());
        let counted = self.count(shim.into_iter().collect(), vec![container.id.to_string()]).await;
        counted.containers.get(container.id.as_str()).map_or(0, |stats| stats.stuck_threads)
    }

    /// Asks the shims; no ids means everything they hold.
    async fn count(&self, shims: BTreeSet<ShimId>, container_ids: Vec<String>) -> Counted {
        let asked = shims.iter().filter_map(|id| self.shims.get(Some(id)).ok()).map(|shim| {
            let request = wire::StatsRequest { container_ids: container_ids.clone() };
            async move {
                let mut wire = shim.wire();
                match tokio::time::timeout(PATIENCE, wire.stats(request)).await {
                    Ok(Ok(stats)) => Some(stats.into_inner()),
                    Ok(Err(status)) => {
                        tracing::warn!(shim = %shim.id, %status, "a shim does not count");
                        None
                    }
                    Err(_) => {
                        tracing::warn!(shim = %shim.id, "a shim does not answer in time");
                        None
                    }
                }
            }
        });
        let mut counted = Counted::default();
        for stats in join_all(asked).await.into_iter().flatten() {
            let containers = stats.containers.into_iter().map(|stats| (stats.id.clone(), stats));
            counted.containers.extend(containers);
            let sandboxes = stats.sandboxes.into_iter().map(|stats| (stats.id.clone(), stats));
            counted.sandboxes.extend(sandboxes);
        }
        counted
    }

    /// Makes the sizes of the containers' writable roots known, where they are not from a moment
    /// ago.
    async fn measure(&self, containers: &[Arc<Container>]) {
        let stale: Vec<_> = {
            let now = Instant::now();
            let mut known = self.sizes.lock();
            known.retain(|_, (when, _)| now.duration_since(*when) < FRESH);
            containers.iter().filter(|container| !known.contains_key(&container.id)).collect()
        };
        if stale.is_empty() {
            return;
        }
        let upper = |id: &ContainerId| self.folders.root_of(id).join("upper");
        let stale: Vec<_> = stale.iter().map(|c| (c.id.clone(), upper(&c.id))).collect();
        let measured = tokio::task::spawn_blocking(move || {
            let measure = |(id, path): (_, PathBuf)| (id, (Instant::now(), sweep::measure(&path)));
            stale.into_iter().map(measure).collect::<Vec<_>>()
        });
        let measured = measured.await.unwrap_or_default();
        self.sizes.lock().extend(measured);
    }
}

fn usage(container: &Arc<Container>, counted: &Counted, sizes: &Known) -> Option<ContainerUsage> {
    let stats = counted.containers.get(container.id.as_str())?;
    let size = sizes.get(&container.id).map(|(_, size)| *size).unwrap_or_default();
    Some(ContainerUsage {
        container: container.clone(),
        timestamp: stats.timestamp,
        cpu_nanos: stats.cpu_nanos,
        memory: stats.memory,
        memory_limit: stats.memory_limit,
        threads: stats.threads,
        writable_bytes: size.bytes,
        writable_inodes: size.inodes,
    })
}
