//! Whether this kernel gives what containers need.

use std::path::Path;

use super::{Patient, Report};
use crate::model::finding::Finding;

pub async fn check(_: &Patient) -> Vec<Report> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = release.trim().to_owned();
    let mut findings = Vec::new();
    let systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !systems.split_whitespace().any(|word| word == "overlay") {
        let mend = "load it: `modprobe overlay`";
        findings.push(Finding::error(&kernel, "has no overlay file system").mend(mend));
    }
    match version(&kernel) {
        // The new mount API's mount_setattr and unprivileged overlays.
        Some(version) if version < (5, 12) => findings.push(
            Finding::error(&kernel, "is older than 5.12, which containers' mounts need")
                .mend("use a newer kernel"),
        ),
        _ => {}
    }
    if !rustix::process::geteuid().is_root() {
        if !Path::new("/proc/self/ns/user").exists() {
            findings.push(
                Finding::error(&kernel, "has no user namespaces, which a user's pods live in")
                    .mend("use a kernel with CONFIG_USER_NS, or run the daemon as root"),
            );
        }
        findings.extend(switches(Path::new("/proc/sys")));
    }
    if findings.is_empty() {
        findings.push(Finding::fine(&kernel, "has overlays, mounts and namespaces as needed"));
    }
    vec![Report { check: "kernel", findings }]
}

/// What an administrator or a distribution has switched off for ordinary users.
fn switches(settings: &Path) -> Vec<Finding> {
    let is = |name: &str, value: &str| {
        let file = settings.join(name.replace('.', "/"));
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == value)
    };
    let mend = |setting: &str| {
        let kept = "/etc/sysctl.d/90-wasmpod.conf";
        format!("as root: sysctl -w {setting}, and the same line in {kept} for the next boot")
    };
    let mut findings = Vec::new();
    for (name, setting) in [
        ("user.max_user_namespaces", "user.max_user_namespaces=10000"),
        ("kernel.unprivileged_userns_clone", "kernel.unprivileged_userns_clone=1"),
    ] {
        if is(name, "0") {
            let what = "is 0: users may make no user namespaces, which their pods live in";
            findings.push(Finding::error(name, what).mend(mend(setting)));
        }
    }
    let name = "kernel.apparmor_restrict_unprivileged_userns";
    if is(name, "1") {
        let what = "is 1: in a user namespace a user may mount nothing, which their pods need";
        findings.push(Finding::error(name, what).mend(format!(
            "{}; or give this program an AppArmor profile with `userns,`",
            mend("kernel.apparmor_restrict_unprivileged_userns=0")
        )));
    }
    // Pods have virtual loopback addresses then, so this is no error.
    let name = "user.max_net_namespaces";
    if is(name, "0") {
        let what = "is 0: pods share the host's network, each with a loopback address of its own";
        let setting = mend("user.max_net_namespaces=10000");
        findings.push(Finding::warning(name, what).mend(setting));
    }
    findings
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_keeps_users_from_pods_is_named_with_its_cure() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["user", "kernel"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let set = |name: &str, value: &str| {
            std::fs::write(folder.path().join(name), format!("{value}\n")).unwrap();
        };
        set("user/max_user_namespaces", "96365");
        assert!(switches(folder.path()).is_empty());
        set("user/max_user_namespaces", "0");
        set("user/max_net_namespaces", "0");
        set("kernel/unprivileged_userns_clone", "0");
        set("kernel/apparmor_restrict_unprivileged_userns", "1");
        let found = switches(folder.path());
        let subjects: Vec<_> = found.iter().map(|finding| finding.subject.as_str()).collect();
        assert_eq!(
            subjects,
            [
                "user.max_user_namespaces",
                "kernel.unprivileged_userns_clone",
                "kernel.apparmor_restrict_unprivileged_userns",
                "user.max_net_namespaces",
            ]
        );
        assert!(found.iter().all(|finding| finding.mend.contains(&finding.subject)));
    }

    #[test]
    fn releases_begin_with_their_version() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.12"), Some((5, 12)));
        assert_eq!(version("odd"), None);
    }
}
