//! Where the core's folders lie. `<state>` goes with the node's uptime, `<root>` with its disk.

use std::path::PathBuf;

use crate::config::Config;
use crate::model::ids::{ContainerId, SandboxId};

/// How the names end of files in `<root>/execs`.
pub const COPY_SUFFIX: &str = ".wasm";

/// ```text
/// <state>/wasmpod.redb                    the records
/// <state>/shims/<shim>/                   a shim's socket, log, pid, journal of exits
/// <state>/sandboxes/<sandbox>/etc-layer/  files below every root of the pod
/// <root>/roots/<container>/{upper,work}/  a container's writable root
/// <root>/execs/                           wasm files on their way from a container to its exec
/// ```
#[derive(Clone, Debug)]
pub struct Folders {
    state: PathBuf,
    root: PathBuf,
}

impl Folders {
    pub fn new(config: &Config) -> Self {
        Self { state: config.state.clone(), root: config.root.clone() }
    }

    pub fn database(&self) -> PathBuf {
        self.state.join("wasmpod.redb")
    }

    pub fn shims(&self) -> PathBuf {
        self.state.join("shims")
    }

    pub fn sandboxes(&self) -> PathBuf {
        self.state.join("sandboxes")
    }

    pub fn sandbox(&self, id: &SandboxId) -> PathBuf {
        self.sandboxes().join(id.as_str())
    }

    pub fn etc_layer(&self, id: &SandboxId) -> PathBuf {
        self.sandbox(id).join("etc-layer")
    }

    pub fn roots(&self) -> PathBuf {
        self.root.join("roots")
    }

    pub fn root_of(&self, id: &ContainerId) -> PathBuf {
        self.roots().join(id.as_str())
    }

    pub fn execs(&self) -> PathBuf {
        self.root.join("execs")
    }

    /// A file that is not there yet.
    pub fn exec_copy(&self) -> PathBuf {
        self.execs().join(format!("{}{COPY_SUFFIX}", ContainerId::random()))
    }

    /// Held while a daemon uses `<root>`.
    pub fn lock(&self) -> PathBuf {
        self.root.join("roots.lock")
    }
}
