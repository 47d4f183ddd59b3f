//! The containers of the pods that the plugin may see (interface `containers`).

use crate::{Container, Result, Update, backend};

/// Of all pods.
pub fn list() -> Vec<Container> {
    backend::containers::list(None)
}

pub fn list_of(pod_id: &str) -> Vec<Container> {
    backend::containers::list(Some(pod_id))
}

/// None where there is no such container.
pub fn get(id: &str) -> Option<Container> {
    backend::containers::get(id)
}

/// Changes containers' resources, though nobody asked. The first failure that is not ignored ends
/// it; what was changed before stays. A field that another plugin has set is an error that names
/// it.
pub fn update(updates: &[Update]) -> Result<()> {
    backend::containers::update(updates)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_nanoseconds: u64,
    /// In use now.
    pub memory_bytes: u64,
    pub writable_bytes: u64,
    pub threads: u32,
}

/// Of a running container.
pub fn stats(id: &str) -> Result<Usage> {
    backend::containers::stats(id)
}
