//! What containers and sandboxes use: shims count, and the writable roots are measured.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::shims::Shim;
use super::sizes::Reading;
use super::{Filter, Runtime, Size};
use crate::error::{Error, Result};
use crate::model::container::{Container, ContainerState};
use crate::model::ids::{SandboxId, ShimId};
use crate::model::sandbox::{Sandbox, SandboxState};
use crate::model::work::Work;
use crate::proto::shim as wire;

/// A shim that takes longer is left out of the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Containers that a question to the shims names at most.
const NAMED_MAX: usize = 16;

/// One container's use (nanoseconds, bytes).
#[derive(Clone, Debug)]
pub struct ContainerUsage {
    pub container: Arc<Container>,
    pub timestamp: i64,
    pub cpu_nanos: u64,
    pub memory: u64,
    /// The most it ever held.
    pub memory_peak: u64,
    /// 0 is none.
    pub memory_limit: u64,
    /// How often memory was refused for the limit's sake.
    pub memory_refusals: u64,
    pub threads: u32,
    pub descriptors: u32,
    /// 0 where the shim is too old to tell.
    pub descriptors_limit: u32,
    pub processes: u32,
    /// Of the descriptors.
    pub sockets: u32,
    /// Guests of it that were ended because they could not have more memory.
    pub memory_kills: u64,
    /// Of [`Depth::Work`] alone.
    pub work: Work,
    /// What the writable root holds; `None` where it was not measured yet.
    pub writable: Option<Size>,
}

/// How much is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Use,
    /// What threads have done as well, which costs the shims more.
    Work,
}

/// A sandbox's use, its containers' included.
#[derive(Clone, Debug)]
pub struct SandboxUsage {
    pub sandbox: Arc<Sandbox>,
    pub timestamp: i64,
    pub cpu_nanos: u64,
    pub memory: u64,
    /// Of a network namespace of its own, loopback left out.
    pub interfaces: Vec<Interface>,
    /// As a container's, of all that the sandbox has or had.
    pub memory_kills: u64,
    pub work: Work,
    pub containers: Vec<ContainerUsage>,
}

