//! The machine's NUMA nodes (interface `memory`).

use serde::{Deserialize, Serialize};

use crate::{CpuSet, Result, backend};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Node {
    pub id: u32,
    /// Bytes.
    pub total: u64,
    /// Bytes.
    pub free: u64,
    /// To each node, itself included, by id; 10 is itself.
    pub distances: Vec<u32>,
}

pub fn nodes() -> Vec<Node> {
    backend::memory::nodes()
}

/// Where a running container's memory is taken from now on: NUMA nodes.
pub fn set_mems(container_id: &str, nodes: &CpuSet) -> Result<()> {
    backend::memory::set_mems(container_id, nodes)
}
