//! Lifecycle plugins of the node: which, in what order, and what each is granted.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::cpuset::CpuSet;
use crate::model::sandbox::Realm;

/// One plugin. Its name is the table's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginConfig {
    /// The component's file, absolute. A changed file takes the old one's place.
    pub path: PathBuf,
    /// Plugins are asked in this order, those of the same index by their names.
    pub index: u32,
    /// How long a call may take, in milliseconds, its time in the queue included.
    pub deadline_ms: u32,
    pub fail: FailPolicy,
    /// Bytes of memory.
    pub memory: u64,
    /// Host functions: an interface's name or "interface.function"; "*" is all.
    pub functions: Vec<String>,
    /// Fields that it may change: "env", "args", "mounts", "annotations", "rlimits",
    /// "resources.NAME", "updates"; "*" is all.
    pub fields: Vec<String>,
    /// Whose pods it sees; "*" is all.
    pub namespaces: Vec<String>,
    /// Its own, handed to it as JSON.
    pub settings: toml::Table,
}

/// What the hooks may do that pods bring for themselves (annotation `wasmpod.dev/hooks`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PodHooksConfig {
    /// Otherwise pods that bring some are refused.
    pub enabled: bool,
    /// How long a call may take, in milliseconds, its time in the queue included.
    pub deadline_ms: u32,
    /// Bytes of memory; they count as the pod's too.
    pub memory: u64,
    /// As a plugin's. Who writes a pod is trusted with its containers' words, not with the node's
    /// files and CPUs.
    pub functions: Vec<String>,
    pub fields: Vec<String>,
}

impl Default for PodHooksConfig {
    fn default() -> Self {
        let texts = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self {
            enabled: true,
            deadline_ms: 2000,
            memory: 64 << 20,
            functions: texts(&[
                "pods",
                "containers.list",
                "containers.get",
                "containers.stats",
                "cpu.topology",
                "cpu.shared-pool",
                "cpu.allocations",
                "cpu.ran-on",
                "memory.nodes",
                "events",
                "kv",
            ]),
            fields: texts(&["env", "args", "annotations", "rlimits"]),
        }
    }
}

/// The CPUs of each realm's pods, in the kernel's list format: they run on no others, and plugins
/// allocate no others to them. Empty: all that are online, to be allocated as long as no other realm
/// has a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CpusConfig {
    pub kubelet: String,
    pub agent: String,
}

impl CpusConfig {
    pub fn of(&self, realm: Realm) -> &str {
        match realm {
            Realm::Kubelet => &self.kubelet,
            Realm::Agent => &self.agent,
        }
    }

    /// Whether these can be the CPUs of a machine that has those.
    pub fn check(&self, online: &CpuSet) -> Result<()> {
        for (key, list) in [("kubelet", &self.kubelet), ("agent", &self.agent)] {
            if list.is_empty() {
                continue;
            }
            let wrong = |why| Error::Invalid(format!("configuration: cpus.{key}: {why}"));
            let cpus = CpuSet::parse(list).map_err(wrong)?;
            if let Some(absent) = cpus.iter().find(|&cpu| !online.contains(cpu)) {
                return Err(wrong(format!("there is no CPU {absent}, only {online}")));
            }
        }
        Ok(())
    }
}

/// What becomes of a request when a plugin cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailPolicy {
    /// It fails.
    #[default]
    Closed,
    /// It goes on without the plugin.
    Open,
}

impl PluginConfig {
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.into())
    }

    pub fn sees(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|granted| granted == "*" || granted == namespace)
    }
}

impl Default for PluginConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            index: 50,
            deadline_ms: 2000,
            fail: FailPolicy::default(),
            memory: 64 << 20,
            functions: Vec::new(),
            fields: Vec::new(),
            namespaces: vec!["*".to_owned()],
            settings: toml::Table::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_are_none_are_told_with_their_key() {
        let online = CpuSet::parse("0-3").unwrap();
        let config = |kubelet: &str, agent: &str| {
            let config = CpusConfig { kubelet: kubelet.to_owned(), agent: agent.to_owned() };
            config.check(&online).map_err(|error| error.to_string())
        };
        assert_eq!(config("0-1", ""), Ok(()));
        let error = config("", "2,7").unwrap_err();
        assert_eq!(error, "configuration: cpus.agent: there is no CPU 7, only 0-3");
        assert!(config("two", "").unwrap_err().starts_with("configuration: cpus.kubelet: "));
    }
}
