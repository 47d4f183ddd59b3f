//! The commands around a pod, and what they say of mistakes.

use super::kit::{pod, quick_daemon, run, run_detached, write};
use crate::support::{self, Daemon};

async fn fault(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.try_cli(arguments).await;
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[tokio::test]
async fn mistakes_in_a_manifest_are_one_line_that_names_the_place() {
    let daemon = quick_daemon().await;
    for (spec, says) in [
        ("contianers: []", "unknown field spec.contianers (is containers meant?)"),
        (
            "containers: [{name: a, image: x, livenessProbe: {exec: {command: [x]}}}]",
            "spec.containers[0].livenessProbe is not supported yet",
        ),
        ("containers: [{name: a, image: x}, {name: a, image: x}]", "the name a is there twice"),
        ("containers: [{name: a, image: ./none.wasm}]", "spec.containers[0].image: importing"),
    ] {
        let file = write(&daemon, &pod("bad", spec));
        let fault = fault(&daemon, &["run", &file.display().to_string()]).await;
        assert!(fault.contains(says), "{spec}: {fault}");
    }
    let says = fault(&daemon, &["run", "/no/such/file.yaml"]).await;
    assert!(says.contains("/no/such/file.yaml"), "{says}");
    for command in ["logs", "stop", "rm", "inspect"] {
        let says = fault(&daemon, &[command, "nobody"]).await;
        assert!(says.contains("\"nobody\""), "{says}");
    }
}

#[tokio::test]
async fn logs_exec_and_inspect_find_their_container() {
    let daemon = quick_daemon().await;
    let spec = "terminationGracePeriodSeconds: 1, containers: [{name: a, image: PROBE, env: [{name: \
                X, value: seen}], args: [say, 'from a', --, idle]}, {name: b, image: PROBE, args: \
                [say, 'from b', --, idle]}]";
    run_detached(&daemon, &pod("two", spec)).await;
    support::eventually_async("both have written", || async {
        let a = daemon.try_cli(&["logs", "two", "-c", "a"]).await;
        let b = daemon.try_cli(&["logs", "two", "-c", "b"]).await;
        (a.stdout == b"from a\n" && b.stdout == b"from b\n").then_some(())
    })
    .await;
    let says = fault(&daemon, &["logs", "two"]).await;
    assert!(says.contains("containers a, b: choose one with -c"), "{says}");

    let output =
        daemon.try_cli(&["exec", "two", "-c", "a", "--", "/probe.wasm", "dump", "--", "exit", "6"]);
    let output = output.await;
    assert_eq!(output.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&output.stdout).contains("X=seen"));

    let inspected = daemon.cli(&["inspect", "two"]).await;
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["realm"], "agent");
    assert_eq!(inspected["phase"], "Running");
    let container = &inspected["containers"][0];
    assert_eq!(container["status"]["state"], "CONTAINER_RUNNING", "{inspected}");
    let id = container["status"]["id"].as_str().unwrap();
    let one = daemon.cli(&["inspect", &id[..12]]).await;
    let one: serde_json::Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(one["status"]["id"], *id);
    daemon.cli(&["rm", "-f", "two"]).await;
}

#[tokio::test]
async fn the_log_of_the_attempt_before_can_be_read() {
    let daemon =
        Daemon::start_with("[agent]\nback_off_ms = 600000\nmax_back_off_ms = 600000\n").await;
    let spec = "volumes: [{name: v, emptyDir: {}}], containers: [{name: a, image: PROBE, args: [life, \
                /v/lives, '99'], volumeMounts: [{name: v, mountPath: /v}]}]";
    run_detached(&daemon, &pod("before", spec)).await;
    support::eventually_async("two lives", || async {
        let logs = daemon.try_cli(&["logs", "before"]).await;
        (logs.stdout == b"life 2\n").then_some(())
    })
    .await;
    let before = daemon.cli(&["logs", "--previous", "before"]).await;
    assert_eq!(before.stdout, b"life 1\n");
    support::eventually_async("the back-off shows", || async {
        let listed = daemon.cli(&["ps"]).await;
        String::from_utf8_lossy(&listed.stdout).contains("CrashLoopBackOff").then_some(())
    })
    .await;
    daemon.cli(&["rm", "-f", "before"]).await;
}

#[tokio::test]
async fn followed_logs_end_with_their_container_and_keep_every_line() {
    let daemon = quick_daemon().await;
    let spec = "restartPolicy: Never, volumes: [{name: v, hostPath: {path: v, type: \
                DirectoryOrCreate}}], containers: [{name: a, image: PROBE, args: [say, one, --, \
                await, /v/go, --, say, two, --, say-bare, three], volumeMounts: [{name: v, \
                mountPath: /v}]}]";
    run_detached(&daemon, &pod("followed", spec)).await;
    support::eventually_async("its first line", || async {
        let logs = daemon.try_cli(&["logs", "followed"]).await;
        logs.stdout.starts_with(b"one\n").then_some(())
    })
    .await;
    let mut command = daemon.command(&["logs", "-f", "followed"]);
    let following = tokio::task::spawn_blocking(move || command.output().unwrap());
    std::fs::write(daemon.path().join("v/go"), "").unwrap();
    let followed = following.await.unwrap();
    assert_eq!(followed.stdout, b"one\nawait /v/go: ok\ntwo\nthree\n");
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let daemon = quick_daemon().await;
    let spec =
        "terminationGracePeriodSeconds: 0, containers: [{name: a, image: PROBE, args: [idle]}]";
    run_detached(&daemon, &pod("same", spec)).await;
    let ran = run(&daemon, &pod("same", spec)).await;
    ran.ended_with(1);
    assert!(ran.events().contains("pod default/same already exists"), "{}", ran.events());
    daemon.cli(&["rm", "-f", "same"]).await;
}

#[tokio::test]
async fn completion_knows_the_commands() {
    let daemon = quick_daemon().await;
    for shell in ["bash", "zsh", "fish"] {
        let script = daemon.cli(&["completion", shell]).await;
        assert!(String::from_utf8_lossy(&script.stdout).contains("inspect"), "{shell}");
    }
}
