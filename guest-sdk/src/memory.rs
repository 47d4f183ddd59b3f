//! The machine's NUMA nodes (interface `memory`).

use serde::{Deserialize, Serialize};

use crate::{CpuSet, Result, backend};

/// One NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Node {
    pub id: u32,
    /// Bytes.
    pub total: u64,
    /// Bytes that nobody uses at this moment.
    pub free: u64,
    /// To each node, itself included, by id; 10 is itself.
    pub distances: Vec<u32>,
}

/// By id; empty where the kernel knows none.
pub fn nodes() -> Vec<Node> {
    backend::memory::nodes()
}

/// From which NUMA nodes a container takes memory from now on; what it has stays where it is. One
/// that does not run yet begins so. Errors are those of
/// [`containers::update`](crate::containers::update), one of which is a node that the machine
/// lacks. Needs the field `resources.cpuset-mems`.
pub fn set_mems(container_id: &str, nodes: &CpuSet) -> Result<()> {
    backend::memory::set_mems(container_id, nodes)
}
