//! Pods as a fixture's JSON has them, to the model. What a fixture does not say is as it would be of
//! a plain pod.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::model::ids::SandboxId;
use crate::model::resources::Resources as Amounts;
use crate::model::sandbox::{Realm, Sandbox, SandboxConfig, SandboxName, SandboxState};

/// When pods and containers of a fixture were made, where it does not say: nanoseconds since the
/// Unix epoch.
pub const MADE: i64 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_shares: i64,
    pub memory_limit: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
}

impl Resources {
    pub fn of(from: &Amounts) -> Self {
        Self {
            cpu_period: from.cpu_period,
            cpu_quota: from.cpu_quota,
            cpu_shares: from.cpu_shares,
            memory_limit: from.memory_limit,
            cpuset_cpus: from.cpuset_cpus.clone(),
            cpuset_mems: from.cpuset_mems.clone(),
        }
    }

    pub fn amounts(&self) -> Amounts {
        Amounts {
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            memory_limit: self.memory_limit,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            ..Amounts::default()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodState {
    Ready,
    NotReady,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pod {
    pub id: Option<String>,
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
    pub realm: Realm,
    pub handler: String,
    pub state: Option<PodState>,
    pub hostname: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub addresses: Vec<IpAddr>,
    pub cgroup_parent: String,
    pub overhead: Option<Resources>,
    pub resources: Option<Resources>,
    pub created_at: i64,
}

impl Default for Pod {
    fn default() -> Self {
        Self {
            id: None,
            name: "pod".to_owned(),
            namespace: "default".to_owned(),
            uid: String::new(),
            attempt: 0,
            realm: Realm::Kubelet,
            handler: String::new(),
            state: None,
            hostname: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            addresses: Vec::new(),
            cgroup_parent: String::new(),
            overhead: None,
            resources: None,
            created_at: MADE,
        }
    }
}

/// The same 64 digits for the same text.
pub fn digits(of: &str) -> String {
    hex::encode(Sha256::digest(of))
}

pub fn bad_id(id: &str) -> Error {
    Error::Invalid(format!(
        "id {id:?} has not 64 hexadecimal digits in small letters: leave it out to have one made"
    ))
}

impl Pod {
    /// `state` where it does not say.
    pub fn sandbox(&self, state: PodState) -> Result<Sandbox> {
        let named = format!("{}/{}", self.namespace, self.name);
        let id = self.id.clone().unwrap_or_else(|| digits(&format!("pod {named}")));
        let mut uid = self.uid.clone();
        if uid.is_empty() {
            uid = digits(&format!("uid {named}")).chars().take(32).collect();
        }
        Ok(Sandbox {
            id: SandboxId::parse(&id).ok_or_else(|| bad_id(&id))?,
            realm: self.realm,
            handler: self.handler.clone(),
            config: SandboxConfig {
                name: SandboxName {
                    name: self.name.clone(),
                    uid,
                    namespace: self.namespace.clone(),
                    attempt: self.attempt,
                },
                hostname: self.hostname.clone().unwrap_or_else(|| self.name.clone()),
                labels: self.labels.clone(),
                annotations: self.annotations.clone(),
                cgroup_parent: self.cgroup_parent.clone(),
                overhead: self.overhead.as_ref().map(Resources::amounts),
                resources: self.resources.as_ref().map(Resources::amounts),
                ..SandboxConfig::default()
            },
            created_at: self.created_at,
            state: match self.state.unwrap_or(state) {
                PodState::Ready => SandboxState::Ready,
                PodState::NotReady => SandboxState::NotReady,
            },
            shim: None,
            hooks: None,
            addresses: self.addresses.clone(),
        })
    }
}
