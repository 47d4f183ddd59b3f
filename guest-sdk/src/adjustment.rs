//! What a plugin changes: of a container that is about to be made, and of others' resources.

use serde::{Deserialize, Serialize};

use crate::{CpuSet, Mount};

/// A change of resources. What is none stays as it is. 0 takes a number back to "not said"; a list
/// that is set has to name something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResourceChange {
    /// Microseconds, 1,000 to 1,000,000.
    pub cpu_period: Option<i64>,
    /// Microseconds of CPU time in each period; -1: no limit.
    pub cpu_quota: Option<i64>,
    /// Weight beside others, 2 to 262,144.
    pub cpu_shares: Option<i64>,
    /// Bytes; 0: no limit of its own.
    pub memory_limit: Option<i64>,
    /// Of its pod's CPUs, or of its realm's where the pod has none of its own. Not held against
    /// what plugins allocated.
    pub cpuset_cpus: Option<CpuSet>,
    /// NUMA nodes that the machine has.
    pub cpuset_mems: Option<CpuSet>,
}

impl ResourceChange {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn cpuset_cpus(mut self, cpus: CpuSet) -> Self {
        self.cpuset_cpus = Some(cpus);
        self
    }

    /// NUMA nodes.
    pub fn cpuset_mems(mut self, nodes: CpuSet) -> Self {
        self.cpuset_mems = Some(nodes);
        self
    }

    /// Bytes.
    pub fn memory_limit(mut self, bytes: i64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    pub fn cpu_shares(mut self, shares: i64) -> Self {
        self.cpu_shares = Some(shares);
        self
    }

    /// Microseconds of CPU time in each period of so many microseconds.
    pub fn cpu_quota(mut self, quota: i64, period: i64) -> Self {
        self.cpu_quota = Some(quota);
        self.cpu_period = Some(period);
        self
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The fields that it touches, as a manifest names them.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn fields(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("resources.cpu-period", self.cpu_period.is_some()),
            ("resources.cpu-quota", self.cpu_quota.is_some()),
            ("resources.cpu-shares", self.cpu_shares.is_some()),
            ("resources.memory-limit", self.memory_limit.is_some()),
            ("resources.cpuset-cpus", self.cpuset_cpus.is_some()),
            ("resources.cpuset-mems", self.cpuset_mems.is_some()),
        ];
        all.into_iter().filter(|(_, is_touched)| *is_touched).map(|(field, _)| field)
    }
}

/// A change of a container's resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Update {
    /// The whole id.
    pub container_id: String,
    pub change: ResourceChange,
    /// A failure is logged and nothing else fails of it.
    pub ignore_failure: bool,
}

impl Update {
    pub fn new(container_id: impl Into<String>, change: ResourceChange) -> Self {
        Self { container_id: container_id.into(), change, ignore_failure: false }
    }

    /// A failure is logged and nothing else fails of it.
    pub fn ignore_failure(mut self) -> Self {
        self.ignore_failure = true;
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RlimitKind {
    /// Descriptors (RLIMIT_NOFILE).
    Descriptors,
    /// Processes of the container (RLIMIT_NPROC).
    Processes,
}

/// How many of a kind a container may have at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rlimit {
    pub kind: RlimitKind,
    /// Above the node's own limit it is held down to that, without an error.
    pub most: u64,
}

/// A field of a container that WebAssembly has no use for, by NRI's name for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Setting {
    /// Such as "linux.devices".
    pub field: String,
    /// For the error that names it.
    pub value: String,
}

