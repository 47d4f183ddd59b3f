//! The containers of the pods that the plugin may see (interface `containers`). None that is being
//! made, as the one that `pre_create_container` and `validate_container` are asked of, and none
//! that is removed, as the one that `remove_container` tells of.

use crate::{Container, Result, Update, backend};

/// Of all pods: those that are created, running or exited.
pub fn list() -> Vec<Container> {
    backend::containers::list(None)
}

/// Of one pod, by its whole id. Empty where the plugin sees no such pod.
pub fn list_of(pod_id: &str) -> Vec<Container> {
    backend::containers::list(Some(pod_id))
}

/// By the whole id. None where the plugin sees no such container.
pub fn get(id: &str) -> Option<Container> {
    backend::containers::get(id)
}

/// Changes containers' resources, though nobody asked: at once, and recorded. No plugin is asked of
/// it. The first failure that is not ignored ends it; what was changed before stays.
///
/// An error where a container is not found; a field was not asked for or not granted, or was set by
/// another plugin, which is named; a number, a CPU or a node cannot be; a request is changing or
/// starting the container (after half a second: that request's hook is where to answer).
pub fn update(updates: &[Update]) -> Result<()> {
    backend::containers::update(updates)
}

/// What a container takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads since its start.
    pub cpu_nanoseconds: u64,
    /// In use now.
    pub memory_bytes: u64,
    /// Of the files that it has written in its root, when they were last measured; 0 before.
    pub writable_bytes: u64,
    /// That live now.
    pub threads: u32,
}

/// Of a running container. An error where it is not found or does not run.
pub fn stats(id: &str) -> Result<Usage> {
    backend::containers::stats(id)
}
