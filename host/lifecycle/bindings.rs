//! The model in the words of the interface of plugins.

use crate::interface::About;
use crate::model::container::{Container, ContainerState, Exit, Mount, MountAccess};
use crate::model::resources::Resources;
use crate::model::sandbox::{Realm, Sandbox, SandboxState};

pub use crate::interface::{config, containers, cpu, events, kv, log, memory, pods, types};

use types as wit;

/// A container as plugins see it, with what the image says too.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub container: &'a Container,
    /// The program's name first.
    pub argv: &'a [String],
    /// NAME=value.
    pub env: &'a [String],
}

fn pairs(map: &std::collections::BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub fn resources(from: &Resources) -> wit::Resources {
    wit::Resources {
        cpu_period: from.cpu_period,
        cpu_quota: from.cpu_quota,
        cpu_shares: from.cpu_shares,
        memory_limit: from.memory_limit,
        cpuset_cpus: from.cpuset_cpus.clone(),
        cpuset_mems: from.cpuset_mems.clone(),
    }
}

pub fn pod(from: &Sandbox) -> wit::Pod {
    let config = &from.config;
    wit::Pod {
        id: from.id.to_string(),
        name: config.name.name.clone(),
        namespace: config.name.namespace.clone(),
        uid: config.name.uid.clone(),
        attempt: config.name.attempt,
        realm: match from.realm {
            Realm::Kubelet => wit::Realm::Kubelet,
            Realm::Agent => wit::Realm::Agent,
        },
        handler: from.handler.clone(),
        state: match from.state {
            SandboxState::Creating | SandboxState::Ready => wit::PodState::Ready,
            SandboxState::NotReady | SandboxState::Removing => wit::PodState::NotReady,
        },
        hostname: config.hostname.clone(),
        labels: pairs(&config.labels),
        annotations: pairs(&config.annotations),
        addresses: from.addresses.iter().map(ToString::to_string).collect(),
        cgroup_parent: config.cgroup_parent.clone(),
        overhead: config.overhead.as_ref().map(resources),
        resources: config.resources.as_ref().map(resources),
        created_at: from.created_at,
    }
}

/// What a container is told of itself, as JSON.
pub fn about(sandbox: &Sandbox, shown: Shown<'_>) -> Vec<u8> {
    let about = About { pod: pod(sandbox), container: container(shown) };
    // Numbers, texts and lists alone, which JSON has all.
    serde_json::to_vec(&about).unwrap_or_default()
}

fn mount(from: &Mount) -> wit::Mount {
    wit::Mount {
        container_path: from.container_path.clone(),
        host_path: from.host_path.clone(),
        access: match from.access {
            MountAccess::ReadWrite => wit::MountAccess::ReadWrite,
            MountAccess::ReadOnly => wit::MountAccess::ReadOnly,
            MountAccess::RecursiveReadOnly => wit::MountAccess::RecursiveReadOnly,
        },
    }
}

fn exit(from: &Exit) -> wit::Exit {
    wit::Exit {
        code: from.code,
        reason: from.reason.to_string(),
        message: from.message.clone(),
        finished_at: from.finished_at,
    }
}

pub fn container(from: Shown<'_>) -> wit::Container {
    let Shown { container, argv, env } = from;
    let config = &container.config;
    let pair = |pair: &String| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    wit::Container {
        id: container.id.to_string(),
        pod_id: container.sandbox.to_string(),
        name: config.name.name.clone(),
        attempt: config.name.attempt,
        state: match &container.state {
            ContainerState::Creating | ContainerState::Created | ContainerState::Starting => {
                wit::ContainerState::Created
            }
            ContainerState::Running { .. } => wit::ContainerState::Running,
            ContainerState::Exited { .. } | ContainerState::Removing { .. } => {
                wit::ContainerState::Exited
            }
        },
        image: match config.image.user_specified_image.as_str() {
            "" => config.image.image.clone(),
            name => name.to_owned(),
        },
        image_id: container.image_id.clone(),
        args: argv.to_vec(),
        env: env.iter().map(pair).collect(),
        working_dir: config.working_dir.clone(),
        mounts: config.mounts.iter().map(mount).collect(),
        labels: pairs(&config.labels),
        annotations: pairs(&config.annotations),
        resources: resources(&container.resources),
        user: wit::User {
            uid: container.user.uid,
            gid: container.user.gid,
            groups: container.user.groups.clone(),
        },
        readonly_root: config.readonly_rootfs,
        terminal: config.tty,
        log_path: container.log_path.clone(),
        created_at: container.created_at,
        started_at: container.state.started_at(),
        exit: container.state.exit().map(exit),
    }
}
