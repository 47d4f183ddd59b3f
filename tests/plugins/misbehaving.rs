//! Plugins that spin, trap, eat, recurse, come half or for another version.

use std::time::{Duration, Instant};

use support::{container, sandbox};

use super::kit::{Plugin, configuration, hooks, pod, probe, shows, start};
use crate::support::{self, Daemon, eventually};

const QUICK: &str = "deadline_ms = 500";

fn does(what: &str) -> String {
    format!("do = {{ pre-create-container = \"{what}\" }}")
}

#[tokio::test]
async fn each_that_breaks_down_fails_the_request_within_its_time_and_comes_back() {
    for (what, wanted) in [
        ("spin", "gave no answer within 500 ms (pre-create-container)"),
        ("sleep", "gave no answer within 500 ms (pre-create-container)"),
        ("trap", "broke down: "),
        ("recurse", "broke down: "),
        ("eat", "broke down: "),
    ] {
        let settings = does(what);
        let plugin = Plugin { settings: &settings, more: QUICK, ..Plugin::default() };
        let daemon = start(&[plugin]).await;
        let image = daemon.import("probe").await;
        let pod = pod(&daemon).await;
        let begun = Instant::now();
        let error = pod.try_create(container("main", &image)).await.unwrap_err();
        assert!(error.message().starts_with("plugin probe "), "{what}: {error}");
        assert!(error.message().contains(wanted), "{what}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {:?}", begun.elapsed());
        // It begins anew, and is shown the pod that is there.
        let again = || hooks(&daemon, "1 pods, 0 containers").len();
        eventually("it comes back", || (again() > 0).then_some(())).await;
    }
}

#[tokio::test]
async fn an_open_policy_lets_the_request_pass_and_others_are_asked() {
    let spins = does("spin");
    let gives = does("env COLOUR green");
    let daemon = start(&[
        Plugin {
            name: "bad",
            index: 1,
            more: "deadline_ms = 300\nfail = \"open\"",
            settings: &spins,
            ..Plugin::default()
        },
        probe("good", 2, &gives),
    ])
    .await;
    let image = daemon.import("probe").await;
    let main = shows(&pod(&daemon).await, &image, &["dump"]).await;
    main.says("environment COLOUR=green").await;
}

#[tokio::test]
async fn after_three_misses_a_plugin_is_given_up_at_once() {
    let settings = does("spin");
    let daemon = start(&[Plugin { settings: &settings, more: QUICK, ..Plugin::default() }]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    for _ in 0..3 {
        let error = pod.try_create(container("main", &image)).await.unwrap_err();
        assert!(error.message().contains("gave no answer"), "{error}");
    }
    let error = pod.try_create(container("main", &image)).await.unwrap_err();
    assert!(error.message().contains("is given up for a while after three misses"), "{error}");
}

#[tokio::test]
async fn one_bad_plugin_does_not_delay_pods_that_it_does_not_see() {
    let settings = does("spin");
    let plugin = Plugin {
        settings: &settings,
        more: "deadline_ms = 60000\nnamespaces = [\"elsewhere\"]",
        ..Plugin::default()
    };
    let mut text = configuration(&[plugin]);
    text = text.replace("plugin-probe.wasm", "env-inject.wasm.none");
    let daemon = Daemon::start_with(&text).await;
    let image = daemon.import("probe").await;
    let main = shows(&pod(&daemon).await, &image, &["say", "here"]).await;
    main.says("here").await;
}

#[tokio::test]
async fn what_is_no_plugin_says_so_and_a_better_file_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plugin.wasm");
    let config = configuration(&[Plugin::default()]);
    let guest = support::guest("plugin-probe");
    let config = config.replace(&guest.display().to_string(), &file.display().to_string());
    let whole = std::fs::read(&guest).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let daemon = Daemon::start_with(&config).await;
    let refused = |wanted: &'static str| {
        let daemon = &daemon;
        async move {
            support::eventually_async(wanted, || async {
                let error = daemon.try_run_pod(sandbox("bad"), "").await.err()?;
                error.message().contains(wanted).then_some(())
            })
            .await;
        }
    };
    refused("plugin probe is not there: ").await;
    std::fs::copy(support::guest("hello"), &file).unwrap();
    refused("it is a core module, no component").await;
    std::fs::copy(support::guest("hello-p2"), &file).unwrap();
    refused("it is no plugin: it does not export wasmpod:lifecycle/node-hooks@0.1.0").await;
    // Renamed in, as careful people do.
    let new = folder.path().join("new");
    std::fs::write(&new, &whole).unwrap();
    std::fs::rename(&new, &file).unwrap();
    support::eventually_async("the right one is taken", || async {
        daemon.try_run_pod(sandbox("good"), "").await.ok().map(drop)
    })
    .await;
}