/// What an interface has carried since it is there.
#[derive(Clone, Debug)]
pub struct Interface {
    pub name: String,
    pub received: Traffic,
    pub sent: Traffic,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// A file system.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    pub bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// What the shims counted, by id; the id has been taken out of the message.
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
        let counted = if running.len() > NAMED_MAX {
            // Asking everybody for everything is cheaper than finding and naming many.
            self.count(self.shims.alive(), wire::StatsRequest::default()).await
        } else {
            let container_ids = running.iter().map(|container| container.id.to_string()).collect();
            let holders: BTreeSet<&SandboxId> = running.iter().map(|c| &c.sandbox).collect();
            let shims = holders.into_iter().filter_map(|id| self.records.sandbox(id)?.shim.clone());
            let request = wire::StatsRequest { container_ids, ..Default::default() };
            self.count(self.living(shims.collect()), request).await
        };
        self.measure(running.iter()).await;
        let sizes = self.sizes.read();
        running.iter().filter_map(|container| usage(container, &counted, &sizes)).collect()
    }

    /// Those of `sandboxes` that are ready, in their order, with their running containers.
    pub(super) async fn usage_of_sandboxes(
        &self,
        sandboxes: Vec<Arc<Sandbox>>,
        depth: Depth,
    ) -> Vec<SandboxUsage> {
        let ready: Vec<_> =
            sandboxes.into_iter().filter(|s| s.state == SandboxState::Ready).collect();
        let shims = ready.iter().filter_map(|sandbox| sandbox.shim.clone()).collect();
        let request = wire::StatsRequest {
            container_ids: Vec::new(),
            sandboxes: true,
            work: depth == Depth::Work,
        };
        let counted = self.count(self.living(shims), request).await;
        let held: Vec<Vec<Arc<Container>>> = {
            let index = self.records.read();
            ready.iter().map(|sandbox| index.containers_of(&sandbox.id)).collect()
        };
        let is_running = |c: &&Arc<Container>| matches!(c.state, ContainerState::Running { .. });
        self.measure(held.iter().flatten().filter(is_running)).await;
        let sizes = self.sizes.read();
        let of_sandbox = |(sandbox, held): (Arc<Sandbox>, &Vec<Arc<Container>>)| {
            let stats = counted.sandboxes.get(sandbox.id.as_str())?;
            Some(SandboxUsage {
                timestamp: stats.timestamp,
                cpu_nanos: stats.cpu_nanos,
                memory: stats.memory,
                interfaces: stats.interfaces.iter().map(interface).collect(),
                memory_kills: stats.memory_kills,
                work: work(stats.work),
                containers: held.iter().filter_map(|c| usage(c, &counted, &sizes)).collect(),
                sandbox,
            })
        };
        ready.into_iter().zip(&held).filter_map(of_sandbox).collect()
    }

    /// Threads of a container that stay in system calls now; 0 where no shim knows it.
    pub async fn stuck_threads(&self, container: &Container) -> u32 {
        let shim = self.records.sandbox(&container.sandbox).and_then(|s| s.shim.clone());
        let container_ids = vec![container.id.to_string()];
        let request = wire::StatsRequest { container_ids, ..Default::default() };
        let counted = self.count(self.living(shim.into_iter().collect()), request).await;
        counted.containers.get(container.id.as_str()).map_or(0, |stats| stats.stuck_threads)
    }

    fn living(&self, shims: BTreeSet<ShimId>) -> Vec<Arc<Shim>> {
        shims.iter().filter_map(|id| self.shims.get(Some(id)).ok()).collect()
    }

    async fn count(&self, shims: Vec<Arc<Shim>>, request: wire::StatsRequest) -> Counted {
        let asked = shims.into_iter().map(|shim| {
            let request = request.clone();
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
            let containers = stats.containers.into_iter();
            counted.containers.extend(containers.map(|mut c| (std::mem::take(&mut c.id), c)));
            let sandboxes = stats.sandboxes.into_iter();
            counted.sandboxes.extend(sandboxes.map(|mut s| (std::mem::take(&mut s.id), s)));
        }
        counted
    }

    async fn measure<'a>(&self, containers: impl Iterator<Item = &'a Arc<Container>> + Clone) {
        let ids = containers.map(|container| &container.id);
        self.sizes.refresh(ids, |id| self.folders.root_of(id).join("upper")).await;
    }

    /// The file system on which writable roots lie.
    pub async fn disk_of_roots(&self) -> Result<Disk> {
        let roots = self.folders.roots();
        // A disk may be slow to say it.
        let asked = tokio::task::spawn_blocking(move || {
            let found = rustix::fs::statvfs(&roots).map_err(Error::sys("asking for the disk"))?;
            Ok(Disk {
                bytes: found.f_blocks.saturating_mul(found.f_frsize),
                inodes: found.f_files,
                inodes_free: found.f_ffree,
            })
        });
        asked.await.unwrap_or_else(|_| Err(Error::Internal("asking for the disk panicked".into())))
    }

    pub(super) async fn size_of_roots(&self) -> Size {
        let containers = self.containers(&Filter::default());
        self.measure(containers.iter()).await;
        let sizes = self.sizes.read();
        let known = containers.iter().filter_map(|container| sizes.get(&container.id));
        known.fold(Size::default(), |sum, size| Size {
            bytes: sum.bytes.saturating_add(size.bytes),
            inodes: sum.inodes.saturating_add(size.inodes),
        })
    }
}

fn usage(
    container: &Arc<Container>,
    counted: &Counted,
    sizes: &Reading<'_>,
) -> Option<ContainerUsage> {
    let stats = counted.containers.get(container.id.as_str())?;
    Some(ContainerUsage {
        container: container.clone(),
        timestamp: stats.timestamp,
        cpu_nanos: stats.cpu_nanos,
        memory: stats.memory,
        memory_peak: stats.memory_peak,
        memory_limit: stats.memory_limit,
        memory_refusals: stats.memory_refusals,
        threads: stats.threads,
        descriptors: stats.descriptors,
        descriptors_limit: stats.descriptors_limit,
        processes: stats.processes,
        sockets: stats.sockets,
        memory_kills: stats.memory_kills,
        work: work(stats.work),
        writable: sizes.get(&container.id),
    })
}

/// Zeros from a shim that is too old to tell.
fn work(done: Option<wire::Work>) -> Work {
    let done = done.unwrap_or_default();
    Work {
        user_nanos: done.user_nanos,
        system_nanos: done.system_nanos,
        faults: done.faults,
        major_faults: done.major_faults,
        reads: done.reads,
        writes: done.writes,
        read_bytes: done.read_bytes,
        written_bytes: done.written_bytes,
    }
}

fn interface(counted: &wire::Interface) -> Interface {
    let traffic = |flow: &Option<wire::Traffic>| {
        let flow = flow.unwrap_or_default();
        Traffic {
            bytes: flow.bytes,
            packets: flow.packets,
            errors: flow.errors,
            dropped: flow.dropped,
        }
    };
    Interface {
        name: counted.name.clone(),
        received: traffic(&counted.received),
        sent: traffic(&counted.sent),
    }
}
