//! Who a container is.

use serde::{Deserialize, Serialize};

/// The ids that its files are opened and made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplemental groups, in ascending order, each once.
    pub groups: Vec<u32>,
    /// Empty when the container's /etc/passwd names nobody of this uid.
    pub name: String,
}

/// Where supplemental groups come from besides the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupsPolicy {
    /// The image's /etc/group too.
    #[default]
    Merge,
    Strict,
}

/// Who a container is asked to be; what is not said is the image's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserConfig {
    pub uid: Option<u32>,
    /// Empty: not said.
    pub name: String,
    pub gid: Option<u32>,
    pub groups: Vec<u32>,
    pub policy: GroupsPolicy,
}
