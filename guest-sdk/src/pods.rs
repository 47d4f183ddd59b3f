//! The pods that the plugin may see: those of the namespaces that it was granted (interface
//! `pods`).

use crate::{Pod, backend};

pub fn list() -> Vec<Pod> {
    backend::pods::list()
}

/// None where there is no such pod.
pub fn get(id: &str) -> Option<Pod> {
    backend::pods::get(id)
}
