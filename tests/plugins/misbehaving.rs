//! Plugins that spin, trap, eat, recurse, come half or for another version.

use std::time::{Duration, Instant};

use support::{container, sandbox};

use super::kit::{
    File, Plugin, configuration, hooks, pod, probe, sandbox_in, shows, start, told, wasm,
};
use crate::pod_resources;
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

/// Sees one namespace alone and may take long.
const ELSEWHERE: &str = "deadline_ms = 60000\nnamespaces = [\"elsewhere\"]";

#[tokio::test]
async fn a_plugin_that_is_not_there_does_not_delay_pods_that_it_does_not_see() {
    let settings = does("spin");
    let plugin = Plugin { settings: &settings, more: ELSEWHERE, ..Plugin::default() };
    let mut text = configuration(&[plugin]);
    text = text.replace("plugin-probe.wasm", "env-inject.wasm.none");
    let daemon = Daemon::start_with(&text).await;
    let image = daemon.import("probe").await;
    let main = shows(&pod(&daemon).await, &image, &["say", "here"]).await;
    main.says("here").await;
}

#[tokio::test]
async fn a_plugin_that_spins_does_not_delay_pods_that_it_does_not_see() {
    for hook in ["run-pod-sandbox", "container-exited"] {
        let settings = format!("do = {{ {hook} = \"spin\" }}");
        let bad = Plugin { name: "bad", settings: &settings, more: ELSEWHERE, ..Plugin::default() };
        let takes = "do = { pre-create-container = \"take 0\" }";
        let good = Plugin { more: "namespaces = [\"tests\"]", ..probe("good", 20, takes) };
        let daemon = start(&[bad, good]).await;
        let image = daemon.import("probe").await;
        let concerned = async {
            let pod = daemon.run_pod(sandbox_in("elsewhere", "concerned")).await;
            pod.output_of("main", &image, &["dump"]).await;
            std::future::pending().await
        };
        let other = async {
            let spins = || told(&daemon).iter().any(|told| told.starts_with(hook));
            eventually("it spins", || spins().then_some(())).await;
            let pod = pod(&daemon).await;
            pod.output_of("first", &image, &["dump"]).await;
            // The CPU of the one that has ended is free: that was told too.
            support::eventually_async("its CPU is free", || async {
                pod.try_create(container("second", &image)).await.ok().map(drop)
            })
            .await;
            pod.stop().await;
            pod.remove().await;
        };
        tokio::select! {
            () = concerned => {}
            () = other => {}
        }
        assert!(!daemon.own_log().contains("gave no answer"), "it spins no more");
    }
}

/// A node whose plugin takes at one hook most of its time: two calls at once are too many.
async fn slow_at(hook: &str) -> Daemon {
    let settings = format!("do = {{ {hook} = \"work 2100\" }}");
    let more = "deadline_ms = 3000";
    start(&[Plugin { settings: &settings, more, ..Plugin::default() }]).await
}

#[tokio::test]
async fn a_requests_time_runs_while_the_plugin_answers_another() {
    let daemon = slow_at("update-pod-sandbox").await;
    let pods = [daemon.run_pod(sandbox("one")).await, daemon.run_pod(sandbox("other")).await];
    let asked = pods.each_ref().map(|pod| pod_resources::update(pod, None, None));
    let answers = futures::future::join_all(asked).await;
    let late: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(late.len(), 1, "{late:?}");
    let wanted = "plugin probe gave no answer within 3000 ms (update-pod-sandbox); mend it";
    assert!(late[0].message().starts_with(wanted), "{late:?}");
}

#[tokio::test]
async fn what_is_no_plugin_says_so_and_a_better_file_takes_its_place() {
    let whole = wasm("plugin-probe");
    let file = File::new(&whole[..whole.len() / 2]);
    let daemon = Daemon::start_with(&file.configuration(Plugin::default())).await;
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
    // Written over, as careless people do.
    std::fs::copy(support::guest("hello"), file.path()).unwrap();
    refused("it is a core module, no component").await;
    std::fs::copy(support::guest("hello-p2"), file.path()).unwrap();
    refused("it is no plugin: it does not export wasmpod:lifecycle/node-hooks@0.1.0").await;
    file.replace(&whole);
    support::eventually_async("the right one is taken", || async {
        daemon.try_run_pod(sandbox("good"), "").await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn one_that_is_late_fails_no_other_request() {
    let daemon = slow_at("pre-create-container").await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let asked = ["one", "other"].map(|name| pod.try_create(container(name, &image)));
    let answers = futures::future::join_all(asked).await;
    let late: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(late.len(), 1, "{late:#?}");
}
