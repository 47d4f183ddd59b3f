//! Pods, containers and images as hooks show them. Their JSON is the interface's, with its names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::CpuSet;

/// Whose pods they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Realm {
    #[default]
    Kubelet,
    /// Those of `wasmpod run`.
    Agent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodState {
    /// Its containers may be created and started. Also while `run_pod_sandbox` is asked.
    #[default]
    Ready,
    /// It was stopped, or its process has gone.
    NotReady,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
    /// Also while `pre_create_container` and `validate_container` are asked.
    #[default]
    Created,
    Running,
    Exited,
}

/// CRI's LinuxContainerResources. 0 and empty mean "not said".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Resources {
    /// Microseconds, 1,000 to 1,000,000.
    pub cpu_period: i64,
    /// Microseconds of CPU time in each period, 1,000 or more; -1: no limit.
    pub cpu_quota: i64,
    /// Weight beside others, 2 to 262,144.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory_limit: i64,
    /// The CPUs that it may be on.
    pub cpuset_cpus: CpuSet,
    /// The NUMA nodes that its memory is taken from.
    pub cpuset_mems: CpuSet,
}

/// A pod sandbox. Times are nanoseconds since the Unix epoch, 0 for what has not happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pod {
    /// 64 hexadecimal digits.
    pub id: String,
    pub name: String,
    pub namespace: String,
    pub uid: String,
    /// How often its sandbox was made before.
    pub attempt: u32,
    pub realm: Realm,
    /// The RuntimeClass handler; empty is the default one.
    pub handler: String,
    pub state: PodState,
    /// As it was asked for; may be empty.
    pub hostname: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Of its network namespace; empty on the host's network and before it is attached.
    pub addresses: Vec<String>,
    /// As it was asked for; may be empty.
    pub cgroup_parent: String,
    /// What the RuntimeClass adds to the containers'; none where it was not told.
    pub overhead: Option<Resources>,
    /// Of all its containers together; none where it was not told.
    pub resources: Option<Resources>,
    /// When its making began.
    pub created_at: i64,
}

impl Pod {
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountAccess {
    #[default]
    ReadWrite,
    ReadOnly,
    /// Mounts below it too.
    RecursiveReadOnly,
}

/// A file or folder of the host, or an image's, in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mount {
    /// Absolute.
    pub container_path: String,
    /// Absolute; empty for a volume that is an image.
    pub host_path: String,
    pub access: MountAccess,
}

/// What a container's files are opened and made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplemental ones, ascending, each once.
    pub groups: Vec<u32>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exit {
    /// 0-255; 128 for a failed start, 134 for a trap, 137 for a kill, 255 for a lost state.
    pub code: i32,
    /// Completed, Error, OOMKilled, StartError or Unknown.
    pub reason: String,
    /// For people, such as a trap's backtrace; may be empty.
    pub message: String,
    pub finished_at: i64,
}

/// A container. Times are nanoseconds since the Unix epoch, 0 for what has not happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Container {
    /// 64 hexadecimal digits. Known before it is created.
    pub id: String,
    pub pod_id: String,
    /// Within its pod.
    pub name: String,
    /// How often it was made before.
    pub attempt: u32,
    pub state: ContainerState,
    /// As the pod names it.
    pub image: String,
    /// "sha256:" and 64 hexadecimal digits.
    pub image_id: String,
    /// The program's name first; the image's where the pod says none.
    pub args: Vec<String>,
    /// Names, each once, and values: the image's too, and PATH and HOSTNAME.
    pub env: Vec<(String, String)>,
    /// As the pod says; empty where the image does.
    pub working_dir: String,
    /// Those that the pod asks for, or a plugin; not the root.
    pub mounts: Vec<Mount>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// As they are now.
    pub resources: Resources,
    pub user: User,
    /// Whether its root cannot be written to.
    pub readonly_root: bool,
    /// Whether its streams are a terminal.
    pub terminal: bool,
    /// Absolute; empty when nothing is logged.
    pub log_path: String,
    pub created_at: i64,
    pub started_at: i64,
    /// Once it has exited.
    pub exit: Option<Exit>,
}

impl Container {
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// An environment variable's value.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An image as it was pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Image {
    /// "sha256:" and 64 hexadecimal digits.
    pub id: String,
    /// Names with a tag, such as "registry.example/app:1".
    pub tags: Vec<String>,
    /// Names with a digest, such as "registry.example/app@sha256:...".
    pub digests: Vec<String>,
    /// Bytes.
    pub size: u64,
}

/// Who runs the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuntimeInfo {
    /// "wasmpod".
    pub name: String,
    pub version: String,
    /// The plugin's name in the node's configuration.
    pub plugin: String,
    /// How long each call may take, time in the queue included.
    pub deadline_milliseconds: u32,
}
