//! In which order a pod's containers run, restart and end.

use super::kit::{Ran, pod, quick_daemon, run};

const VOLUME: &str = "volumes: [{name: v, emptyDir: {}}]";
const MOUNT: &str = "volumeMounts: [{name: v, mountPath: /v}]";

#[tokio::test]
async fn init_containers_run_one_after_the_other_before_the_rest() {
    let daemon = quick_daemon().await;
    let spec = format!(
        "restartPolicy: Never, {VOLUME}, initContainers: [{{name: i1, image: PROBE, args: [write, \
         /v/1, one], {MOUNT}}}, {{name: i2, image: PROBE, args: [read, /v/1, --, write, /v/2, two], \
         {MOUNT}}}], containers: [{{name: a, image: PROBE, args: [ls, /v], {MOUNT}}}, {{name: b, \
         image: PROBE, args: [read, /v/2], {MOUNT}}}]"
    );
    let ran = run(&daemon, &pod("order", &spec)).await;
    ran.ended_with(0);
    ran.wrote(&["i2 | read /v/1: ok one", "a | ls /v: ok 1 2", "b | read /v/2: ok two"]);
    ran.told_in_order(&[
        "Normal Pulled container i1",
        "Normal Created container i1: Container created",
        "Normal Started container i1: Container started",
        "Normal Completed container i1",
        "Normal Pulled container i2",
        "Normal Completed container i2",
        "Normal Pulled container a",
        "Normal Created container a",
        "Normal Started container a",
        "Normal Pulled container b",
        "pod order has succeeded",
    ]);
}

#[tokio::test]
async fn an_init_container_that_fails_ends_a_pod_that_does_not_restart() {
    let daemon = quick_daemon().await;
    let spec = "restartPolicy: Never, initContainers: [{name: i, image: PROBE, args: [exit, '7']}], \
                containers: [{name: a, image: PROBE, args: [say, never]}]";
    let ran = run(&daemon, &pod("failing", spec)).await;
    ran.ended_with(7);
    ran.told_in_order(&["Warning Error container i: Container exited with code 7", "has failed"]);
    assert!(!ran.events().contains("container a"), "{}", ran.events());
}

#[tokio::test]
async fn failures_are_restarted_with_back_off_until_they_succeed() {
    let daemon = quick_daemon().await;
    // Three lives: each leaves a mark, and only the third finds two.
    let spec = format!(
        "restartPolicy: OnFailure, {VOLUME}, containers: [{{name: a, image: PROBE, args: [life, \
         /v/lives, '3'], {MOUNT}}}]"
    );
    let ran = run(&daemon, &pod("lives", &spec)).await;
    ran.ended_with(0);
    ran.told_in_order(&[
        "Started",
        "Warning Error container a: Container exited with code 1",
        "Started",
        "Warning Error container a: Container exited with code 1",
        "Warning BackOff container a: Back-off restarting failed container a in pod lives_default(",
        "Started",
        "Normal Completed container a: Container exited with code 0",
    ]);
}

#[tokio::test]
async fn the_exit_code_is_that_of_the_first_container_to_fail() {
    let daemon = quick_daemon().await;
    let spec = format!(
        "restartPolicy: Never, {VOLUME}, containers: [{{name: a, image: PROBE, args: [await, /v/go, \
         --, exit, '5'], {MOUNT}}}, {{name: b, image: PROBE, args: [trap], {MOUNT}}}, {{name: c, \
         image: PROBE, args: [sleep, '300', --, write, /v/go, ''], {MOUNT}}}]"
    );
    let ran = run(&daemon, &pod("codes", &spec)).await;
    ran.ended_with(134);
    ran.told_in_order(&["container b: Container exited with code 134: ", "code 5", "has failed"]);
}

#[tokio::test]
async fn a_sidecar_runs_beside_the_pod_and_does_not_keep_it() {
    let daemon = quick_daemon().await;
    let spec = format!(
        "restartPolicy: Never, terminationGracePeriodSeconds: 2, {VOLUME}, initContainers: [{{name: \
         side, image: PROBE, restartPolicy: Always, args: [write, /v/up, yes, --, idle], {MOUNT}}}, \
         {{name: i, image: PROBE, args: [await, /v/up], {MOUNT}}}], containers: [{{name: a, image: \
         PROBE, args: [read, /v/up], {MOUNT}}}]"
    );
    let ran: Ran = run(&daemon, &pod("sidecar", &spec)).await;
    ran.ended_with(0);
    ran.wrote(&["a | read /v/up: ok yes"]);
    ran.told_in_order(&[
        "Started container side",
        "Started container i",
        "Completed container a",
        "Normal Killing container side: Stopping container side",
        "pod sidecar has succeeded",
    ]);
}

#[tokio::test]
async fn a_pod_past_its_deadline_is_ended() {
    let daemon = quick_daemon().await;
    let spec = "restartPolicy: Never, activeDeadlineSeconds: 1, terminationGracePeriodSeconds: 1, \
                containers: [{name: a, image: PROBE, args: [idle]}]";
    let ran = run(&daemon, &pod("deadline", spec)).await;
    assert_ne!(ran.code(), 0);
    ran.told_in_order(&["Started", "Warning DeadlineExceeded pod:", "Killing", "has failed"]);
}

#[tokio::test]
async fn what_cannot_start_is_said_in_one_line_and_tried_again() {
    let daemon = quick_daemon().await;
    let spec = "containers: [{name: a, image: 'nowhere/none:1', imagePullPolicy: Never}]";
    let running = super::kit::start(&daemon, &pod("missing", spec));
    let says = "Warning ErrImageNeverPull container a: Container image \"nowhere/none:1\" is not \
                present with pull policy of Never";
    running.until_told(says).await;
    crate::support::eventually("a second try", || {
        (running.told().matches("ErrImageNeverPull").count() > 1).then_some(())
    })
    .await;
    running.signal(rustix::process::Signal::INT);
    let (code, told) = running.ended().await;
    assert_eq!(code, 1, "{told}");
}
