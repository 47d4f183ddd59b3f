//! What plugins keep from each other: one's failure, one's CPUs, what one may see.

use support::{Daemon, eventually};

use super::kit::{
    Plugin, answers, asks, configuration, hooks, pod, probe, said, sandbox_in, shows, start,
};
use crate::support;

#[tokio::test]
async fn one_that_fails_after_the_fact_keeps_nobody_from_hearing_of_it() {
    let fails = "do = { post-start-container = \"refuse no\", stop-pod-sandbox = \"trap\" }";
    let daemon = start(&[probe("first", 1, fails), probe("second", 2, "")]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let main = shows(&pod, &image, &["idle"]).await;
    let count = |of: &str, hook: &str| hooks(&daemon, of).iter().filter(|one| *one == hook).count();
    assert_eq!(count(&main.id, "post-start-container"), 2);
    pod.stop().await;
    assert_eq!(count(&pod.id, "stop-pod-sandbox"), 2);
    let log = daemon.own_log();
    assert!(log.contains("plugin first: post-start-container: no"), "{log}");
}

#[tokio::test]
async fn a_pods_allocations_are_shown_to_those_who_may_see_it() {
    let config = configuration(&[
        probe("all", 1, ""),
        Plugin { more: "namespaces = [\"elsewhere\"]", ..Plugin::default() },
    ]);
    let daemon = Daemon::start_with(&config).await;
    let image = daemon.import("probe").await;
    let config = asks("taker", &image, ("pre-create-container", "take 0"));
    let taker = pod(&daemon).await.create(config).await;
    let elsewhere = daemon.run_pod(sandbox_in("elsewhere", "elsewhere")).await;
    let before = answers(&daemon).len();
    let calls = "calls cpu.allocations ; cpu.allocate $own 0";
    elsewhere.create(asks("asker", &image, ("post-create-container", calls))).await;
    let told = eventually("both have answered", || {
        let told = answers(&daemon).split_off(before);
        (told.len() >= 4).then_some(told)
    })
    .await;
    assert_eq!(told[0], format!("all: {} 0", taker.id));
    assert_eq!(told[2], "");
    assert!(told[3].starts_with("error CPU 0 was allocated"), "{told:?}");
}

#[tokio::test]
async fn cpus_that_one_took_and_broke_down_are_given_back() {
    let daemon = start(&[Plugin { more: "fail = \"open\"", ..Plugin::default() }]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    pod.create(asks("main", &image, ("pre-create-container", "take-and-trap 0"))).await;
    assert_eq!(said(&daemon, &pod, &image, "cpu.allocations").await, [""]);
}

#[tokio::test]
async fn cpus_of_what_ended_while_the_daemon_was_away_are_given_back() {
    let mut daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let go = daemon.path().join("go");
    std::fs::create_dir(&go).unwrap();
    let mut config = asks("main", &image, ("pre-create-container", "take 0"));
    config.mounts = vec![support::mount(&go, "/go")];
    config.args = ["await", "/go/now", "--", "exit", "9"].map(str::to_owned).to_vec();
    let pod = pod(&daemon).await;
    let main = pod.run(config).await;
    assert_eq!(said(&daemon, &pod, &image, "cpu.allocations").await, [format!("{} 0", main.id)]);
    daemon.kill();
    std::fs::write(go.join("now"), "").unwrap();
    daemon.exit_is_in_the_journal(&main.id).await;
    daemon.restart().await;
    assert_eq!(said(&daemon, &pod, &image, "cpu.allocations").await, [""]);
}