/// How a container that is about to be created differs from what was asked for. Two plugins that
/// set or remove the same variable, annotation, mount path or field are an error that names both.
/// Of each plugin all of it is done or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Adjustment {
    /// In place of what was there. Removals come first.
    pub set_env: Vec<(String, String)>,
    /// Variables' names, the image's too.
    pub remove_env: Vec<String>,
    /// Instead of all arguments, the program's name first.
    pub args: Option<Vec<String>>,
    /// Of the host's paths; in place of what is mounted there.
    pub add_mounts: Vec<Mount>,
    /// Paths in the container, absolute.
    pub remove_mounts: Vec<String>,
    /// In place of what was there. The kubelet's own ("io.kubernetes.") are refused.
    pub set_annotations: Vec<(String, String)>,
    /// Keys.
    pub remove_annotations: Vec<String>,
    pub rlimits: Vec<Rlimit>,
    /// What [`cpu::allocate`](crate::cpu::allocate) gave the container is its cpuset without being
    /// said.
    pub resources: Option<ResourceChange>,
    /// Of other containers, once this one is made. One that fails and is not ignored undoes it: its
    /// creation fails.
    pub updates: Vec<Update>,
    /// Refused by name: whoever ports a plugin of NRI's learns so what has no meaning here.
    pub other: Vec<Setting>,
}

impl Adjustment {
    /// Nothing is changed.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set_env.push((name.into(), value.into()));
        self
    }

    pub fn without_env(mut self, name: impl Into<String>) -> Self {
        self.remove_env.push(name.into());
        self
    }

    /// Instead of all arguments, the program's name first.
    pub fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args = Some(args.into_iter().map(Into::into).collect());
        self
    }

    pub fn mount(mut self, mount: Mount) -> Self {
        self.add_mounts.push(mount);
        self
    }

    /// By its path in the container.
    pub fn without_mount(mut self, container_path: impl Into<String>) -> Self {
        self.remove_mounts.push(container_path.into());
        self
    }

    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set_annotations.push((key.into(), value.into()));
        self
    }

    pub fn without_annotation(mut self, key: impl Into<String>) -> Self {
        self.remove_annotations.push(key.into());
        self
    }

    pub fn rlimit(mut self, kind: RlimitKind, most: u64) -> Self {
        self.rlimits.push(Rlimit { kind, most });
        self
    }

    /// In place of what was said of them before.
    pub fn resources(mut self, change: ResourceChange) -> Self {
        self.resources = Some(change);
        self
    }

    pub fn cpuset_cpus(self, cpus: CpuSet) -> Self {
        self.change(|change| change.cpuset_cpus(cpus))
    }

    /// NUMA nodes.
    pub fn cpuset_mems(self, nodes: CpuSet) -> Self {
        self.change(|change| change.cpuset_mems(nodes))
    }

    /// Bytes.
    pub fn memory_limit(self, bytes: i64) -> Self {
        self.change(|change| change.memory_limit(bytes))
    }

    pub fn cpu_shares(self, shares: i64) -> Self {
        self.change(|change| change.cpu_shares(shares))
    }

    /// Microseconds of CPU time in each period of so many microseconds.
    pub fn cpu_quota(self, quota: i64, period: i64) -> Self {
        self.change(|change| change.cpu_quota(quota, period))
    }

    /// Of another container, once this one is made.
    pub fn update(mut self, update: Update) -> Self {
        self.updates.push(update);
        self
    }

    pub fn updates(mut self, updates: impl IntoIterator<Item = Update>) -> Self {
        self.updates.extend(updates);
        self
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn change(mut self, by: impl FnOnce(ResourceChange) -> ResourceChange) -> Self {
        self.resources = Some(by(self.resources.unwrap_or_default()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_gathered() {
        let made = Adjustment::new().cpuset_cpus([1].into()).cpu_quota(50_000, 100_000);
        let change = made.resources.unwrap();
        assert_eq!(change.cpuset_cpus, Some([1].into()));
        assert_eq!((change.cpu_quota, change.cpu_period), (Some(50_000), Some(100_000)));
        assert!(Adjustment::new().is_empty());
    }

    #[test]
    fn json_has_the_interfaces_names() {
        let made = Adjustment::new().env("A", "b").cpuset_cpus([0, 1].into());
        let json = serde_json::to_value(&made).unwrap();
        assert_eq!(json["set-env"], serde_json::json!([["A", "b"]]));
        assert_eq!(json["resources"]["cpuset-cpus"], "0-1");
        assert_eq!(serde_json::from_value::<Adjustment>(json).unwrap(), made);
    }
}
