//! What the agent keeps of a pod, and the folders it keeps it in. Plain data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::backoff::Nanos;
use super::manifest::Manifest;

/// Whom a pod lives with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// With its watcher: it ends and goes away with it.
    Attached,
    /// On its own.
    Detached,
}

/// An order to end a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub at: Nanos,
    /// Seconds; `None` is the pod's own terminationGracePeriodSeconds.
    pub grace: Option<i64>,
}

/// A pod's end for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub phase: PodPhase,
    /// Of the first app container that failed, else of the init container that did, else 0.
    pub exit_code: i32,
    /// "" or a word: DeadlineExceeded.
    pub reason: String,
    pub message: String,
}

/// Kubernetes' pod phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl PodPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// The desired state of one pod: what must outlive the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Of this format.
    pub version: u32,
    pub uid: String,
    pub created_at: Nanos,
    pub mode: Mode,
    /// Absolute folder that relative hostPath paths start from.
    pub base_dir: PathBuf,
    pub manifest: Manifest,
    /// Name of an imported image, by the relative or absolute .wasm path that stands for it.
    pub images: BTreeMap<String, String>,
    /// Ids of containers whose postStart hook has begun, so that it never runs twice.
    pub post_started: Vec<String>,
    pub stop: Option<Stop>,
    pub ending: Option<Ending>,
}

impl Record {
    pub const VERSION: u32 = 1;

    /// "name_namespace(uid)", the kubelet's way to write a pod.
    pub fn title(&self) -> String {
        format!("{}_{}({})", self.manifest.name(), self.manifest.namespace(), self.uid)
    }
}

/// Folders of one pod under `<root>/agent/pods/<uid>`.
#[derive(Clone, Debug)]
pub struct PodDirs(PathBuf);

impl PodDirs {
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Log of one attempt, relative to [`PodDirs::logs`].
    pub fn log_path(container: &str, attempt: u32) -> PathBuf {
        Path::new(container).join(format!("{attempt}.log"))
    }

    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    pub fn etc_hosts(&self) -> PathBuf {
        self.0.join("etc-hosts")
    }

    pub fn events(&self) -> PathBuf {
        self.0.join("events.jsonl")
    }

    pub fn container(&self, name: &str) -> PathBuf {
        self.0.join("containers").join(name)
    }
}
