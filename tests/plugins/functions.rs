//! What plugins call of CPUs, memory nodes, pods and containers, on a node that is busy.

use std::fs;

use support::{Container, Daemon, Pod, sandbox};
use wasmpod::model::cpuset::CpuSet;

use super::kit::{
    File, Plugin, asks, hooks, pod, probe, rewritten, said, sandbox_in, shows, start,
};
use crate::pinning::kit::{Thread, applied, cpus, run, share, threads};
use crate::support::{self, eventually, eventually_async};

fn has_two_cpus() -> bool {
    let has = std::thread::available_parallelism().unwrap().get() > 1;
    if !has {
        eprintln!("SKIPPED: it needs two CPUs");
    }
    has
}

/// Two that spin, so that each CPU is wanted.
async fn load(pod: &Pod, image: &str) -> [Container; 2] {
    [
        run(pod, ("load-0", image), &["spin"], cpus("")).await,
        run(pod, ("load-1", image), &["spin"], cpus("")).await,
    ]
}

fn all_threads(daemon: &Daemon, of: &Container) -> Vec<Thread> {
    threads(daemon, of).into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_moves_when_it_is_pinned_and_it_is_told_where_it_ran() {
    if !has_two_cpus() {
        return;
    }
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    load(&pod, &image).await;
    let moves = run(&pod, ("moves", &image), &["spin"], cpus("")).await;
    for cpu in [1_usize, 0, 1] {
        let pin = format!("cpu.pin {} {cpu}", moves.id);
        assert_eq!(said(&daemon, &pod, &image, &pin).await, ["done"]);
        for thread in all_threads(&daemon, &moves) {
            assert_eq!(thread.allowed, cpu.to_string(), "{thread:?}");
        }
        assert_eq!(applied(&moves).await.cpuset_cpus, cpu.to_string());
        let before = all_threads(&daemon, &moves)[0].ran;
        eventually("it runs on", || (all_threads(&daemon, &moves)[0].ran > before).then_some(()))
            .await;
        for thread in all_threads(&daemon, &moves).iter().filter(|thread| !thread.ran.is_zero()) {
            assert_eq!(thread.cpu, cpu, "{thread:?}");
        }
        let ran_on = format!("cpu.ran-on {}", moves.id);
        let told = said(&daemon, &pod, &image, &ran_on).await;
        assert_eq!(told, [format!("allowed {cpu} seen {cpu}")]);
    }
    moves.stop(0).await;
    let told = said(&daemon, &pod, &image, &format!("cpu.pin {} 0", moves.id)).await;
    assert!(
        told[0].starts_with("error container ") && told[0].ends_with("not running"),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allocated_leaves_the_shared_pool_until_it_is_released() {
    if !has_two_cpus() {
        return;
    }
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let [one, other] = load(&pod, &image).await;
    let whole = said(&daemon, &pod, &image, "cpu.shared-pool").await.remove(0);
    let (one_id, other_id) = (&one.id, &other.id);
    let calls = format!(
        "cpu.allocate {one_id} 1 ; cpu.shared-pool ; cpu.allocations ; cpu.allocate {other_id} 0-1 \
         ; cpu.allocate {other_id} 8000 ; cpu.allocate {one_id} 0"
    );
    let told = said(&daemon, &pod, &image, &calls).await;
    assert_eq!(told[0], "done");
    assert!(!told[1].split([',', '-']).any(|cpu| cpu == "1"), "{whole} without 1: {}", told[1]);
    assert_eq!(told[2], format!("{one_id} 1"));
    assert_eq!(told[3], format!("error CPU 1 was allocated to container {one_id} by plugin probe"));
    assert!(told[4].starts_with("error CPU 8000 is none of the pool's "), "{}", told[4]);
    // Another wish of the same container stands in place of the first.
    assert_eq!(told[5], "done");
    for thread in all_threads(&daemon, &one) {
        assert_eq!(thread.allowed, "0", "{thread:?}");
    }
    let told =
        said(&daemon, &pod, &image, &format!("cpu.release {one_id} ; cpu.shared-pool")).await;
    assert_eq!(told, ["done".to_owned(), whole]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_has_allocated_nothing() {
    if !has_two_cpus() {
        return;
    }
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let mut config = sandbox("bounded");
    config.linux.get_or_insert_default().resources = Some(cpus("0"));
    let bounded = daemon.run_pod(config).await;
    let one = run(&bounded, ("one", &image), &["idle"], cpus("")).await;
    let calls = format!("cpu.allocate {} 1 ; cpu.allocations", one.id);
    let told = said(&daemon, &pod(&daemon).await, &image, &calls).await;
    assert!(told[0].contains("the pod has 0"), "{told:?}");
    assert_eq!(told[1], "");
    assert_eq!(applied(&one).await.cpuset_cpus, "");
}

#[tokio::test]
async fn what_is_allocated_before_a_container_is_made_is_its_cpuset() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let config = asks("own", &image, ("pre-create-container", "calls cpu.allocate $own 0"));
    let own = pod.create(config).await;
    assert_eq!(applied(&own).await.cpuset_cpus, "0");
}

#[tokio::test]
async fn a_container_that_has_just_started_can_be_pinned() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let mut config = asks("own", &image, ("post-start-container", "calls cpu.pin $own 0"));
    config.args = vec!["idle".to_owned()];
    let own = pod.run(config).await;
    assert_eq!(super::kit::answers(&daemon), ["done"]);
    assert_eq!(applied(&own).await.cpuset_cpus, "0");
    for thread in all_threads(&daemon, &own) {
        assert_eq!(thread.allowed, "0", "{thread:?}");
    }
}

#[tokio::test]
async fn the_machine_is_told_as_it_is() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let told = said(&daemon, &pod(&daemon).await, &image, "cpu.topology ; memory.nodes").await;
    let own = fs::read_to_string("/sys/devices/system/cpu/cpu0/topology/physical_package_id");
    let socket = own.ok().and_then(|id| id.trim().parse::<u32>().ok()).unwrap_or(0);
    assert!(told[0].starts_with(&format!("cpus 0:{socket}:0")), "{told:?}");
    let count = told[0].split(' ').nth(1).unwrap().split(',').count();
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    assert_eq!(count, CpuSet::parse(&online).unwrap().iter().count(), "{told:?}");
    // A kernel without NUMA has none.
    if let Ok(known) = fs::read_to_string("/sys/devices/system/node/node0/meminfo") {
        assert!(told[1].starts_with("0 "), "{told:?}");
        let total: u64 = told[1].split(' ').nth(1).unwrap().parse().unwrap();
        let known = known.lines().find(|line| line.contains("MemTotal")).unwrap();
        assert_eq!(known.split_whitespace().nth(3).unwrap(), (total >> 10).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_containers_memory_comes_from_the_node_that_a_plugin_names() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let spins = run(&pod, ("spins", &image), &["spin"], cpus("")).await;
    let calls = format!("memory.set-mems {0} 0 ; memory.set-mems {0} 77", spins.id);
    let told = said(&daemon, &pod, &image, &calls).await;
    assert_eq!(told[0], "done");
    assert!(told[1].contains("names memory node 77"), "{told:?}");
    assert_eq!(applied(&spins).await.cpuset_mems, "0");
    let folder = all_threads(&daemon, &spins).remove(0).folder;
    eventually("it follows", || match fs::read_to_string(folder.join("numa_maps")) {
        Ok(maps) => maps.contains("bind:0").then_some(()),
        // A kernel without NUMA.
        Err(_) => Some(()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_nobody_asked_for_holds_and_another_plugins_field_is_refused() {
    let daemon = start(&[
        Plugin { name: "other", ..Plugin::default() },
        probe("owner", 5, "do = { pre-create-container = \"memory 67108864\" }"),
    ])
    .await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let spins = run(&pod, ("spins", &image), &["spin"], cpus("")).await;
    let id = &spins.id;
    let calls = format!(
        "containers.update {id} cpu-quota 20000 cpu-period 100000 cpu-shares 512 ; \
         containers.update {id} memory-limit 33554432 ; containers.stats {id}"
    );
    // Both plugins are probes and call; who owns a field is who was first.
    let told = said(&daemon, &pod, &image, &calls).await;
    let by = |plugin: &str| -> Vec<&str> {
        let own = told.iter().filter_map(|line| line.strip_prefix(&format!("{plugin}: ")));
        own.collect()
    };
    let (owner, other) = (by("owner"), by("other"));
    assert_eq!(owner[..2], ["done", "done"], "{told:?}");
    let refused =
        |field: &str| format!("error resources.{field} of container spins was set by plugin owner");
    assert_eq!(other[..2], [refused("cpu-period"), refused("memory-limit")], "{told:?}");
    let now = applied(&spins).await;
    assert_eq!((now.cpu_quota, now.cpu_period, now.cpu_shares), (20_000, 100_000, 512));
    assert_eq!(now.memory_limit_in_bytes, 32 << 20);
    eventually_async("the quota holds", || async {
        (share(&spins, std::time::Duration::from_millis(500)).await < 30.0).then_some(())
    })
    .await;
    let nanos: u64 = owner[2].split(' ').nth(1).unwrap().parse().unwrap();
    assert!(nanos > 0 && !owner[2].ends_with("threads 0"), "{told:?}");
}

#[tokio::test]
async fn a_plugin_sees_and_reaches_the_namespaces_alone_that_it_was_granted() {
    let plugin = Plugin { more: "namespaces = [\"seen\"]", ..Plugin::default() };
    let daemon = start(&[plugin]).await;
    let image = daemon.import("probe").await;
    let seen = daemon.run_pod(sandbox_in("seen", "seen")).await;
    let hidden = daemon.run_pod(sandbox("hidden")).await;
    let other = shows(&hidden, &image, &["idle"]).await;
    let (pod, id) = (&hidden.id, &other.id);
    let calls = format!(
        "pods.list ; pods.get {pod} ; containers.list {pod} ; containers.get {id} ; cpu.pin {id} 0 ; \
         cpu.allocate {id} 0 ; cpu.ran-on {id} ; memory.set-mems {id} 0 ; containers.stats {id} ; \
         containers.update {id} memory-limit 1048576 ; events.emit {pod} Lied ; pods.get {}",
        seen.id
    );
    let told = said(&daemon, &seen, &image, &calls).await;
    assert_eq!(told[0], seen.id);
    assert_eq!((told[1].as_str(), told[2].as_str(), told[3].as_str()), ("none", "", "none"));
    for refused in &told[4..10] {
        assert_eq!(*refused, format!("error container \"{id}\" not found"));
    }
    assert_eq!(told[10], format!("error container \"{pod}\" not found"));
    assert_eq!(told[11], "seen");
    let now = applied(&other).await;
    assert_eq!((now.cpuset_cpus.as_str(), now.memory_limit_in_bytes), ("", 0));
}

#[tokio::test]
async fn a_plugin_that_asks_for_one_namespace_sees_no_other_though_all_are_granted() {
    let (all, one) = (br#""namespaces":["*"]"#, br#""namespaces":["s"]"#);
    let file = File::new(&rewritten("plugin-probe", (all, one)));
    let daemon = Daemon::start_with(&file.configuration(Plugin::default())).await;
    let image = daemon.import("probe").await;
    let hidden = pod(&daemon).await;
    shows(&hidden, &image, &["idle"]).await;
    let own = daemon.run_pod(sandbox_in("s", "own")).await;
    let told = said(&daemon, &own, &image, &format!("pods.list ; pods.get {}", hidden.id)).await;
    assert_eq!(told, [own.id.clone(), "none".to_owned()]);
    assert!(hooks(&daemon, &hidden.id).is_empty(), "{}", daemon.own_log());
}
