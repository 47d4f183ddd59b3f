//! What guests may do besides WASI.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestsConfig {
    /// Whether a guest may start programs of its container as processes of its pod, and see the
    /// pod's (wit/process).
    pub processes: Permission,
    /// Processes that one container's guests may have started at once.
    pub max_processes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    Allow,
    Deny,
}

impl GuestsConfig {
    /// Processes at once; 0 is none.
    pub fn most_processes(&self) -> u32 {
        match self.processes {
            Permission::Allow => self.max_processes,
            Permission::Deny => 0,
        }
    }
}

impl Default for GuestsConfig {
    fn default() -> Self {
        Self { processes: Permission::Allow, max_processes: 64 }
    }
}
