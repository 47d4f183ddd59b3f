use super::*;
use crate::model::cpu_time::Quota;

/// A hierarchy as files: what the kernel would do with what is written is not there.
fn made(version: Version, controllers: &str) -> (tempfile::TempDir, Option<Groups>) {
    let base = tempfile::tempdir().unwrap();
    let (root, line) = match version {
        Version::One => (base.path().join("cpu,cpuacct"), "2:cpu,cpuacct:/wasmpod/s1"),
        Version::Two => (base.path().to_owned(), "0::/wasmpod/s1"),
    };
    let shim = root.join("wasmpod/s1");
    fs::create_dir_all(&shim).unwrap();
    fs::write(shim.join("tasks"), "").unwrap();
    fs::write(shim.join("cgroup.controllers"), controllers).unwrap();
    let groups = Groups::among(&format!("9:cpuset:/x\n{line}\n"), base.path());
    (base, groups)
}

#[test]
fn a_group_stands_beside_the_shims_in_version_1_and_below_it_in_version_2() {
    let (base, groups) = made(Version::One, "");
    assert_eq!(groups.unwrap().folder("c"), base.path().join("cpu,cpuacct/wasmpod/s1.c"));
    let (base, groups) = made(Version::Two, "cpuset cpu io");
    assert_eq!(groups.unwrap().folder("c"), base.path().join("wasmpod/s1/c"));
    // An empty tree of version 2 beside version 1's controllers.
    assert!(made(Version::Two, "").1.is_none());
}

#[test]
fn only_a_shims_own_group_is_used() {
    for (path, is) in [
        ("/wasmpod/0123456789abcdef", true),
        ("/kubepods/pod1/wasmpod-abc", true),
        ("/", false),
        ("/wasmpod", false),
        ("/system.slice/wasmpod.service", false),
    ] {
        assert_eq!(is_wasmpods(Path::new(path)), is, "{path}");
    }
}

#[test]
fn what_is_written_is_what_was_asked_and_a_lifted_quota_comes_back() {
    let (_base, groups) = made(Version::One, "");
    let groups = Arc::new(groups.unwrap());
    let folder = groups.folder("c");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("tasks"), "").unwrap();
    let time = CpuTime { quota: Some(Quota { micros: 20_000, period: 50_000 }), shares: Some(7) };
    let group = groups.make("c", time).unwrap();
    let says = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(says("cpu.shares"), "7");
    assert_eq!(
        (says("cpu.cfs_quota_us"), says("cpu.cfs_period_us")),
        ("20000".into(), "50000".into())
    );
    let lifts = (group.lift(), group.lift());
    assert_eq!(says("cpu.cfs_quota_us"), "-1");
    drop(lifts.0);
    assert_eq!(says("cpu.cfs_quota_us"), "-1");
    group.set(CpuTime { quota: Some(Quota { micros: 9_000, period: 50_000 }), ..time }).unwrap();
    assert_eq!(says("cpu.cfs_quota_us"), "-1");
    drop(lifts.1);
    assert_eq!(says("cpu.cfs_quota_us"), "9000");
}

#[test]
fn version_2_has_the_same_in_its_own_words() {
    let (_base, groups) = made(Version::Two, "cpu");
    let groups = Arc::new(groups.unwrap());
    let folder = groups.folder("c");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("cgroup.threads"), "").unwrap();
    let time = CpuTime { quota: Some(Quota { micros: 20_000, period: 50_000 }), shares: Some(2) };
    let group = groups.make("c", time).unwrap();
    let says = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!((says("cpu.max"), says("cpu.weight")), ("20000 50000".into(), "1".into()));
    assert_eq!(says("cgroup.type"), "threaded");
    group.set(CpuTime { quota: None, shares: Some(262_144) }).unwrap();
    assert_eq!((says("cpu.max"), says("cpu.weight")), ("max 100000".into(), "10000".into()));
}

#[test]
fn threads_of_one_process_stand_in_groups_of_version_2() {
    // The kernel's own rules, where there is a tree to try them on; without a controller.
    let base = ["/sys/fs/cgroup/unified", BASE].map(Path::new);
    let Some(root) = base.into_iter().find(|root| root.join("cgroup.threads").exists()) else {
        eprintln!("SKIPPED: no cgroup v2 tree");
        return;
    };
    let own = root.join(format!("wasmpod-test-{}", std::process::id()));
    if fs::create_dir(&own).is_err() {
        eprintln!("SKIPPED: the cgroup v2 tree is not ours");
        return;
    }
    let inner = own.join("c");
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let outcome = (|| {
        fs::write(own.join("cgroup.procs"), child.id().to_string())?;
        fs::create_dir(&inner)?;
        fs::write(inner.join("cgroup.type"), "threaded")?;
        fs::write(inner.join("cgroup.threads"), child.id().to_string())?;
        fs::read_to_string(format!("/proc/{}/cgroup", child.id()))
    })();
    child.kill().unwrap();
    child.wait().unwrap();
    remove(&inner);
    remove(&own);
    let outcome: std::io::Result<String> = outcome;
    assert!(outcome.unwrap().lines().any(|line| line.ends_with("/c")));
    assert!(!own.exists());
}
