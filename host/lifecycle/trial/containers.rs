//! Containers as a fixture's JSON has them, to the model and back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pods::{MADE, Resources, bad_id, digits};
use crate::error::Result;
use crate::model::container as model;
use crate::model::ids::ContainerId;
use crate::model::sandbox::Sandbox;
use crate::model::user;

/// Names and values in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(pub Vec<(String, String)>);

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    Created,
    Running,
    Exited,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    #[default]
    ReadWrite,
    ReadOnly,
    RecursiveReadOnly,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    pub container_path: String,
    #[serde(default)]
    pub host_path: String,
    #[serde(default)]
    pub access: Access,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rlimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Exit {
    pub code: i32,
    /// By default what the code means.
    pub reason: Option<model::Reason>,
    pub message: String,
    pub finished_at: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Container {
    pub id: Option<String>,
    /// Its pod, as NAME or NAMESPACE/NAME.
    pub pod: String,
    pub name: Option<String>,
    pub attempt: u32,
    pub state: Option<ContainerState>,
    pub image: String,
    pub image_id: String,
    pub args: Vec<String>,
    pub env: Pairs,
    pub working_dir: String,
    pub mounts: Vec<Mount>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub resources: Resources,
    pub rlimits: Rlimits,
    pub user: User,
    pub readonly_root: bool,
    pub terminal: bool,
    pub log_path: String,
    pub created_at: Option<i64>,
    pub started_at: i64,
    pub exit: Option<Exit>,
    /// Which plugin set which field before: "env NAME", "args", "resources.cpuset-cpus".
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set_by: BTreeMap<String, String>,
}

impl Container {
    /// `state` where it does not say.
    pub fn model(&self, pod: &Sandbox, state: ContainerState) -> Result<model::Container> {
        let name = self.name.clone().unwrap_or_else(|| "main".to_owned());
        let id = self.id.clone();
        let id = id.unwrap_or_else(|| digits(&format!("container {} {name}", pod.id)));
        let image_id = match self.image_id.as_str() {
            "" => format!("sha256:{}", digits(&format!("image {}", self.image))),
            id => id.to_owned(),
        };
        let mut words = self.args.clone().into_iter();
        let mut adjusted = model::Adjusted { owners: self.set_by.clone(), ..Default::default() };
        (adjusted.descriptors, adjusted.processes) =
            (self.rlimits.descriptors, self.rlimits.processes);
        let resources = self.resources.amounts();
        Ok(model::Container {
            id: ContainerId::parse(&id).ok_or_else(|| bad_id(&id))?,
            sandbox: pod.id.clone(),
            realm: pod.realm,
            config: model::ContainerConfig {
                name: model::ContainerName { name, attempt: self.attempt },
                image: model::ImageSpec { image: self.image.clone(), ..Default::default() },
                command: words.next().into_iter().collect(),
                args: words.collect(),
                working_dir: self.working_dir.clone(),
                env: self.env.0.clone(),
                mounts: self.mounts.iter().map(Mount::model).collect(),
                labels: self.labels.clone(),
                annotations: self.annotations.clone(),
                tty: self.terminal,
                resources: resources.clone(),
                readonly_rootfs: self.readonly_root,
                adjusted: Box::new(adjusted),
                ..Default::default()
            },
            image_ref: image_id.clone(),
            image_id,
            created_at: self.created_at.unwrap_or(MADE),
            state: self.state(state),
            resources,
            log_path: self.log_path.clone(),
            user: Arc::new(user::User {
                uid: self.user.uid,
                gid: self.user.gid,
                groups: self.user.groups.clone(),
                name: String::new(),
            }),
            stop_signal: 15,
        })
    }

    fn state(&self, otherwise: ContainerState) -> model::ContainerState {
        let started_at = self.started_at.max(MADE);
        match self.state.unwrap_or(otherwise) {
            ContainerState::Created => model::ContainerState::Created,
            ContainerState::Running => model::ContainerState::Running { started_at },
            ContainerState::Exited => {
                let Exit { code, reason, message, finished_at } =
                    self.exit.clone().unwrap_or_default();
                let meant = match code {
                    0 => model::Reason::Completed,
                    _ => model::Reason::Error,
                };
                let reason = reason.unwrap_or(meant);
                let finished_at = finished_at.max(MADE);
                let exit = model::Exit { code, reason, message, finished_at };
                model::ContainerState::Exited { started_at, exit }
            }
        }
    }

    /// A container of a pod as it is now; a variable that was set twice has its last value.
    pub fn of(from: &model::Container, pod: &Sandbox) -> Self {
        let config = &from.config;
        let mut env = Vec::<(String, String)>::new();
        for (name, value) in &config.env {
            match env.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1.clone_from(value),
                None => env.push((name.clone(), value.clone())),
            }
        }
        env.retain(|(name, _)| !config.adjusted.removed_env.contains(name));
        Self {
            id: Some(from.id.to_string()),
            pod: format!("{}/{}", pod.config.name.namespace, pod.config.name.name),
            name: Some(config.name.name.clone()),
            attempt: config.name.attempt,
            state: Some(match &from.state {
                model::ContainerState::Running { .. } => ContainerState::Running,
                model::ContainerState::Exited { .. } => ContainerState::Exited,
                _ => ContainerState::Created,
            }),
            image: config.image.image.clone(),
            image_id: from.image_id.clone(),
            args: config.command.iter().chain(&config.args).cloned().collect(),
            env: Pairs(env),
            working_dir: config.working_dir.clone(),
            mounts: config.mounts.iter().map(Mount::of).collect(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            resources: Resources::of(&from.resources),
            rlimits: Rlimits {
                descriptors: config.adjusted.descriptors,
                processes: config.adjusted.processes,
            },
            user: User { uid: from.user.uid, gid: from.user.gid, groups: from.user.groups.clone() },
            readonly_root: config.readonly_rootfs,
            terminal: config.tty,
            log_path: from.log_path.clone(),
            created_at: Some(from.created_at),
            started_at: from.state.started_at(),
            exit: from.state.exit().map(|exit| Exit {
                code: exit.code,
                reason: Some(exit.reason),
                message: exit.message.clone(),
                finished_at: exit.finished_at,
            }),
            set_by: BTreeMap::new(),
        }
    }
}

impl Mount {
    fn model(&self) -> model::Mount {
        model::Mount {
            container_path: self.container_path.clone(),
            host_path: self.host_path.clone(),
            access: match self.access {
                Access::ReadWrite => model::MountAccess::ReadWrite,
                Access::ReadOnly => model::MountAccess::ReadOnly,
                Access::RecursiveReadOnly => model::MountAccess::RecursiveReadOnly,
            },
            propagation: model::Propagation::Private,
            selinux_relabel: false,
            image: None,
        }
    }

    fn of(from: &model::Mount) -> Self {
        Self {
            container_path: from.container_path.clone(),
            host_path: from.host_path.clone(),
            access: match from.access {
                model::MountAccess::ReadWrite => Access::ReadWrite,
                model::MountAccess::ReadOnly => Access::ReadOnly,
                model::MountAccess::RecursiveReadOnly => Access::RecursiveReadOnly,
            },
        }
    }
}
