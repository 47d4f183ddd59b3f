//! Containers: ContainerConfig to the model, the model to list items and statuses, filters.

use super::{known, required, resources, sorted, unsorted};
use crate::error::{Error, Result};
use crate::model::container::{
    Container, ContainerConfig, ContainerName, ContainerState, Covers, ImageMount, ImageSpec,
    Mount, MountAccess, Propagation,
};
use crate::model::signal;
use crate::model::user::{GroupsPolicy, UserConfig};
use crate::proto::cri;
use crate::runtime::Filter;

/// Takes a config whose security fields have passed `security::container`.
pub fn config_from_cri(message: cri::ContainerConfig) -> Result<ContainerConfig> {
    let metadata = required(message.metadata, "config.metadata")?;
    if metadata.name.is_empty() {
        return Err(Error::Invalid("config.metadata.name is empty".to_owned()));
    }
    let image = required(message.image, "config.image")?;
    if image.image.is_empty() {
        return Err(Error::Invalid("config.image.image is empty".to_owned()));
    }
    let linux = message.linux.unwrap_or_default();
    if message.stop_signal != 0 && signal::from_cri(message.stop_signal).is_none() {
        return Err(Error::Invalid(format!(
            "config.stop_signal = {} is not known",
            message.stop_signal
        )));
    }
    let context = linux.security_context.unwrap_or_default();
    Ok(ContainerConfig {
        name: ContainerName { name: metadata.name, attempt: metadata.attempt },
        image: image_from_cri(image),
        command: message.command,
        args: message.args,
        working_dir: message.working_dir,
        env: message.envs.into_iter().map(env_from_cri).collect::<Result<_>>()?,
        mounts: message.mounts.into_iter().map(mount_from_cri).collect::<Result<_>>()?,
        labels: sorted(message.labels),
        annotations: sorted(message.annotations),
        log_path: message.log_path,
        stdin: message.stdin,
        stdin_once: message.stdin_once,
        tty: message.tty,
        resources: linux.resources.map(resources::from_cri).unwrap_or_default(),
        readonly_rootfs: context.readonly_rootfs,
        user: Box::new(user_from_cri(&context)?),
        covers: Box::new(Covers {
            masked: context.masked_paths,
            read_only: context.readonly_paths,
        }),
        stop_signal: message.stop_signal,
        adjusted: Box::default(),
    })
}

fn user_from_cri(message: &cri::LinuxContainerSecurityContext) -> Result<UserConfig> {
    let id = |field: &str, value: i64| {
        // The last number means "leave it" to the kernel.
        let id = u32::try_from(value).ok().filter(|&id| id != u32::MAX);
        let wrong = || Error::Invalid(format!("security_context.{field} = {value} is no id"));
        id.ok_or_else(wrong)
    };
    let one = |field: &str, value: &Option<cri::Int64Value>| {
        value.as_ref().map(|given| id(field, given.value)).transpose()
    };
    let groups = message.supplemental_groups.iter();
    let policy = "security_context.supplemental_groups_policy";
    Ok(UserConfig {
        uid: one("run_as_user", &message.run_as_user)?,
        name: message.run_as_username.clone(),
        gid: one("run_as_group", &message.run_as_group)?,
        groups: groups.map(|&group| id("supplemental_groups", group)).collect::<Result<_>>()?,
        policy: match known(message.supplemental_groups_policy, policy)? {
            cri::SupplementalGroupsPolicy::Merge => GroupsPolicy::Merge,
            cri::SupplementalGroupsPolicy::Strict => GroupsPolicy::Strict,
        },
    })
}

fn env_from_cri(message: cri::KeyValue) -> Result<(String, String)> {
    let key = message.key;
    if key.is_empty() || key.contains(['=', '\0']) {
        return Err(Error::Invalid(format!("{key:?} is not a name for an environment variable")));
    }
    match String::from_utf8(message.value) {
        Ok(value) if !value.contains('\0') => Ok((key, value)),
        _ => Err(Error::Refused(format!(
            "environment variable {key} is not UTF-8 text without NUL, which WASI guests need"
        ))),
    }
}

