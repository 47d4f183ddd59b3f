//! Hooks, and how a pod is ended.

use rustix::process::Signal;

use super::kit::{in_order, pod, quick_daemon, run, run_detached, start};
use crate::support;

const VOLUME: &str = "volumes: [{name: v, hostPath: {path: v, type: DirectoryOrCreate}}]";
const MOUNT: &str = "volumeMounts: [{name: v, mountPath: /v}]";

#[tokio::test]
async fn post_start_runs_after_the_start_and_pre_stop_before_the_end() {
    let daemon = quick_daemon().await;
    let spec = format!(
        "terminationGracePeriodSeconds: 20, {VOLUME}, containers: [{{name: a, image: PROBE, args: \
         [await, /v/hooked, --, say, hooked, --, idle], lifecycle: {{postStart: {{exec: {{command: \
         [/probe.wasm, write, /v/hooked, x]}}}}, preStop: {{exec: {{command: [/probe.wasm, write, \
         /v/stopping, y]}}}}}}, {MOUNT}}}]"
    );
    let running = start(&daemon, &pod("hooks", &spec));
    running.until_told("hooked\n").await;
    assert!(!daemon.path().join("v/stopping").exists());
    running.signal(Signal::INT);
    let (code, told) = running.ended().await;
    assert_eq!(std::fs::read(daemon.path().join("v/stopping")).unwrap(), b"y", "{told}");
    assert_eq!(code, 143, "{told}");
    in_order(
        &told,
        &[
            "Pulled container a",
            "Created container a",
            "Started container a",
            "Normal PostStartHook container a: PostStartHook succeeded",
            "Normal Killing container a: Stopping container a",
            "Container exited with code 143",
        ],
    );
    // The pod went with its owner, and its name is free.
    let listed = daemon.cli(&["ps"]).await;
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("hooks"));
}

#[tokio::test]
async fn a_failed_post_start_kills_its_container() {
    let daemon = quick_daemon().await;
    let spec = "restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [{name: a, \
                image: PROBE, args: [idle], lifecycle: {postStart: {exec: {command: [/probe.wasm, \
                say, broken, --, exit, '9']}}}}]";
    let ran = run(&daemon, &pod("bad-hook", spec)).await;
    assert_ne!(ran.code(), 0);
    ran.told_in_order(&[
        "Started container a",
        "Warning FailedPostStartHook container a: PostStartHook failed: exit code 9: broken",
        "Normal Killing container a: FailedPostStartHook",
        "Container exited with code",
    ]);
}

#[tokio::test]
async fn a_failed_pre_stop_is_told_of_and_stops_nothing_from_ending() {
    let daemon = quick_daemon().await;
    let spec = "containers: [{name: a, image: PROBE, args: [say, up, --, idle], lifecycle: {preStop: \
                {exec: {command: [/probe.wasm, exit, '2']}}}}]";
    let running = start(&daemon, &pod("bad-end", spec));
    running.until_told("up\n").await;
    running.signal(Signal::TERM);
    let (_, told) = running.ended().await;
    in_order(&told, &["Killing", "FailedPreStopHook container a: PreStopHook failed: exit code 2"]);
}

#[tokio::test]
async fn a_second_interrupt_kills_at_once() {
    let daemon = quick_daemon().await;
    let manifest = pod(
        "stubborn",
        "terminationGracePeriodSeconds: 600, containers: [{name: a, image: PROBE, args: [say, up, \
         --, idle]}]",
    )
    .replace("{name: stubborn}", "{name: stubborn, annotations: {wasmpod.dev/stop: grace}}");
    let running = start(&daemon, &manifest);
    running.until_told("up\n").await;
    running.signal(Signal::INT);
    running.until_told("Killing").await;
    running.signal(Signal::INT);
    let (code, told) = running.ended().await;
    assert_eq!(code, 137, "{told}");
}

#[tokio::test]
async fn a_detached_pod_is_stopped_kept_and_removed() {
    let daemon = quick_daemon().await;
    let spec = "containers: [{name: a, image: PROBE, args: [say, up, --, idle]}]";
    run_detached(&daemon, &pod("stays", spec)).await;
    support::eventually_async("its first line", || async {
        let logs = daemon.try_cli(&["logs", "stays"]).await;
        (logs.stdout == b"up\n").then_some(())
    })
    .await;
    let refused = daemon.try_cli(&["rm", "stays"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("rm -f stays"));
    daemon.cli(&["stop", "stays"]).await;
    let logs = daemon.cli(&["logs", "default/stays"]).await;
    assert_eq!(logs.stdout, b"up\n");
    let listed = daemon.cli(&["ps", "-o", "json"]).await;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["containers"][0]["exit_code"], 143, "{listed}");
    assert_eq!(listed[0]["phase"], "Failed", "{listed}");
    daemon.cli(&["rm", "stays"]).await;
    let pods = daemon.root().join("agent/pods");
    assert_eq!(std::fs::read_dir(pods).unwrap().count(), 0);
}
