//! What adjustments come to: in the guest, in ContainerStatus, in the kernel.

use std::fs;

use serde_json::{Value, json};
use support::{Container, Daemon, Pod, guest, mount};
use wasmpod::proto::cri;

use super::kit::{Plugin, asks, configuration, pod, start};
use crate::pinning::kit::{applied, group_file, has_cgroups, threads};
use crate::support::{self, eventually};

/// Runs the probe adjusted so.
async fn adjusted(pod: &Pod, mut config: cri::ContainerConfig, adjustment: &Value) -> Container {
    let what = format!("adjust {adjustment}");
    config.annotations.insert("plugin-probe.example/pre-create-container".to_owned(), what);
    pod.run(config).await
}

fn does(name: &str, image: &str, words: &[&str]) -> cri::ContainerConfig {
    let mut config = support::container(name, image);
    config.args = words.iter().map(|&word| word.to_owned()).collect();
    config
}

#[tokio::test]
async fn mounts_that_a_plugin_adds_and_removes_are_and_are_not_in_the_guests_files() {
    if !support::root_for("mounts") {
        return;
    }
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["asked", "added", "instead"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("is"), name).unwrap();
    }
    let at = |name: &str| folder.path().join(name);
    let words = "read /gone/is -- read /own/is -- read /added/is -- write /added/x y -- \
                 read /writable/is -- write /writable/x y -- ls /";
    let mut config = does("main", &image, &words.split(' ').collect::<Vec<_>>());
    config.mounts = vec![mount(&at("asked"), "/gone"), mount(&at("asked"), "/own/")];
    let added = |name: &str, path: &str, access: &str| json!({"container-path": path, "host-path": at(name), "access": access});
    let adjustment = json!({
        "remove-mounts": ["/gone/"],
        "add-mounts": [
            added("instead", "/own", "read-write"),
            added("added", "/added/", "read-only"),
            added("added", "/writable", "read-write"),
        ],
    });
    let main = adjusted(&pod(&daemon).await, config, &adjustment).await;
    main.exit().await;
    let told = main.log().text("stdout");
    for line in [
        "read /gone/is: NOENT",
        "read /own/is: ok instead",
        "read /added/is: ok added",
        "write /added/x: ROFS",
        "read /writable/is: ok added",
        "write /writable/x: ok",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    assert!(!told.lines().last().unwrap().contains("gone"), "{told}");
    let mounts = main.status().await.unwrap().mounts;
    let mut paths: Vec<_> = mounts.iter().map(|mount| mount.container_path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/added", "/own", "/writable"]);
}

#[tokio::test]
async fn annotations_and_variables_come_and_go() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let mut config = does("main", &image, &["dump"]);
    config.annotations.insert("told.example/gone".to_owned(), "yes".to_owned());
    config.envs = vec![support::env("GONE", "yes"), support::env("OLD", "old")];
    let adjustment = json!({
        "remove-annotations": ["told.example/gone"],
        "set-annotations": [["told.example/new", "two\nlines"]],
        "remove-env": ["GONE"],
        "set-env": [["OLD", "new"], ["NEW", ""]],
    });
    let main = adjusted(&pod(&daemon).await, config, &adjustment).await;
    main.exit().await;
    let told = main.log().text("stdout");
    for line in ["environment OLD=new", "environment NEW="] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    assert!(!told.contains("GONE"), "{told}");
    let annotations = main.status().await.unwrap().annotations;
    assert_eq!(annotations["told.example/new"], "two\nlines");
    assert!(!annotations.contains_key("told.example/gone"), "{annotations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_the_machine_are_what_the_kernel_and_the_status_say() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let adjustment = json!({"resources": {
        "cpu-shares": 512, "cpu-quota": 40_000, "cpu-period": 200_000,
        "cpuset-cpus": "0", "cpuset-mems": "0", "memory-limit": 33_554_432,
    }});
    let words = ["say", "here", "--", "spin"];
    let main = adjusted(&pod, does("main", &image, &words), &adjustment).await;
    main.says("here").await;
    let told = applied(&main).await;
    assert_eq!((told.cpu_shares, told.cpu_quota, told.cpu_period), (512, 40_000, 200_000));
    assert_eq!((told.cpuset_cpus.as_str(), told.cpuset_mems.as_str()), ("0", "0"));
    assert_eq!(told.memory_limit_in_bytes, 32 << 20);
    let thread = threads(&daemon, &main).into_values().next().unwrap();
    assert_eq!(thread.allowed, "0");
    if let Ok(maps) = fs::read_to_string(thread.folder.join("numa_maps")) {
        assert!(maps.contains("bind:0"), "{maps}");
    }
    if has_cgroups() {
        let file = |one: &str, two: &str| group_file(&thread, one, two).unwrap_or_default();
        let quota = file("cpu.cfs_quota_us", "cpu.max");
        assert!(["40000", "40000 200000"].contains(&quota.as_str()), "{quota}");
        let shares = file("cpu.shares", "cpu.weight");
        assert!(["512", "20"].contains(&shares.as_str()), "{shares}");
    }
    // The limit of memory is one for the guest, not for the status alone.
    let limit = json!({"resources": {"memory-limit": 33_554_432}});
    let grows = adjusted(&pod, does("grows", &image, &["grow", "64"]), &limit).await;
    let status = grows.exit().await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

