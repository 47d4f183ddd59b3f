//! Which values of a manifest's security settings are given: those that ask for no more than a
//! wasm guest has anyway (no system calls, no capabilities, no /proc of the host). Which fields
//! may be there at all is `strict`'s. Pure.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, SeccompProfile, SecurityContext,
};

use crate::error::{Error, Result};
use crate::proto::cri;
use crate::proto::cri::security_profile::ProfileType;

/// Profiles that hold for every guest already.
const PROFILES: [&str; 2] = ["RuntimeDefault", "Unconfined"];

/// Checks a pod's settings; `path` is their field.
pub fn check_pod(context: &PodSecurityContext, path: &str) -> Result<()> {
    seccomp(context.seccomp_profile.as_ref(), path)?;
    app_armor(context.app_armor_profile.as_ref(), path)
}

/// Checks a container's settings; `path` is their field.
pub fn check_container(context: &SecurityContext, path: &str) -> Result<()> {
    if context.privileged == Some(true) {
        return Err(Error::Refused(format!("{path}.privileged: true is not supported")));
    }
    if let Some(mount) = context.proc_mount.as_ref().filter(|mount| *mount != "Default") {
        return Err(Error::Refused(format!(
            "{path}.procMount: {mount} is not supported, a guest has no /proc: use Default"
        )));
    }
    seccomp(context.seccomp_profile.as_ref(), path)?;
    app_armor(context.app_armor_profile.as_ref(), path)
}

fn seccomp(profile: Option<&SeccompProfile>, path: &str) -> Result<()> {
    profile.map_or(Ok(()), |profile| given(&profile.type_, &format!("{path}.seccompProfile.type")))
}

fn app_armor(profile: Option<&AppArmorProfile>, path: &str) -> Result<()> {
    profile.map_or(Ok(()), |profile| given(&profile.type_, &format!("{path}.appArmorProfile.type")))
}

fn given(profile: &str, path: &str) -> Result<()> {
    if PROFILES.contains(&profile) {
        return Ok(());
    }
    let profiles = PROFILES.join(" or ");
    Err(Error::Refused(format!("{path}: {profile} is not supported yet, use {profiles}")))
}

/// The settings as a kubelet hands them on: a container's own before its pod's.
pub fn to_cri(
    container: Option<&SecurityContext>,
    pod: Option<&PodSecurityContext>,
) -> cri::LinuxContainerSecurityContext {
    let seccomp = container
        .and_then(|context| context.seccomp_profile.as_ref())
        .or(pod.and_then(|context| context.seccomp_profile.as_ref()));
    let app_armor = container
        .and_then(|context| context.app_armor_profile.as_ref())
        .or(pod.and_then(|context| context.app_armor_profile.as_ref()));
    let dropped = container.and_then(|context| context.capabilities.as_ref()?.drop.clone());
    cri::LinuxContainerSecurityContext {
        capabilities: dropped
            .map(|drop_capabilities| cri::Capability { drop_capabilities, ..Default::default() }),
        readonly_rootfs: container.and_then(|c| c.read_only_root_filesystem) == Some(true),
        no_new_privs: container.and_then(|c| c.allow_privilege_escalation) == Some(false),
        seccomp: seccomp.map(|profile| profile_to_cri(&profile.type_)),
        apparmor: app_armor.map(|profile| profile_to_cri(&profile.type_)),
        ..Default::default()
    }
}

fn profile_to_cri(profile: &str) -> cri::SecurityProfile {
    let kind = match profile {
        "Unconfined" => ProfileType::Unconfined,
        _ => ProfileType::RuntimeDefault,
    };
    cri::SecurityProfile { profile_type: kind.into(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context(value: serde_json::Value) -> SecurityContext {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_asks_for_no_more_than_wasm_gives_is_handed_on() {
        let restricted = context(json!({
            "allowPrivilegeEscalation": false, "privileged": false, "procMount": "Default",
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            "appArmorProfile": {"type": "Unconfined"}, "readOnlyRootFilesystem": true,
        }));
        check_container(&restricted, "s").unwrap();
        let pod: PodSecurityContext =
            serde_json::from_value(json!({"seccompProfile": {"type": "Unconfined"}})).unwrap();
        check_pod(&pod, "s").unwrap();
        let given = to_cri(Some(&restricted), Some(&pod));
        assert!(given.no_new_privs && given.readonly_rootfs);
        assert_eq!(given.capabilities.unwrap().drop_capabilities, ["ALL"]);
        assert_eq!(given.seccomp.unwrap().profile_type(), ProfileType::RuntimeDefault);
        assert_eq!(given.apparmor.unwrap().profile_type(), ProfileType::Unconfined);
        let of_pod = to_cri(None, Some(&pod));
        assert_eq!(of_pod.seccomp.unwrap().profile_type(), ProfileType::Unconfined);
        assert!(of_pod.capabilities.is_none() && !of_pod.no_new_privs);
    }

    #[test]
    fn what_cannot_be_given_is_named() {
        for (value, says) in [
            (json!({"privileged": true}), "s.privileged: true is not supported"),
            (json!({"procMount": "Unmasked"}), "s.procMount: Unmasked is not supported"),
            (
                json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}),
                "s.seccompProfile.type: Localhost is not supported yet, use RuntimeDefault or",
            ),
            (
                json!({"appArmorProfile": {"type": "Localhost"}}),
                "s.appArmorProfile.type: Localhost is not supported yet",
            ),
        ] {
            let error = check_container(&context(value), "s").unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
