//! A pod sandbox: what was asked for, what is recorded, and how its state may change.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::ids::{SandboxId, ShimId};
use super::resources::Resources;

/// Whose pods they are. Each realm lists, stops and collects only its own, because a kubelet
/// ends every pod that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Realm {
    Kubelet,
    Agent,
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kubelet => "kubelet",
            Self::Agent => "agent",
        })
    }
}

/// CRI's PodSandboxMetadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SandboxName {
    pub name: String,
    pub uid: String,
    pub namespace: String,
    pub attempt: u32,
}

impl fmt::Display for SandboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}_{}", self.name, self.namespace, self.uid, self.attempt)
    }
}

/// CRI's NamespaceMode, echoed verbatim (a kubelet remakes a sandbox whose modes differ).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceMode {
    #[default]
    Pod,
    Container,
    Node,
    Target,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    pub network: NamespaceMode,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    pub target_id: String,
    /// CRI's `userns_options.mode`, where that was there at all.
    #[serde(default)]
    pub user: Option<NamespaceMode>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// `protocol` is tcp, udp or sctp; ports are 1-65535, a host port of 0 maps nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub protocol: String,
    pub container_port: u16,
    pub host_port: u16,
    pub host_ip: String,
}

/// What RunPodSandbox asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    pub name: SandboxName,
    pub hostname: String,
    /// Absolute, or empty when no container of the pod logs.
    pub log_directory: String,
    /// Absent: the host's resolv.conf.
    pub dns: Option<Dns>,
    pub port_mappings: Vec<PortMapping>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub cgroup_parent: String,
    /// Whether CRI's `linux.security_context.namespace_options` was there at all: echoed so.
    pub namespaces: Option<Namespaces>,
    pub overhead: Option<Resources>,
    pub resources: Option<Resources>,
}

impl SandboxConfig {
    pub fn wants_host_network(&self) -> bool {
        self.namespaces.as_ref().is_some_and(|n| n.network == NamespaceMode::Node)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxState {
    /// Being made; invisible to lists, and gone when the daemon starts anew.
    Creating,
    Ready,
    NotReady,
    /// Being removed; finished when the daemon finds it at its start.
    Removing,
}

/// What happens to a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxVerb {
    /// That shim holds it, ready for containers.
    Ready(ShimId),
    /// It was stopped, or its shim is gone.
    Stop,
    Remove,
}

impl SandboxState {
    /// The state after `verb`; the error is the state that the verb expects. Stopping and
    /// removing repeat without harm.
    pub fn after(self, verb: &SandboxVerb) -> Result<Self, &'static str> {
        match (self, verb) {
            (_, SandboxVerb::Remove) => Ok(Self::Removing),
            (Self::Creating, SandboxVerb::Ready(_)) => Ok(Self::Ready),
            (_, SandboxVerb::Ready(_)) => Err("creating"),
            (Self::Ready | Self::NotReady, SandboxVerb::Stop) => Ok(Self::NotReady),
            (Self::Removing, SandboxVerb::Stop) => Ok(Self::Removing),
            (Self::Creating, SandboxVerb::Stop) => Err("ready"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::NotReady => "not ready",
            Self::Removing => "removing",
        }
    }
}

impl fmt::Display for SandboxState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The hooks that a pod brought for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnHooks {
    /// The image's id.
    pub image: String,
    /// What they may change of containers.
    pub fields: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    pub id: SandboxId,
    pub realm: Realm,
    /// As asked, "" included: echoed.
    pub handler: String,
    pub config: SandboxConfig,
    /// Nanoseconds since the Unix epoch, never 0.
    pub created_at: i64,
    pub state: SandboxState,
    /// The shim that holds or held it.
    pub shim: Option<ShimId>,
    /// What its network gave it, in the network's order: the first is the pod's IP.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    #[serde(default)]
    pub hooks: Option<OwnHooks>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATES: [SandboxState; 4] = [
        SandboxState::Creating,
        SandboxState::Ready,
        SandboxState::NotReady,
        SandboxState::Removing,
    ];

    #[test]
    fn each_verb_leads_where_the_table_says() {
        let table: [(SandboxVerb, [&str; 4]); 3] = [
            (SandboxVerb::Ready(ShimId::random()), ["ready", "-", "-", "-"]),
            (SandboxVerb::Stop, ["-", "not ready", "not ready", "removing"]),
            (SandboxVerb::Remove, ["removing"; 4]),
        ];
        for (verb, row) in table {
            for (state, says) in STATES.iter().zip(row) {
                assert_eq!(state.after(&verb).map_or("-", |s| s.name()), says, "{state} {verb:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_stopped_is_never_ready_again(verbs in proptest::collection::vec(0usize..3, 0..20)) {
            let all = [SandboxVerb::Ready(ShimId::random()), SandboxVerb::Stop, SandboxVerb::Remove];
            let (mut state, mut stopped) = (SandboxState::Creating, false);
            for verb in verbs {
                let Ok(next) = state.after(&all[verb]) else { continue };
                stopped |= verb != 0;
                prop_assert!(!stopped || next != SandboxState::Ready);
                state = next;
            }
        }
    }
}
