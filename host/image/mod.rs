//! Images: what was imported, where its layers lie, which machine code belongs to it. Owns
//! everything under `<root>/images` and `<root>/code`. Knows nothing of containers, CRI or
//! shims.
//!
//! A pull goes: `registry` (who has it, its blobs into the store, checked), then as an import.
//! An import goes: `kind` (what is this file) -> `artifact`, `layout` or `docker` (its blobs
//! into the store, checked) -> `admit`: `assemble` (a folder for each layer), `code` (its programs'
//! machine code, by children) -> `index` (the one step that makes it an image). What was made
//! before a kill is litter that the next opening removes.

mod admit;
mod artifact;
mod assemble;
mod blobs;
mod check;
mod choice;
mod code;
pub mod compile;
pub mod compiler;
mod describe;
mod diff;
mod docker;
mod folders;
mod import;
mod index;
mod interfaces;
mod kind;
mod layer;
mod layout;
mod lookup;
mod mend;
mod name;
mod plan;
mod programs;
pub mod progress;
mod prune;
mod pull;
mod push;
mod registry;
mod rights;
mod running;
mod save;
mod signature;
mod skeleton;
mod source;
mod state;
mod store;
mod tags;
mod toolbox;
mod unpack;
mod warm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use check::Findings;
pub use code::Readiness;
pub use lookup::Search;
pub use name::Name;
pub use prune::{Prune, Pruned};
pub use pull::{Imported, Pull, Pulling};
pub use push::Pushed;
pub use registry::arrival::{Arrival, LayerArrival, Stage};
pub use registry::{Auth, Registry};
pub use store::ImageStore;
pub use tags::Released;
pub use toolbox::Toolbox;
pub use warm::Warmed;

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// "sha256:..." of the image's config blob: CRI's Image.id and image_ref.
    pub id: String,
    /// Full names with tags, sorted ("docker.io/library/app:1"). Empty once every tag has moved
    /// to another image; it stays until it is removed.
    pub tags: Vec<String>,
    /// name@sha256:... of the manifest, sorted.
    pub digests: Vec<String>,
    /// Bytes of all layers as stored, never 0.
    pub size: u64,
    /// Never collected by a kubelet.
    pub pinned: bool,
    pub config: ImageConfig,
    /// Folders, the topmost layer first, the skeleton last. Shared between images, never written
    /// to; a character device 0/0 hides a name of lower ones.
    pub layers: Vec<PathBuf>,
    /// Every wasm file in the image by its path in the root, links to them included.
    pub programs: Vec<ImageProgram>,
}

/// Defaults for containers (OCI image configuration).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// NAME=value.
    pub env: Vec<String>,
    pub working_dir: String,
    /// As written: "", "1000", "app:app".
    pub user: String,
    /// As written: "", "SIGTERM", "15".
    pub stop_signal: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageProgram {
    /// Absolute path in the image's root.
    pub path: String,
    /// "sha256:..." of the wasm file.
    pub digest: String,
    pub form: CodeForm,
    /// The file on the host.
    pub file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodeForm {
    Module,
    Component,
}

/// Machine code ready to be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub path: PathBuf,
    /// Of the machine code file, lower-case hex.
    pub sha256: String,
    /// "sha256:..." of the wasm binary.
    pub module: String,
    pub form: CodeForm,
    /// Bytes of the host's memory that one run takes beside the guest's memories and tables.
    pub footprint: u64,
}

/// Use of the file system that holds images (CRI FilesystemUsage).
#[derive(Clone, Debug)]
pub struct Usage {
    pub mountpoint: PathBuf,
    pub bytes: u64,
    pub inodes: u64,
}

/// An image by name, id or digest.
pub(crate) fn found(found: index::Found) -> Option<Arc<Image>> {
    match found {
        index::Found::One(image) => Some(image),
        index::Found::None | index::Found::Many(_) => None,
    }
}
