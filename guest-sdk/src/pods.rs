//! The pods that the plugin may see: those of the namespaces that it asks for and was granted
//! (interface `pods`). None that is being made, as the one that `run_pod_sandbox` is asked of, and
//! none that is removed, as the one that `remove_pod_sandbox` tells of.

use crate::{Pod, backend};

/// Ready ones and those that are not, of both realms.
pub fn list() -> Vec<Pod> {
    backend::pods::list()
}

/// By the whole id. None where the plugin sees no such pod.
pub fn get(id: &str) -> Option<Pod> {
    backend::pods::get(id)
}
