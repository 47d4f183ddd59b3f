//! What lifecycle plugins changed of a container, beside what is told in its configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjusted {
    /// Variables that it does not get, though the image has them.
    pub removed_env: BTreeSet<String>,
    /// Limits in place of the node's; never more than those.
    pub descriptors: Option<u32>,
    pub processes: Option<u32>,
    /// Who set what: "env NAME", "args", "mount PATH", "annotation KEY", "rlimits.NAME",
    /// "resources.NAME".
    pub owners: BTreeMap<String, String>,
}

impl Adjusted {
    /// The plugins that adjusted something.
    pub fn plugins(&self) -> BTreeSet<&str> {
        self.owners.values().map(String::as_str).collect()
    }
}