fn mount_from_cri(message: cri::Mount) -> Result<Mount> {
    let image = image_mount_from_cri(&message)?;
    let path = message.container_path;
    let mut paths = vec![("container_path", &path)];
    if image.is_none() {
        paths.push(("host_path", &message.host_path));
    }
    for (name, value) in paths {
        if !value.starts_with('/') || value.contains('\0') {
            return Err(Error::Invalid(format!(
                "mount {path:?}: {name} {value:?} is not an absolute path"
            )));
        }
    }
    let propagation = match known(message.propagation, "mount propagation")? {
        cri::MountPropagation::PropagationPrivate => Propagation::Private,
        cri::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        cri::MountPropagation::PropagationBidirectional => {
            return Err(Error::Refused(format!(
                "mount {path:?}: propagation BIDIRECTIONAL is not given by wasmpod"
            )));
        }
    };
    let access = match (message.readonly, message.recursive_read_only) {
        (false, false) => MountAccess::ReadWrite,
        (true, false) => MountAccess::ReadOnly,
        (true, true) if propagation == Propagation::Private => MountAccess::RecursiveReadOnly,
        (true, true) => {
            return Err(Error::Invalid(format!(
                "mount {path:?}: recursive_read_only needs propagation PRIVATE"
            )));
        }
        (false, true) => {
            return Err(Error::Invalid(format!(
                "mount {path:?}: recursive_read_only needs readonly"
            )));
        }
    };
    Ok(Mount {
        container_path: path,
        host_path: message.host_path,
        image,
        access,
        propagation,
        selinux_relabel: message.selinux_relabel,
    })
}

/// `None`: a host path is to be mounted.
fn image_mount_from_cri(message: &cri::Mount) -> Result<Option<ImageMount>> {
    let sub_path = message.image_sub_path.clone();
    let wrong =
        |what: &str| Err(Error::Invalid(format!("mount {:?}: {what}", message.container_path)));
    match &message.image {
        None if !sub_path.is_empty() => wrong("image_sub_path is given without image"),
        None => Ok(None),
        Some(image) if image.image.is_empty() => wrong("image.image is empty"),
        Some(_) if !message.host_path.is_empty() => wrong("both image and host_path are given"),
        Some(_) if !message.readonly => wrong("an image is mounted with readonly alone"),
        Some(_) if sub_path.contains('\0') => wrong("image_sub_path holds a NUL byte"),
        Some(image) => Ok(Some(ImageMount {
            spec: image_from_cri(image.clone()),
            sub_path,
            id: String::new(),
        })),
    }
}

fn mount_to_cri(mount: &Mount) -> cri::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => cri::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => cri::MountPropagation::PropagationHostToContainer,
    };
    cri::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.clone(),
        readonly: mount.access != MountAccess::ReadWrite,
        recursive_read_only: mount.access == MountAccess::RecursiveReadOnly,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation.into(),
        image: mount.image.as_ref().map(|image| cri::ImageSpec {
            image_ref: image.id.clone(),
            ..image_to_cri(&image.spec)
        }),
        image_sub_path: mount.image.as_ref().map_or(String::new(), |image| image.sub_path.clone()),
        ..Default::default()
    }
}

fn image_from_cri(message: cri::ImageSpec) -> ImageSpec {
    ImageSpec {
        image: message.image,
        annotations: sorted(message.annotations),
        user_specified_image: message.user_specified_image,
        runtime_handler: message.runtime_handler,
        image_ref: message.image_ref,
    }
}

fn image_to_cri(spec: &ImageSpec) -> cri::ImageSpec {
    cri::ImageSpec {
        image: spec.image.clone(),
        annotations: unsorted(&spec.annotations),
        user_specified_image: spec.user_specified_image.clone(),
        runtime_handler: spec.runtime_handler.clone(),
        image_ref: spec.image_ref.clone(),
    }
}

fn name_to_cri(name: &ContainerName) -> cri::ContainerMetadata {
    cri::ContainerMetadata { name: name.name.clone(), attempt: name.attempt }
}

