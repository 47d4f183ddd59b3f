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
    id(context.run_as_user, path, "runAsUser")?;
    id(context.run_as_group, path, "runAsGroup")?;
    id(context.fs_group, path, "fsGroup")?;
    for &group in context.supplemental_groups.iter().flatten() {
        id(Some(group), path, "supplementalGroups")?;
    }
    let policies = [
        ("fsGroupChangePolicy", &context.fs_group_change_policy, ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &context.supplemental_groups_policy, ["Merge", "Strict"]),
    ];
    for (field, policy, known) in policies {
        if let Some(policy) = policy.as_deref().filter(|policy| !known.contains(policy)) {
            let known = known.join(" or ");
            return Err(Error::Invalid(format!("{path}.{field}: {policy:?} is not {known}")));
        }
    }
    seccomp(context.seccomp_profile.as_ref(), path)?;
    app_armor(context.app_armor_profile.as_ref(), path)
}

/// Checks a container's settings; `path` is their field.
pub fn check_container(context: &SecurityContext, path: &str) -> Result<()> {
    id(context.run_as_user, path, "runAsUser")?;
    id(context.run_as_group, path, "runAsGroup")?;
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

/// Kubernetes' range.
fn id(value: Option<i64>, path: &str, field: &str) -> Result<()> {
    match value.filter(|value| !(0..=i64::from(i32::MAX)).contains(value)) {
        Some(value) => Err(Error::Invalid(format!(
            "{path}.{field}: {value} must be between 0 and 2147483647, inclusive"
        ))),
        None => Ok(()),
    }
}

/// Who an image says that it is.
#[derive(Clone, Debug, Default)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub name: String,
}

/// A kubelet's check of runAsNonRoot, in its words; `who` names pod and container.
pub fn check_non_root(
    container: Option<&SecurityContext>,
    pod: Option<&PodSecurityContext>,
    (image, who): (&ImageUser, &str),
) -> Result<()> {
    let own = container.and_then(|context| context.run_as_non_root);
    if own.or(pod.and_then(|context| context.run_as_non_root)) != Some(true) {
        return Ok(());
    }
    let wrong = match (run_as_user(container, pod), image) {
        (Some(0), _) => "container's runAsUser breaks non-root policy".to_owned(),
        (Some(_), _) => return Ok(()),
        (None, ImageUser { uid: None, name }) if !name.is_empty() => format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify \
             user is non-root"
        ),
        (None, ImageUser { uid: Some(0) | None, .. }) => {
            "container has runAsNonRoot and image will run as root".to_owned()
        }
        (None, _) => return Ok(()),
    };
    Err(Error::Precondition(format!("{wrong} ({who})")))
}

