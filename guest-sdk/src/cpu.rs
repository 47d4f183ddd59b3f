//! The machine's CPUs and who has them (interface `cpu`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CpuSet, Result, backend};

/// One logical CPU (a hardware thread).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cpu {
    pub id: u32,
    /// Siblings have the same core and socket.
    pub core: u32,
    pub socket: u32,
    /// Its NUMA node.
    pub node: u32,
}

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

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Topology {
    /// Those that are online, by id.
    pub cpus: Vec<Cpu>,
    pub caches: Vec<Cache>,
    /// NUMA nodes.
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

pub fn topology() -> Topology {
    backend::cpu::topology()
}

/// What nobody was allocated, of the realm's CPUs.
pub fn shared_pool() -> Result<CpuSet> {
    backend::cpu::shared_pool()
}

/// Takes these CPUs out of the shared pool for the container, whose cpuset they become once it is
/// created or at once. The error names who has one of them.
pub fn allocate(container_id: &str, cpus: &CpuSet) -> Result<()> {
    backend::cpu::allocate(container_id, cpus)
}

/// Gives back what [`allocate`] took for it. A container's end does so too.
pub fn release(container_id: &str) -> Result<()> {
    backend::cpu::release(container_id)
}

/// Who was allocated what: CPU sets by containers' ids.
pub fn allocations() -> BTreeMap<String, CpuSet> {
    backend::cpu::allocations()
}

/// Moves every thread of a running container now, and records it.
pub fn pin(container_id: &str, cpus: &CpuSet) -> Result<()> {
    backend::cpu::pin(container_id, cpus)
}

/// Where a container's threads are, and where they may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    pub allowed: CpuSet,
    pub seen: CpuSet,
}

/// The CPUs that the threads of a running container are on at this moment, as the kernel tells,
/// and those they may be on.
pub fn ran_on(container_id: &str) -> Result<Placement> {
    backend::cpu::ran_on(container_id)
}