fn state(state: &ContainerState) -> cri::ContainerState {
    match state {
        ContainerState::Creating | ContainerState::Created | ContainerState::Starting => {
            cri::ContainerState::ContainerCreated
        }
        ContainerState::Running { .. } => cri::ContainerState::ContainerRunning,
        ContainerState::Exited { .. } => cri::ContainerState::ContainerExited,
        // It is shown as it was, until it is gone.
        ContainerState::Removing { exit: Some(_), .. } => cri::ContainerState::ContainerExited,
        ContainerState::Removing { started_at: 0, .. } => cri::ContainerState::ContainerCreated,
        ContainerState::Removing { .. } => cri::ContainerState::ContainerRunning,
    }
}

pub fn item(container: &Container) -> cri::Container {
    cri::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.sandbox.to_string(),
        metadata: Some(name_to_cri(&container.config.name)),
        image: Some(image_to_cri(&container.config.image)),
        image_ref: container.image_ref.clone(),
        state: state(&container.state).into(),
        created_at: container.created_at,
        labels: unsorted(&container.config.labels),
        annotations: unsorted(&container.config.annotations),
        image_id: container.image_id.clone(),
    }
}

pub fn status(container: &Container) -> cri::ContainerStatus {
    let (started_at, exit) = (container.state.started_at(), container.state.exit());
    let user = cri::LinuxContainerUser {
        uid: container.user.uid.into(),
        gid: container.user.gid.into(),
        supplemental_groups: container.user.groups.iter().map(|&group| group.into()).collect(),
    };
    cri::ContainerStatus {
        id: container.id.to_string(),
        metadata: Some(name_to_cri(&container.config.name)),
        state: state(&container.state).into(),
        created_at: container.created_at,
        started_at,
        finished_at: exit.map_or(0, |exit| exit.finished_at),
        exit_code: exit.map_or(0, |exit| exit.code),
        image: Some(image_to_cri(&container.config.image)),
        image_ref: container.image_ref.clone(),
        reason: exit.map_or(String::new(), |exit| exit.reason.to_string()),
        message: exit.map_or(String::new(), |exit| exit.message.clone()),
        labels: unsorted(&container.config.labels),
        annotations: unsorted(&container.config.annotations),
        mounts: container.config.mounts.iter().map(mount_to_cri).collect(),
        log_path: container.log_path.clone(),
        resources: Some(cri::ContainerResources {
            linux: Some(resources::to_cri(&container.resources)),
            windows: None,
        }),
        image_id: container.image_id.clone(),
        user: Some(cri::ContainerUser { linux: Some(user) }),
        stop_signal: match container.config.stop_signal {
            0 => signal::to_cri(container.stop_signal),
            asked => asked,
        },
    }
}

pub fn attributes(container: &Container) -> cri::ContainerAttributes {
    cri::ContainerAttributes {
        id: container.id.as_str().to_owned(),
        metadata: Some(name_to_cri(&container.config.name)),
        labels: unsorted(&container.config.labels),
        annotations: unsorted(&container.config.annotations),
    }
}

/// The core's filter, and the one state that is wanted (`None`: any).
pub fn filter_from_cri(
    message: Option<cri::ContainerFilter>,
) -> Result<(Filter, Option<cri::ContainerState>)> {
    let message = message.unwrap_or_default();
    let state = message.state.map(|value| known(value.state, "filter.state")).transpose()?;
    let filter = Filter {
        realm: None,
        id: message.id,
        sandbox: message.pod_sandbox_id,
        labels: sorted(message.label_selector),
    };
    Ok((filter, state))
}

pub fn stats_filter_from_cri(message: Option<cri::ContainerStatsFilter>) -> Filter {
    let message = message.unwrap_or_default();
    Filter {
        realm: None,
        id: message.id,
        sandbox: message.pod_sandbox_id,
        labels: sorted(message.label_selector),
    }
}

/// Whether a container is in the state that a list wants.
pub fn is_in(container: &Container, wanted: Option<cri::ContainerState>) -> bool {
    wanted.is_none_or(|wanted| state(&container.state) == wanted)
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
