//! Which security settings wasmpod gives and which it refuses. What is not enforced yet is refused
//! by the field's name, never ignored; what a kubelet always sends, and what a wasm guest has
//! anyway (no system calls, no capabilities, no /proc of the host), passes.
// The fields that CRI deprecates have to be refused like the others for as long as it has them.
#![allow(deprecated)]

use super::convert::known;
use crate::error::{Error, Result};
use crate::proto::cri;
use crate::proto::cri::NamespaceMode;
use crate::proto::cri::security_profile::ProfileType;

/// RunPodSandbox's config. `readonly_rootfs` and the user hold: a sandbox has no root file system
/// and no program at all.
pub fn sandbox(config: &cri::PodSandboxConfig) -> Result<()> {
    let Some(linux) = &config.linux else { return Ok(()) };
    if let Some(name) = linux.sysctls.keys().min() {
        return refuse(&format!("sysctls[{name}]"), "remove it");
    }
    let Some(context) = &linux.security_context else { return Ok(()) };
    not_set("security_context.privileged", context.privileged)?;
    if let Some(options) = &context.namespace_options {
        namespaces(options)?;
    }
    selinux(context.selinux_options.as_ref())?;
    profile("security_context.seccomp", context.seccomp.as_ref())?;
    profile("security_context.apparmor", context.apparmor.as_ref())?;
    old_profile("security_context.seccomp_profile_path", &context.seccomp_profile_path)
}

/// CreateContainer's config.
pub fn container(config: &cri::ContainerConfig) -> Result<()> {
    if let Some(device) = config.devices.first() {
        return refuse(&format!("devices[{}]", device.container_path), "remove it");
    }
    if let Some(device) = config.cdi_devices.first() {
        return refuse(&format!("CDI_devices[{}]", device.name), "remove it");
    }
    config.mounts.iter().try_for_each(mount)?;
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let Some(context) = context else { return Ok(()) };
    not_set("security_context.privileged", context.privileged)?;
    if let Some(capabilities) = &context.capabilities {
        let mut added =
            capabilities.add_capabilities.iter().chain(&capabilities.add_ambient_capabilities);
        if let Some(name) = added.next() {
            return refuse(&format!("security_context.capabilities: adding {name}"), "remove it");
        }
    }
    if let Some(options) = &context.namespace_options {
        namespaces(options)?;
    }
    selinux(context.selinux_options.as_ref())?;
    profile("security_context.seccomp", context.seccomp.as_ref())?;
    profile("security_context.apparmor", context.apparmor.as_ref())?;
    old_profile("security_context.seccomp_profile_path", &context.seccomp_profile_path)?;
    old_profile("security_context.apparmor_profile", &context.apparmor_profile)?;
    absolute("security_context.masked_paths", &context.masked_paths)?;
    absolute("security_context.readonly_paths", &context.readonly_paths)
}

fn refuse(field: &str, instead: &str) -> Result<()> {
    Err(Error::Refused(format!("{field} is not enforced by wasmpod yet: {instead}")))
}

fn not_set(field: &str, is_set: bool) -> Result<()> {
    if is_set { refuse(field, "leave it unset") } else { Ok(()) }
}

/// Guests share no process or IPC namespace with anybody, so POD and CONTAINER are the same.
fn namespaces(options: &cri::NamespaceOption) -> Result<()> {
    use NamespaceMode::{Container, Node, Pod};
    let user = options.userns_options.as_ref().map_or(Node.into(), |user| user.mode);
    for (name, number, given) in [
        ("network", options.network, &[Pod, Node][..]),
        ("pid", options.pid, &[Pod, Container]),
        ("ipc", options.ipc, &[Pod, Container]),
        ("userns_options.mode", user, &[Node]),
    ] {
        let field = format!("security_context.namespace_options.{name}");
        let mode: NamespaceMode = known(number, &field)?;
        if !given.contains(&mode) {
            let names: Vec<&str> = given.iter().map(|mode| mode.as_str_name()).collect();
            let instead = format!("use {}", names.join(" or "));
            return refuse(&format!("{field} = {}", mode.as_str_name()), &instead);
        }
    }
    Ok(())
}

fn selinux(options: Option<&cri::SeLinuxOption>) -> Result<()> {
    let Some(options) = options else { return Ok(()) };
    let fields = [&options.user, &options.role, &options.r#type, &options.level];
    match fields.iter().find(|field| !field.is_empty()) {
        Some(field) => {
            refuse(&format!("security_context.selinux_options with {field:?}"), "leave it empty")
        }
        None => Ok(()),
    }
}

/// A guest makes no system calls of its own choice, so the default profile holds already.
fn profile(field: &str, profile: Option<&cri::SecurityProfile>) -> Result<()> {
    let Some(profile) = profile else { return Ok(()) };
    match known(profile.profile_type, field)? {
        ProfileType::RuntimeDefault | ProfileType::Unconfined => Ok(()),
        ProfileType::Localhost => refuse(
            &format!("{field} = Localhost {:?}", profile.localhost_ref),
            "use RuntimeDefault or Unconfined",
        ),
    }
}

/// The deprecated text form of a profile.
fn old_profile(field: &str, text: &str) -> Result<()> {
    match text {
        "" | "unconfined" | "runtime/default" | "docker/default" => Ok(()),
        _ => refuse(&format!("{field} = {text:?}"), "use runtime/default or unconfined"),
    }
}

/// What of them is not in the root, as the host's /proc and /sys never are, needs no cover.
fn absolute(field: &str, paths: &[String]) -> Result<()> {
    match paths.iter().find(|path| !path.starts_with('/') || path.contains('\0')) {
        Some(path) => Err(Error::Invalid(format!("{field} with {path:?}: it is not absolute"))),
        None => Ok(()),
    }
}

/// Read-only and propagation are `convert`'s.
fn mount(mount: &cri::Mount) -> Result<()> {
    let path = &mount.container_path;
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return refuse(&format!("mount {path:?}: uidMappings and gidMappings"), "remove them");
    }
    if let Some(option) = mount.mount_options.first() {
        return refuse(&format!("mount {path:?}: mount_options with {option:?}"), "remove it");
    }
    Ok(())
}

#[cfg(test)]
#[path = "security_tests.rs"]
mod tests;
