//! The machine's CPUs and who has them (interface `cpu`). Allocations are kept from each other;
//! nothing else is held against them: [`pin`], `containers::update` and a cpuset in an adjustment
//! may put a container on CPUs that another plugin allocated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CpuSet, Result, backend};

/// One logical CPU (a hardware thread).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cpu {
    /// The kernel's number, as a [`CpuSet`] has it.
    pub id: u32,
    /// Siblings have the same core and socket.
    pub core: u32,
    pub socket: u32,
    /// Its NUMA node.
    pub node: u32,
}

/// One of the caches, each told once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cache {
    /// 1, 2 or 3.
    pub level: u32,
    /// "data", "instruction" or "unified".
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// The CPUs that share it.
    pub cpus: CpuSet,
}

/// How the machine's CPUs lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Topology {
    /// Those that are online, by id.
    pub cpus: Vec<Cpu>,
    pub caches: Vec<Cache>,
    /// Ids of the NUMA nodes, ascending; empty where the kernel knows none.
    pub nodes: Vec<u32>,
}

impl Topology {
    /// Every CPU.
    pub fn all(&self) -> CpuSet {
        self.cpus.iter().map(|cpu| cpu.id).collect()
    }

    /// The CPUs of each core, siblings together, by socket and core.
    pub fn cores(&self) -> Vec<CpuSet> {
        let mut cores = BTreeMap::<_, CpuSet>::new();
        for cpu in &self.cpus {
            cores.entry((cpu.socket, cpu.core)).or_default().insert(cpu.id);
        }
        cores.into_values().collect()
    }

    /// The CPUs of a NUMA node.
    pub fn node(&self, node: u32) -> CpuSet {
        self.cpus.iter().filter(|cpu| cpu.node == node).map(|cpu| cpu.id).collect()
    }
}

/// Of the whole machine, whatever the plugin may see of its pods.
pub fn topology() -> Topology {
    backend::cpu::topology()
}

/// What nobody was allocated, of a realm's CPUs: those that the node's configuration gives it, else
/// all that are online. Within a hook that is about a pod it is the realm of that pod; in any other
/// call (`configure`, `synchronize`) that of the first pod that is seen, the kubelet's where there is
/// none. An error where the realm was given no CPUs while the other realm has ready pods.
pub fn shared_pool() -> Result<CpuSet> {
    backend::cpu::shared_pool()
}

/// Takes these CPUs out of the shared pool for the container, in place of those that were allocated
/// to it before. Of a container that `pre_create_container` is asked of they become the cpuset with
/// the plugin's answer; one that is there is moved at once. Needs the field
/// `resources.cpuset-cpus`.
///
/// An error where the container is not found or has exited, where a CPU is not of its realm or is
/// allocated to another container, which is named (not to a pod's own hooks), and where the
/// container cannot be moved.
pub fn allocate(container_id: &str, cpus: &CpuSet) -> Result<()> {
    backend::cpu::allocate(container_id, cpus)
}

/// Gives back what [`allocate`] took for it; the container's cpuset stays as it is. Its end gives
/// back too, and so does a creation that fails. Nothing to give back is no error; what another
/// plugin allocated is one.
pub fn release(container_id: &str) -> Result<()> {
    backend::cpu::release(container_id)
}

/// Who was allocated what, by whichever plugin: CPU sets by containers' ids. Containers that the
/// plugin may not see are left out, though [`shared_pool`] lacks their CPUs.
pub fn allocations() -> BTreeMap<String, CpuSet> {
    backend::cpu::allocations()
}

/// Moves every thread of a running container now, and records it. It allocates nothing, and does
/// not look at what others allocated. Needs the field `resources.cpuset-cpus`.
///
/// An error where the container is not found or does not run, where a CPU is not of its pod's (or
/// its realm's, where the pod has none of its own), and as
/// [`containers::update`](crate::containers::update) has them.
pub fn pin(container_id: &str, cpus: &CpuSet) -> Result<()> {
    backend::cpu::pin(container_id, cpus)
}

/// Where a container's threads are, all of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The CPUs on which one of them may be.
    pub allowed: CpuSet,
    /// Those on which one of them is, or was when it last ran.
    pub seen: CpuSet,
}

/// Where the threads of a running container are at this moment, as the kernel tells, and where they
/// may be. An error where it is not found or does not run.
pub fn ran_on(container_id: &str) -> Result<Placement> {
    backend::cpu::ran_on(container_id)
}
