//! What becomes of pods when the daemon or their owner dies.

use rustix::process::Signal;

use super::kit::{pod, quick_daemon, run_detached, start};
use crate::support;

const VOLUME: &str = "volumes: [{name: v, hostPath: {path: v, type: DirectoryOrCreate}}]";
const MOUNT: &str = "volumeMounts: [{name: v, mountPath: /v}]";

#[tokio::test]
async fn a_pod_runs_on_over_a_killed_daemon_and_its_hook_is_not_repeated() {
    let mut daemon = quick_daemon().await;
    let spec = format!(
        "restartPolicy: OnFailure, {VOLUME}, containers: [{{name: a, image: PROBE, args: [say, \
         begun, --, await, /v/go, --, say, ended], lifecycle: {{postStart: {{exec: {{command: \
         [/probe.wasm, append, /v/hooks, x]}}}}}}, {MOUNT}}}]"
    );
    run_detached(&daemon, &pod("goes-on", &spec)).await;
    let hooks = daemon.path().join("v/hooks");
    support::eventually("the hook has run", || std::fs::read(&hooks).ok().filter(|h| h == b"x"))
        .await;
    daemon.kill();
    std::fs::write(daemon.path().join("v/go"), "").unwrap();
    daemon.restart().await;
    support::eventually_async("it has succeeded", || async {
        let listed = daemon.cli(&["ps", "-o", "json"]).await;
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        (listed[0]["phase"] == "Succeeded").then_some(())
    })
    .await;
    let logs = daemon.cli(&["logs", "goes-on"]).await;
    assert_eq!(logs.stdout, b"begun\nawait /v/go: ok\nended\n");
    assert_eq!(std::fs::read(&hooks).unwrap(), b"x");
    daemon.cli(&["rm", "goes-on"]).await;
}

#[tokio::test]
async fn restarts_are_counted_on_over_a_killed_daemon() {
    let mut daemon = quick_daemon().await;
    let spec = format!(
        "{VOLUME}, containers: [{{name: a, image: PROBE, args: [life, /v/lives, '99'], {MOUNT}}}]"
    );
    run_detached(&daemon, &pod("counted", &spec)).await;
    let lives = daemon.path().join("v/lives");
    let lived = || std::fs::read_to_string(&lives).ok().and_then(|t| t.trim().parse::<u64>().ok());
    support::eventually("two lives", || lived().filter(|lives| *lives >= 2)).await;
    daemon.restart().await;
    let target = lived().unwrap() + 2;
    support::eventually("two more lives", || lived().filter(|lives| *lives >= target)).await;
    let listed = daemon.cli(&["ps", "-o", "json"]).await;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let restarts = listed[0]["containers"][0]["restarts"].as_u64().unwrap();
    assert!(restarts + 2 >= target, "{restarts} restarts for {target} lives");
    daemon.cli(&["rm", "-f", "counted"]).await;
}

#[tokio::test]
async fn an_attached_pod_goes_with_its_owner() {
    let daemon = quick_daemon().await;
    let spec = "terminationGracePeriodSeconds: 1, containers: [{name: a, image: PROBE, args: [say, \
                up, --, idle]}]";
    let running = start(&daemon, &pod("owned", spec));
    running.until_told("up\n").await;
    running.signal(Signal::KILL);
    support::eventually_async("the pod is gone", || async {
        let listed = daemon.cli(&["ps"]).await;
        (!String::from_utf8_lossy(&listed.stdout).contains("owned")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn pods_are_made_anew_when_their_shim_dies() {
    let daemon = quick_daemon().await;
    let spec = "terminationGracePeriodSeconds: 1, containers: [{name: a, image: PROBE, args: [say, \
                up, --, idle]}]";
    run_detached(&daemon, &pod("remade", spec)).await;
    let up = || async {
        let logs = daemon.try_cli(&["logs", "remade"]).await;
        (logs.stdout == b"up\n").then_some(())
    };
    support::eventually_async("it is up", up).await;
    for shim in daemon.shims() {
        let pid = rustix::process::Pid::from_raw(i32::try_from(shim).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
    support::eventually_async("it runs again", || async {
        let listed = daemon.cli(&["ps", "-o", "json"]).await;
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        let container = &listed[0]["containers"][0];
        (container["state"] == "running" && container["restarts"] == 1).then_some(())
    })
    .await;
    daemon.cli(&["rm", "-f", "remade"]).await;
}
