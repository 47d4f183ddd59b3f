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
        let limit = "/proc/sys/user/max_user_namespaces";
        let none = std::fs::read_to_string(limit).is_ok_and(|text| text.trim() == "0");
        if none || !Path::new("/proc/self/ns/user").exists() {
            findings.push(
                Finding::error(&kernel, "gives no user namespaces, which a user's pods live in")
                    .mend(format!("as root: echo 10000 > {limit}")),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::fine(&kernel, "has overlays, mounts and namespaces as needed"));
    }
    vec![Report { check: "kernel", findings }]
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_begin_with_their_version() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.12"), Some((5, 12)));
        assert_eq!(version("odd"), None);
    }
}
