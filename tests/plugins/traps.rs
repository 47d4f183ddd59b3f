//! Plugins that fail in each of their hooks, and answers that are none.

use support::{container, sandbox};

use super::kit::{Plugin, asks, pull, start, told};
use crate::pinning::kit::{cpus, update};
use crate::support::{Daemon, eventually};
use crate::{pod_resources, support};

/// A pod's whole life: hooks whose failure fails the request.
const ASKED: [&str; 6] = [
    "run-pod-sandbox",
    "update-pod-sandbox",
    "pre-create-container",
    "validate-container",
    "pre-start-container",
    "update-container",
];

/// Those that only hear of it.
const TOLD: [&str; 10] = [
    "stop-pod-sandbox",
    "remove-pod-sandbox",
    "post-update-pod-sandbox",
    "post-create-container",
    "post-start-container",
    "post-update-container",
    "pre-stop-container",
    "post-stop-container",
    "remove-container",
    "container-exited",
];

/// Traps in these hooks.
fn traps(hooks: &[&str]) -> String {
    let each: Vec<_> = hooks.iter().map(|hook| format!("{hook} = \"trap\"")).collect();
    format!("do = {{ {} }}", each.join(", "))
}

/// A pod's whole life, or until a request of it fails. Pod and container ask for a trap in a hook.
async fn life(daemon: &Daemon, image: &str, hook: &str) -> Result<(), tonic::Status> {
    let mut config = sandbox(hook);
    config.annotations = asks("main", image, (hook, "trap")).annotations;
    let pod = daemon.try_run_pod(config, "").await?;
    let mut config = asks("main", image, (hook, "trap"));
    config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
    let main = pod.try_create(config).await?;
    main.start().await?;
    main.says("here").await;
    update(&main, cpus("0")).await?;
    pod_resources::update(&pod, None, Some(cpus("0"))).await?;
    main.stop(0).await;
    main.remove().await;
    pod.stop().await;
    pod.remove().await;
    Ok(())
}

#[tokio::test]
async fn a_pod_lives_its_whole_life_beside_an_open_plugin_that_traps_in_every_hook() {
    let settings = traps(&[&ASKED[..], &TOLD, &["image-pulled"]].concat());
    let plugin = Plugin { settings: &settings, more: "fail = \"open\"", ..Plugin::default() };
    let daemon = start(&[plugin]).await;
    let image = daemon.import("probe").await;
    life(&daemon, &image, "none").await.unwrap();
    assert!(daemon.own_log().contains("plugin probe broke down: "), "it was asked");
}

/// What is said of a trap in a hook; `of` is the plugin's error.
fn is_said(hook: &str, of: &str) -> bool {
    let mended = format!("({hook}); mend it, or set plugins.probe.fail = \"open\"");
    of.contains("plugin probe broke down: ") && of.contains(&mended)
}

/// Waits until the log tells of a trap.
async fn is_logged(daemon: &Daemon, hook: &str) {
    eventually(&format!("the trap in {hook} is told"), || {
        daemon.own_log().lines().any(|line| is_said(hook, line)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_trap_in_each_hook_fails_what_was_asked_and_is_logged_where_nothing_was() {
    // So that it has the time to begin anew each time.
    let plugin = Plugin { more: "deadline_ms = 20000", ..Plugin::default() };
    let daemon = start(&[plugin]).await;
    let image = daemon.import("probe").await;
    for hook in ASKED {
        let error = life(&daemon, &image, hook).await.unwrap_err();
        assert!(is_said(hook, error.message()), "{hook}: {error}");
    }
    for hook in TOLD {
        life(&daemon, &image, hook).await.unwrap();
        is_logged(&daemon, hook).await;
    }
}

#[tokio::test]
async fn a_trap_at_an_images_arrival_is_logged() {
    let settings = traps(&["image-pulled"]);
    let daemon = start(&[Plugin { settings: &settings, ..Plugin::default() }]).await;
    if pull(&daemon).await {
        is_logged(&daemon, "image-pulled").await;
    }
}

#[tokio::test]
async fn a_trap_at_its_begin_leaves_a_plugin_out_and_one_at_its_end_is_its_own_affair() {
    for hook in ["configure", "synchronize"] {
        let settings = traps(&[hook]);
        let daemon = start(&[Plugin { settings: &settings, ..Plugin::default() }]).await;
        let error = daemon.try_run_pod(sandbox("refused"), "").await.unwrap_err();
        let wanted = format!("plugin probe is not there: {hook} broke down: ");
        assert!(error.message().starts_with(&wanted), "{error}");
    }
    let settings = traps(&["shutdown"]);
    let mut daemon = start(&[Plugin { settings: &settings, ..Plugin::default() }]).await;
    assert!(daemon.terminate().await.success());
    assert_eq!(told(&daemon).last().unwrap(), "shutdown");
}

#[tokio::test]
async fn an_answer_that_is_none_breaks_the_plugin_and_nothing_else() {
    for thing in ["garbage text", "garbage list"] {
        let settings = format!("do = {{ pre-create-container = \"{thing}\" }}");
        let daemon = start(&[Plugin { settings: &settings, ..Plugin::default() }]).await;
        let image = daemon.import("probe").await;
        let pod = daemon.run_pod(sandbox("fed")).await;
        let error = pod.try_create(container("main", &image)).await.unwrap_err();
        assert!(error.message().starts_with("plugin probe broke down: "), "{thing}: {error}");
        assert!(!error.message().contains('\n'), "{thing}: {error}");
        // The next request finds it again.
        daemon.run_pod(sandbox("next")).await;
    }
}
