//! The plugins of examples/ on a real node.

use wasmpod::proto::cri;

use super::kit::{Plugin, shows, start};
use crate::pinning::kit as pinning;
use crate::support::{self, Container, Daemon, Pod, eventually_async, sandbox};

async fn with(guest: &str) -> Daemon {
    start(&[Plugin { name: guest, guest, ..Plugin::default() }]).await
}

async fn annotated(daemon: &Daemon, name: &str, annotation: (&str, &str)) -> Pod {
    let mut config = sandbox(name);
    config.annotations.insert(annotation.0.to_owned(), annotation.1.to_owned());
    daemon.run_pod(config).await
}

/// A running container's CPUs or NUMA nodes, by the list format.
async fn numbers(
    container: &Container,
    of: impl Fn(cri::LinuxContainerResources) -> String,
) -> Vec<u32> {
    let status = container.status().await.unwrap();
    let text = of(status.resources.unwrap().linux.unwrap());
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<u32>().unwrap()..=last.parse().unwrap());
    }
    numbers
}

async fn cpus(container: &Container) -> Vec<u32> {
    numbers(container, |linux| linux.cpuset_cpus).await
}

#[tokio::test]
async fn exclusive_cpus_are_nobody_elses_until_their_container_ends() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIPPED: one CPU cannot be shared out");
        return;
    }
    let daemon = with("exclusive-cpus").await;
    let image = daemon.import("probe").await;
    let plain = daemon.run_pod(sandbox("plain")).await;
    let shared = shows(&plain, &image, &["say", "here", "--", "idle"]).await;
    shared.says("here").await;
    let all = cpus(&shared).await;

    let pod = annotated(&daemon, "own", ("exclusive-cpus.example/count", "1")).await;
    let own = shows(&pod, &image, &["say", "here", "--", "idle"]).await;
    own.says("here").await;
    let taken = cpus(&own).await;
    assert_eq!(taken.len(), 1);
    let left: Vec<u32> = all.iter().copied().filter(|cpu| !taken.contains(cpu)).collect();
    assert_eq!(cpus(&shared).await, left);

    let greedy = annotated(&daemon, "greedy", ("exclusive-cpus.example/count", "9999")).await;
    let error = greedy.try_create(support::container("main", &image)).await.unwrap_err();
    assert!(error.message().contains("no 9999 exclusive CPUs"), "{error}");

    own.stop(0).await;
    eventually_async("the shared container has them again", || async {
        (cpus(&shared).await == all).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelets_cpuset_does_not_stand_over_exclusive_cpus() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIPPED: one CPU cannot be shared out");
        return;
    }
    let daemon = with("exclusive-cpus").await;
    let image = daemon.import("probe").await;
    let words = ["say", "here", "--", "spin"];
    let pod = annotated(&daemon, "own", ("exclusive-cpus.example/count", "1")).await;
    let own = shows(&pod, &image, &words).await;
    let shared = shows(&daemon.run_pod(sandbox("plain")).await, &image, &words).await;
    let taken = pinning::applied(&own).await.cpuset_cpus;
    let rest = pinning::applied(&shared).await.cpuset_cpus;
    assert_ne!(taken, rest);
    for (container, has, wanted) in [(&own, &taken, &rest), (&shared, &rest, &taken)] {
        let wanted = cri::LinuxContainerResources { cpu_shares: 512, ..pinning::cpus(wanted) };
        pinning::update(container, wanted).await.unwrap();
        let now = pinning::applied(container).await;
        assert_eq!((&now.cpuset_cpus, now.cpu_shares), (has, 512));
        let threads = pinning::threads(&daemon, container);
        assert!(!threads.is_empty());
        assert!(threads.values().all(|thread| thread.allowed == *has), "{has}: {threads:?}");
    }
}

#[tokio::test]
async fn a_pod_that_asks_for_it_stays_on_one_numa_node() {
    let daemon = with("numa-affinity").await;
    let image = daemon.import("probe").await;
    let pod = annotated(&daemon, "near", ("numa-affinity.example/node", "auto")).await;
    let main = shows(&pod, &image, &["say", "here", "--", "idle"]).await;
    main.says("here").await;
    assert_eq!(numbers(&main, |linux| linux.cpuset_mems).await.len(), 1);
    assert!(!cpus(&main).await.is_empty());
    let pod = annotated(&daemon, "nowhere", ("numa-affinity.example/node", "77")).await;
    let error = pod.try_create(support::container("main", &image)).await.unwrap_err();
    assert!(error.message().contains("numa-affinity.example/node is \"77\""), "{error}");
}

#[tokio::test]
async fn the_audit_goes_on_after_its_daemon_was_killed() {
    let mut daemon = with("audit").await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("audited")).await;
    shows(&pod, &image, &["say", "here", "--", "idle"]).await.says("here").await;
    assert!(daemon.own_log().contains("tests/audited: container started main"));
    daemon.kill();
    daemon.restart().await;
    assert!(daemon.root().join("plugins/audit.redb").is_file());
    let pod = Pod { client: daemon.runtime(), ..pod };
    pod.stop().await;
    pod.remove().await;
    assert!(daemon.own_log().contains("tests/audited: pod removed"));
}

#[tokio::test]
async fn a_plugin_in_c_changes_and_refuses() {
    if !support::guest_folder().join("c-plugin.wasm").exists() {
        eprintln!("SKIPPED: no C compiler for wasm");
        return;
    }
    let daemon = with("c-plugin").await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("plain")).await;
    shows(&pod, &image, &["dump"]).await.says("environment NODE_CPUS=").await;
    let refused = annotated(&daemon, "refused", ("c-plugin.example/refuse", "yes")).await;
    let error = refused.try_create(support::container("main", &image)).await.unwrap_err();
    let words = "pre-create-container: the pod's annotation c-plugin.example/refuse says so";
    assert!(error.message().contains(words), "{error}");
}
