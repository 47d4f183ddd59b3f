//! What a RuntimeClass handler means: where a container's Store and process live.

use serde::{Deserialize, Serialize};

/// Whose Store a container runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorePlace {
    /// A child Store and thread of its own.
    Child,
    /// The sandbox's own Store, beside the pod's other containers. Not there yet: refused.
    Shared,
}

/// Whose process a sandbox lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessPlace {
    /// A shim that holds many pods.
    Shared,
    /// A shim of the pod's own, in the pod's cgroup.
    Pod,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    pub store: StorePlace,
    pub process: ProcessPlace,
}

impl Handler {
    /// Whether it runs pods today.
    pub fn is_available(self) -> bool {
        self.store == StorePlace::Child
    }
}

/// The handlers that are there without any configuration, by RuntimeClass handler name.
pub const BUILT_IN: [(&str, Handler); 3] = [
    ("wasm", Handler { store: StorePlace::Child, process: ProcessPlace::Shared }),
    ("wasm-isolated", Handler { store: StorePlace::Child, process: ProcessPlace::Pod }),
    ("wasm-shared", Handler { store: StorePlace::Shared, process: ProcessPlace::Shared }),
];

/// The handler that an empty name means.
pub const DEFAULT: &str = "wasm";