#[tokio::test]
async fn rlimits_end_what_the_guest_may_have() {
    let toolbox = format!("[exec]\ntoolbox = {:?}\n", guest("toolbox"));
    let daemon = Daemon::start_with(&(configuration(&[Plugin::default()]) + &toolbox)).await;
    let image = daemon.import("probe").await;
    let adjustment = json!({"rlimits": [
        {"kind": "descriptors", "most": 32}, {"kind": "processes", "most": 2},
    ]});
    let words = ["open-many", "/etc/hosts", "5000", "--", "say", "full", "--", "idle"];
    let main = adjusted(&pod(&daemon).await, does("main", &image, &words), &adjustment).await;
    let told = main.says("full").await.text("stdout");
    let opened: usize = told.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!(told.contains("MFILE") && (8..=32).contains(&opened), "{told}");
    let script = "for i in 1 2 3; do sleep 900 & done";
    let tried = main.exec(&["sh", "-c", script], 25).await.unwrap();
    let told = String::from_utf8_lossy(&tried.stderr).into_owned();
    assert!(told.contains("may have 2 processes at once"), "{told}");
}

#[tokio::test]
async fn each_field_without_a_meaning_is_refused_by_its_name() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    for (at, field) in [
        "hooks",
        "rlimits.core",
        "linux.devices",
        "linux.cgroups-path",
        "linux.oom-score-adj",
        "linux.io-priority",
        "linux.seccomp-policy",
        "linux.namespaces",
        "linux.sysctl",
        "linux.scheduler",
        "linux.net-devices",
        "linux.rdt",
        "linux.resources.memory.swap",
        "linux.resources.memory.kernel",
        "linux.resources.cpu.realtime-runtime",
        "linux.resources.hugepage-limits",
        "linux.resources.blockio-class",
        "linux.resources.unified",
        "linux.resources.pids",
        "cdi-devices",
    ]
    .into_iter()
    .enumerate()
    {
        let other = json!({"other": [{"field": field, "value": "1"}]});
        let name = format!("c{at}");
        let what = format!("adjust {other}");
        let config = asks(&name, &image, ("pre-create-container", &what));
        let error = pod.try_create(config).await.unwrap_err();
        assert_eq!(
            error.message(),
            format!(
                "plugin probe: container {name}: {field} has no meaning for a WebAssembly \
                 container (wanted \"1\")"
            )
        );
    }
}

#[tokio::test]
async fn updates_of_others_come_with_a_containers_creation() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let first = pod.run(does("first", &image, &["idle"])).await;
    let update = |id: &str, ignored: bool| json!({"container-id": id, "change": {"cpu-shares": 333}, "ignore-failure": ignored});
    let nobody = "0".repeat(64);
    let passes = json!({"updates": [update(&nobody, true), update(&first.id, false)]});
    adjusted(&pod, does("second", &image, &["idle"]), &passes).await;
    assert_eq!(applied(&first).await.cpu_shares, 333);
    eventually("what failed is told", || {
        daemon.own_log().contains("an update failed").then_some(())
    })
    .await;
    let what = format!("adjust {}", json!({"updates": [update(&nobody, false)]}));
    let config = asks("third", &image, ("pre-create-container", &what));
    let error = pod.try_create(config).await.unwrap_err();
    assert_eq!(error.message(), format!("plugin probe: container \"{nobody}\" not found"));
    let list = cri::ListContainersRequest::default();
    let left = daemon.runtime().list_containers(list).await.unwrap().into_inner().containers;
    assert_eq!(left.len(), 2, "{left:?}");
}
