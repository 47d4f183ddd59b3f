//! What is mounted into a container's root.

use serde::{Deserialize, Serialize};

use super::container::ImageSpec;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
}

/// How far "read-only" of a mount reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountAccess {
    #[default]
    ReadWrite,
    /// This mount, not those below it (Kubernetes' readOnly).
    ReadOnly,
    /// Those below it as well (recursiveReadOnly).
    RecursiveReadOnly,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub container_path: String,
    /// Empty for an image.
    pub host_path: String,
    #[serde(default)]
    pub image: Option<ImageMount>,
    pub access: MountAccess,
    pub propagation: Propagation,
    /// Echoed only.
    pub selinux_relabel: bool,
}

/// An image as a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    pub spec: ImageSpec,
    /// Below its root; empty: the root itself.
    pub sub_path: String,
    /// The image's id, once it is found.
    pub id: String,
}

/// Paths that a container may not see, or not write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covers {
    pub masked: Vec<String>,
    pub read_only: Vec<String>,
}
