//! Which security settings wasmpod gives and which it refuses. What cannot be given is refused by the
//! field's name, never ignored; what a kubelet always sends, and what a wasm guest has anyway (no
//! system calls, no capabilities, no /proc of the host), passes.
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
    // `privileged` announces that a container of the pod may be: that one is refused.
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
    if context.privileged {
        return refuse("security_context.privileged", "leave it unset");
    }
    if let Some(capabilities) = &context.capabilities {
        let mut added =
            capabilities.add_capabilities.iter().chain(&capabilities.add_ambient_capabilities);
        if let Some(name) = added.find(|name| !holds_already(name)) {
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
    Err(Error::Refused(format!("{field} cannot be given to a WebAssembly guest: {instead}")))
}

/// Whether every guest may do what a capability is for: listen on ports below 1024 in its pod's
/// network, see its pod's processes (which `kubectl debug` asks for by itself).
fn holds_already(capability: &str) -> bool {
    let name = capability.strip_prefix("CAP_").unwrap_or(capability);
    matches!(name, "NET_BIND_SERVICE" | "SYS_PTRACE")
}

/// A pod's processes see each other, and nobody else's, so POD, CONTAINER and TARGET are the same;
/// guests share no IPC with anybody.
fn namespaces(options: &cri::NamespaceOption) -> Result<()> {
    use NamespaceMode::{Container, Node, Pod, Target};
    let user = options.userns_options.as_ref().map_or(Node.into(), |user| user.mode);
    for (name, number, given) in [
        ("network", options.network, &[Pod, Node][..]),
        ("pid", options.pid, &[Pod, Container, Target]),
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
