//! The wire's records and the crate's types, one to the other.

use super::bindings::plugin::wasmpod::lifecycle::types as wire;
use crate::{
    Adjustment, Container, ContainerState, CpuSet, Exit, Image, Mount, MountAccess, Pod, PodState,
    Realm, ResourceChange, Resources, Rlimit, RlimitKind, RuntimeInfo, Setting, Update, User,
};

pub fn all<A, B: From<A>>(values: Vec<A>) -> Vec<B> {
    values.into_iter().map(Into::into).collect()
}

/// The daemon has read it before: what is no list here counts as empty, aloud.
pub fn cpus(text: &str) -> CpuSet {
    text.parse().unwrap_or_else(|error| {
        // Not by `log`, which containers have not.
        eprintln!("wasmpod tells a wrong CPU set: {error}");
        CpuSet::new()
    })
}

impl From<wire::Resources> for Resources {
    fn from(told: wire::Resources) -> Self {
        Self {
            cpu_period: told.cpu_period,
            cpu_quota: told.cpu_quota,
            cpu_shares: told.cpu_shares,
            memory_limit: told.memory_limit,
            cpuset_cpus: cpus(&told.cpuset_cpus),
            cpuset_mems: cpus(&told.cpuset_mems),
        }
    }
}

impl From<wire::Pod> for Pod {
    fn from(told: wire::Pod) -> Self {
        Self {
            id: told.id,
            name: told.name,
            namespace: told.namespace,
            uid: told.uid,
            attempt: told.attempt,
            realm: match told.realm {
                wire::Realm::Kubelet => Realm::Kubelet,
                wire::Realm::Agent => Realm::Agent,
            },
            handler: told.handler,
            state: match told.state {
                wire::PodState::Ready => PodState::Ready,
                wire::PodState::NotReady => PodState::NotReady,
            },
            hostname: told.hostname,
            labels: told.labels.into_iter().collect(),
            annotations: told.annotations.into_iter().collect(),
            addresses: told.addresses,
            cgroup_parent: told.cgroup_parent,
            overhead: told.overhead.map(Into::into),
            resources: told.resources.map(Into::into),
            created_at: told.created_at,
        }
    }
}

impl From<wire::Mount> for Mount {
    fn from(told: wire::Mount) -> Self {
        Self {
            container_path: told.container_path,
            host_path: told.host_path,
            access: match told.access {
                wire::MountAccess::ReadWrite => MountAccess::ReadWrite,
                wire::MountAccess::ReadOnly => MountAccess::ReadOnly,
                wire::MountAccess::RecursiveReadOnly => MountAccess::RecursiveReadOnly,
            },
        }
    }
}

impl From<wire::Container> for Container {
    fn from(told: wire::Container) -> Self {
        Self {
            id: told.id,
            pod_id: told.pod_id,
            name: told.name,
            attempt: told.attempt,
            state: match told.state {
                wire::ContainerState::Created => ContainerState::Created,
                wire::ContainerState::Running => ContainerState::Running,
                wire::ContainerState::Exited => ContainerState::Exited,
            },
            image: told.image,
            image_id: told.image_id,
            args: told.args,
            env: told.env,
            working_dir: told.working_dir,
            mounts: all(told.mounts),
            labels: told.labels.into_iter().collect(),
            annotations: told.annotations.into_iter().collect(),
            resources: told.resources.into(),
            user: User { uid: told.user.uid, gid: told.user.gid, groups: told.user.groups },
            readonly_root: told.readonly_root,
            terminal: told.terminal,
            log_path: told.log_path,
            created_at: told.created_at,
            started_at: told.started_at,
            exit: told.exit.map(|exit| Exit {
                code: exit.code,
                reason: exit.reason,
                message: exit.message,
                finished_at: exit.finished_at,
            }),
        }
    }
}

impl From<wire::Image> for Image {
    fn from(told: wire::Image) -> Self {
        Self { id: told.id, tags: told.tags, digests: told.digests, size: told.size }
    }
}

impl From<wire::RuntimeInfo> for RuntimeInfo {
    fn from(told: wire::RuntimeInfo) -> Self {
        Self {
            name: told.name,
            version: told.version,
            plugin: told.plugin,
            deadline_milliseconds: told.deadline_milliseconds,
        }
    }
}

impl From<ResourceChange> for wire::ResourceChange {
    fn from(change: ResourceChange) -> Self {
        Self {
            cpu_period: change.cpu_period,
            cpu_quota: change.cpu_quota,
            cpu_shares: change.cpu_shares,
            memory_limit: change.memory_limit,
            cpuset_cpus: change.cpuset_cpus.map(|set| set.to_string()),
            cpuset_mems: change.cpuset_mems.map(|set| set.to_string()),
        }
    }
}

impl From<Update> for wire::ContainerUpdate {
    fn from(update: Update) -> Self {
        Self {
            container_id: update.container_id,
            change: update.change.into(),
            ignore_failure: update.ignore_failure,
        }
    }
}

impl From<Mount> for wire::Mount {
    fn from(mount: Mount) -> Self {
        Self {
            container_path: mount.container_path,
            host_path: mount.host_path,
            access: match mount.access {
                MountAccess::ReadWrite => wire::MountAccess::ReadWrite,
                MountAccess::ReadOnly => wire::MountAccess::ReadOnly,
                MountAccess::RecursiveReadOnly => wire::MountAccess::RecursiveReadOnly,
            },
        }
    }
}

impl From<Rlimit> for wire::Rlimit {
    fn from(limit: Rlimit) -> Self {
        Self {
            kind: match limit.kind {
                RlimitKind::Descriptors => wire::RlimitKind::Descriptors,
                RlimitKind::Processes => wire::RlimitKind::Processes,
            },
            most: limit.most,
        }
    }
}

impl From<Setting> for wire::Setting {
    fn from(setting: Setting) -> Self {
        Self { field: setting.field, value: setting.value }
    }
}

impl From<Adjustment> for wire::Adjustment {
    fn from(made: Adjustment) -> Self {
        Self {
            set_env: made.set_env,
            remove_env: made.remove_env,
            args: made.args,
            add_mounts: all(made.add_mounts),
            remove_mounts: made.remove_mounts,
            set_annotations: made.set_annotations,
            remove_annotations: made.remove_annotations,
            rlimits: all(made.rlimits),
            resources: made.resources.map(Into::into),
            updates: all(made.updates),
            other: all(made.other),
        }
    }
}