fn run_as_user(
    container: Option<&SecurityContext>,
    pod: Option<&PodSecurityContext>,
) -> Option<i64> {
    let own = container.and_then(|context| context.run_as_user);
    own.or(pod.and_then(|context| context.run_as_user))
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
    image: &ImageUser,
) -> cri::LinuxContainerSecurityContext {
    let user = run_as_user(container, pod);
    // What the image says stands in; one that says nothing is root.
    let of_image = image.uid.or(image.name.is_empty().then_some(0));
    let group = container.and_then(|context| context.run_as_group);
    let group = group.or(pod.and_then(|context| context.run_as_group));
    let mut groups = pod.and_then(|pod| pod.supplemental_groups.clone()).unwrap_or_default();
    groups.extend(pod.and_then(|pod| pod.fs_group));
    let policy = pod.and_then(|pod| pod.supplemental_groups_policy.as_deref());
    let number = |value| cri::Int64Value { value };
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
        run_as_user: user.or(of_image).map(number),
        run_as_username: if user.is_none() { image.name.clone() } else { String::new() },
        run_as_group: group.map(number),
        supplemental_groups: groups,
        supplemental_groups_policy: match policy {
            Some("Strict") => cri::SupplementalGroupsPolicy::Strict,
            _ => cri::SupplementalGroupsPolicy::Merge,
        }
        .into(),
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
        let given = to_cri(Some(&restricted), Some(&pod), &ImageUser::default());
        assert!(given.no_new_privs && given.readonly_rootfs);
        assert_eq!(given.capabilities.unwrap().drop_capabilities, ["ALL"]);
        assert_eq!(given.seccomp.unwrap().profile_type(), ProfileType::RuntimeDefault);
        assert_eq!(given.apparmor.unwrap().profile_type(), ProfileType::Unconfined);
        let of_pod = to_cri(None, Some(&pod), &ImageUser::default());
        assert_eq!(of_pod.seccomp.unwrap().profile_type(), ProfileType::Unconfined);
        assert!(of_pod.capabilities.is_none() && !of_pod.no_new_privs);
    }

    fn pod(value: serde_json::Value) -> PodSecurityContext {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_container_s_user_comes_before_the_pod_s_and_the_image_s() {
        let pod = pod(json!({
            "runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4],
            "supplementalGroupsPolicy": "Strict",
        }));
        check_pod(&pod, "s").unwrap();
        let named = ImageUser { uid: None, name: "app".to_owned() };
        let value = |number: Option<cri::Int64Value>| number.map(|number| number.value);
        let own = context(json!({"runAsUser": 5}));
        let given = to_cri(Some(&own), Some(&pod), &named);
        assert_eq!((value(given.run_as_user), value(given.run_as_group)), (Some(5), Some(2)));
        assert_eq!((given.run_as_username.as_str(), given.supplemental_groups), ("", vec![4, 3]));
        assert_eq!(
            given.supplemental_groups_policy,
            i32::from(cri::SupplementalGroupsPolicy::Strict)
        );
        let given = to_cri(None, None, &named);
        assert_eq!((value(given.run_as_user), given.run_as_username.as_str()), (None, "app"));
        let given = to_cri(None, None, &ImageUser { uid: Some(9), name: String::new() });
        assert_eq!(value(given.run_as_user), Some(9));
        assert_eq!(value(to_cri(None, None, &ImageUser::default()).run_as_user), Some(0));
    }

    #[test]
    fn run_as_non_root_holds_as_a_kubelet_holds_it() {
        let non_root = context(json!({"runAsNonRoot": true}));
        let image = |uid: Option<i64>, name: &str| ImageUser { uid, name: name.to_owned() };
        let said = |container: &SecurityContext, pod: Option<&PodSecurityContext>, image| {
            let checked = check_non_root(Some(container), pod, (&image, "pod: p"));
            checked.map_or_else(|error| error.to_string(), |()| "passes".to_owned())
        };
        let as_root = pod(json!({"runAsUser": 0}));
        for (pod, image, says) in [
            (None, image(Some(7), ""), "passes"),
            (None, image(Some(0), ""), "image will run as root (pod: p)"),
            (None, image(None, ""), "image will run as root"),
            (None, image(None, "app"), "non-numeric user (app)"),
            (Some(&as_root), image(Some(7), ""), "runAsUser breaks non-root policy"),
        ] {
            let said = said(&non_root, pod, image);
            assert!(said.contains(says), "{said}");
        }
        let both = context(json!({"runAsNonRoot": true, "runAsUser": 7}));
        assert_eq!(said(&both, Some(&as_root), image(None, "app")), "passes");
        let free = context(json!({"runAsNonRoot": false}));
        let pod = pod(json!({"runAsNonRoot": true}));
        assert_eq!(said(&free, Some(&pod), image(Some(0), "")), "passes");
    }

    #[test]
    fn ids_and_policies_that_are_none_are_named() {
        for (value, says) in [
            (json!({"runAsUser": -1}), "s.runAsUser: -1 must be between 0 and 2147483647"),
            (json!({"fsGroup": 2147483648_i64}), "s.fsGroup: 2147483648 must be"),
            (json!({"supplementalGroups": [1, -2]}), "s.supplementalGroups: -2 must be"),
            (
                json!({"supplementalGroupsPolicy": "All"}),
                "s.supplementalGroupsPolicy: \"All\" is not Merge or Strict",
            ),
        ] {
            let error = check_pod(&pod(value), "s").unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
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
