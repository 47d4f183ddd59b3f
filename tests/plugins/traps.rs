//! Plugins that fail in each of their hooks, and answers that are none.

use support::{container, sandbox};

use super::kit::{Plugin, shows, start};
use crate::support;

const HOOKS: [&str; 18] = [
    "synchronize",
    "run-pod-sandbox",
    "stop-pod-sandbox",
    "remove-pod-sandbox",
    "update-pod-sandbox",
    "post-update-pod-sandbox",
    "pre-create-container",
    "post-create-container",
    "pre-start-container",
    "post-start-container",
    "update-container",
    "post-update-container",
    "pre-stop-container",
    "post-stop-container",
    "remove-container",
    "container-exited",
    "image-pulled",
    "validate-container",
];

/// Traps in these hooks.
fn traps(hooks: &[&str]) -> String {
    let each: Vec<_> = hooks.iter().map(|hook| format!("{hook} = \"trap\"")).collect();
    format!("do = {{ {} }}", each.join(", "))
}

#[tokio::test]
async fn a_pod_lives_its_whole_life_beside_an_open_plugin_that_traps_in_every_hook() {
    let settings = traps(&HOOKS[1..]);
    let plugin = Plugin { settings: &settings, more: "fail = \"open\"", ..Plugin::default() };
    let daemon = start(&[plugin]).await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("beside")).await;
    let main = shows(&pod, &image, &["say", "here", "--", "idle"]).await;
    main.says("here").await;
    main.stop(0).await;
    main.remove().await;
    pod.stop().await;
    pod.remove().await;
    assert!(daemon.own_log().contains("plugin probe broke down: "), "it was asked");
}

#[tokio::test]
async fn a_closed_one_refuses_by_its_name_in_each_hook_that_is_asked_beforehand() {
    for hook in ["run-pod-sandbox", "pre-create-container", "validate-container"] {
        let settings = traps(&[hook]);
        let daemon = start(&[Plugin { settings: &settings, ..Plugin::default() }]).await;
        let image = daemon.import("probe").await;
        let error = match daemon.try_run_pod(sandbox("refused"), "").await {
            Ok(pod) => pod.try_create(container("main", &image)).await.unwrap_err(),
            Err(error) => error,
        };
        let wanted = format!("({hook}); mend it, or set plugins.probe.fail = \"open\"");
        assert!(error.message().starts_with("plugin probe broke down: "), "{error}");
        assert!(error.message().contains(&wanted), "{error}");
    }
    let settings = traps(&["synchronize"]);
    let daemon = start(&[Plugin { settings: &settings, ..Plugin::default() }]).await;
    let error = daemon.try_run_pod(sandbox("refused"), "").await.unwrap_err();
    let wanted = "plugin probe is not there: synchronize broke down: ";
    assert!(error.message().starts_with(wanted), "{error}");
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
