//! Who is asked, in which order, and what adjustments do.

use cri::LinuxContainerResources as Resources;
use support::{Container, Daemon, container, eventually, sandbox};
use wasmpod::proto::cri;

use super::kit::{Plugin, asks, configuration, hooks, pod, probe, pull, shows, start, told};
use crate::pinning::kit::{applied, cpus, threads, update};
use crate::{pod_resources, support};

/// The CPUs that each of a container's threads may run on.
fn allowed(daemon: &Daemon, of: &Container) -> Vec<String> {
    threads(daemon, of).into_values().map(|thread| thread.allowed).collect()
}

#[tokio::test]
async fn every_hook_of_a_life_is_called_in_its_order() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let main = shows(&pod, &image, &["say", "here", "--", "idle"]).await;
    main.says("here").await;
    main.stop(5).await;
    main.remove().await;
    let (pod_id, main_id) = (pod.id.clone(), main.id.clone());
    pod.remove().await;
    let life = || hooks(&daemon, &main_id);
    eventually("all is told", || life().contains(&"container-exited".to_owned()).then_some(()))
        .await;
    let mut life = life();
    // When an end is seen is another thread's affair.
    life.retain(|hook| hook != "container-exited");
    let expected = [
        "pre-create-container",
        "validate-container",
        "post-create-container",
        "pre-start-container",
        "post-start-container",
        "pre-stop-container",
        "post-stop-container",
        "remove-container",
    ];
    assert_eq!(life, expected);
    let expected = ["run-pod-sandbox", "stop-pod-sandbox", "remove-pod-sandbox"];
    assert_eq!(hooks(&daemon, &pod_id), expected);
    let all = told(&daemon);
    assert_eq!(all[..2], ["configure", "synchronize 0 pods, 0 containers"], "{all:?}");
}

#[tokio::test]
async fn adjustments_are_what_the_container_gets() {
    let things = [
        ("env", "do = { pre-create-container = \"env COLOUR green\" }"),
        ("args", "do = { pre-create-container = \"args probe dump\" }"),
        ("unset", "do = { pre-create-container = \"unset PATH\" }"),
        ("note", "do = { pre-create-container = \"annotate told.example/by probe\" }"),
        ("memory", "do = { pre-create-container = \"memory 67108864\" }"),
    ];
    let plugins: Vec<_> =
        things.iter().enumerate().map(|(n, (name, does))| probe(name, n as u32, does)).collect();
    let daemon = start(&plugins).await;
    let image = daemon.import("probe").await;
    let main = shows(&pod(&daemon).await, &image, &["exit", "9"]).await;
    let said = main.says("environment COLOUR=green").await.text("stdout");
    assert!(!said.contains("environment PATH="), "{said}");
    let status = main.status().await.unwrap();
    assert_eq!(status.annotations["told.example/by"], "probe");
    let linux = status.resources.unwrap().linux.unwrap();
    assert_eq!(linux.memory_limit_in_bytes, 64 << 20);
}

#[tokio::test]
async fn two_plugins_that_set_the_same_are_both_named_and_nothing_is_left() {
    let daemon = start(&[
        probe("first", 1, "do = { pre-create-container = \"env A 1\" }"),
        probe("second", 2, "do = { pre-create-container = \"env A 2\" }"),
    ])
    .await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let error = pod.try_create(container("main", &image)).await.unwrap_err();
    assert_eq!(error.message(), "plugins first and second both set env A of container main");
    let list = cri::ListContainersRequest::default();
    let left = daemon.runtime().list_containers(list).await.unwrap().into_inner().containers;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_refusal_is_the_requests_error_with_the_plugins_name_and_words() {
    for (hook, wanted) in [
        ("pre-create-container", "plugin probe: pre-create-container: no more today"),
        ("validate-container", "plugin probe: validate-container: no more today"),
        ("run-pod-sandbox", "plugin probe: run-pod-sandbox: no more today"),
        ("pre-start-container", "plugin probe: pre-start-container: no more today"),
    ] {
        let does = format!("do = {{ {hook} = \"refuse no more today\" }}");
        let daemon = start(&[probe("probe", 1, &does)]).await;
        let image = daemon.import("probe").await;
        let error = match daemon.try_run_pod(sandbox("refused"), "").await {
            Err(error) => error,
            Ok(pod) => match pod.try_create(container("main", &image)).await {
                Err(error) => error,
                Ok(created) => created.start().await.unwrap_err(),
            },
        };
        assert_eq!(error.message(), wanted);
    }
}

#[tokio::test]
async fn an_image_that_comes_is_told() {
    let daemon = start(&[Plugin::default()]).await;
    if pull(&daemon).await {
        eventually("it is told", || (hooks(&daemon, "sha256:").len() == 1).then_some(())).await;
    }
}

#[tokio::test]
async fn a_kubelets_update_is_what_plugins_make_of_it() {
    let daemon =
        start(&[probe("probe", 1, "do = { update-container = \"memory 33554432\" }")]).await;
    let image = daemon.import("probe").await;
    let main = shows(&pod(&daemon).await, &image, &["idle"]).await;
    let wanted = Resources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
    update(&main, wanted).await.unwrap();
    assert_eq!(applied(&main).await.memory_limit_in_bytes, 32 << 20);
    assert!(hooks(&daemon, &main.id).contains(&"post-update-container".to_owned()));
}

#[tokio::test]
async fn an_update_that_a_plugin_refuses_changes_nothing() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let mut config = asks("main", &image, ("update-container", "refuse not now"));
    config.args = vec!["idle".to_owned()];
    let main = pod(&daemon).await.run(config).await;
    let (before, on) = (applied(&main).await, allowed(&daemon, &main));
    let wanted = Resources { memory_limit_in_bytes: 32 << 20, ..cpus("0") };
    let error = update(&main, wanted).await.unwrap_err();
    assert_eq!(error.message(), "plugin probe: update-container: not now");
    assert_eq!((applied(&main).await, allowed(&daemon, &main)), (before, on));
    assert!(!hooks(&daemon, &main.id).contains(&"post-update-container".to_owned()));
}

#[tokio::test]
async fn a_start_that_a_plugin_refuses_is_the_containers_end() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let config = asks("main", &image, ("pre-start-container", "refuse not now"));
    let main = pod(&daemon).await.create(config).await;
    let error = main.start().await.unwrap_err();
    let words = "plugin probe: pre-start-container: not now";
    assert_eq!(error.message(), words);
    let status = main.status().await.unwrap();
    assert_eq!(status.state(), cri::ContainerState::ContainerExited);
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert_eq!((status.message.as_str(), status.started_at), (words, 0));
    assert!(!hooks(&daemon, &main.id).contains(&"post-start-container".to_owned()));
}

#[tokio::test]
async fn a_pods_new_resources_are_told_before_and_after() {
    let daemon = start(&[Plugin::default()]).await;
    let pod = pod(&daemon).await;
    let overhead = Resources { memory_limit_in_bytes: 5 << 20, ..Default::default() };
    let resources = Resources { cpu_shares: 512, ..cpus("0") };
    pod_resources::update(&pod, Some(overhead), Some(resources)).await.unwrap();
    let more = Resources { memory_limit_in_bytes: 1 << 30, ..Default::default() };
    pod_resources::update(&pod, None, Some(more)).await.unwrap();
    let all = told(&daemon);
    // Whole: with what was asked for before.
    for wanted in ["shares 512 memory 0 cpus [0]", "shares 512 memory 1073741824 cpus [0]"] {
        let line = format!(
            "update-pod-sandbox {} overhead shares 0 memory 5242880 cpus [], wanted {wanted}",
            pod.id
        );
        assert!(all.contains(&line), "{line}: {all:?}");
    }
    let (before, after) = ("update-pod-sandbox", "post-update-pod-sandbox");
    assert_eq!(hooks(&daemon, &pod.id), ["run-pod-sandbox", before, after, before, after]);
}

#[tokio::test]
async fn a_pods_update_that_a_plugin_refuses_changes_nothing() {
    let refuses = "do = { update-pod-sandbox = \"refuse too much\" }";
    let daemon = start(&[probe("probe", 1, refuses)]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let main = shows(&pod, &image, &["idle"]).await;
    let state = async || (pod_resources::recorded(&daemon, &pod).await, allowed(&daemon, &main));
    let before = state().await;
    let error = pod_resources::update(&pod, None, Some(cpus("0"))).await.unwrap_err();
    assert_eq!(error.message(), "plugin probe: update-pod-sandbox: too much");
    assert_eq!(state().await, before);
    assert!(!hooks(&daemon, &pod.id).contains(&"post-update-pod-sandbox".to_owned()));
}

#[tokio::test]
async fn validation_sees_what_the_plugins_made_of_it_and_their_names() {
    let daemon = start(&[
        probe("checks", 1, ""),
        probe("paints", 2, "do = { pre-create-container = \"env COLOUR green\" }"),
        probe("notes", 3, "do = { pre-create-container = \"annotate told.example/by notes\" }"),
    ])
    .await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let expects = |name: &str, what: &str| asks(name, &image, ("validate-container", what));
    pod.create(expects("good", "expect-env COLOUR green by notes,paints")).await;
    let bad = pod.try_create(expects("bad", "expect-env COLOUR red by paints")).await;
    let wanted = "plugin checks: validate-container: COLOUR is green by notes,paints";
    assert_eq!(bad.unwrap_err().message(), wanted);
}

#[tokio::test]
async fn the_sdks_examples_do_what_they_say() {
    let daemon = start(&[
        Plugin {
            name: "env",
            guest: "env-inject",
            settings: "env = { REGION = \"north\" }",
            ..Plugin::default()
        },
        Plugin {
            name: "allow",
            guest: "image-allowlist",
            settings: "prefixes = [\"tests/\"]",
            ..Plugin::default()
        },
    ])
    .await;
    let (image, other) = (daemon.import("probe").await, daemon.import("hello").await);
    let pod = pod(&daemon).await;
    shows(&pod, &image, &["dump"]).await.says("environment REGION=north").await;
    let mut config = container("other", &other);
    config.image.as_mut().unwrap().user_specified_image = "elsewhere.example/hello:1".to_owned();
    let error = pod.try_create(config).await.unwrap_err();
    assert!(error.message().contains("plugin allow: validate-container: image"), "{error}");
}

#[tokio::test]
async fn what_was_not_granted_is_not_linked_nor_changed() {
    let config = |functions: &str, fields: &str| {
        let plugins = [probe("probe", 1, "do = { pre-create-container = \"env A 1\" }")];
        configuration(&plugins)
            .replace("functions = [\"*\"]", &format!("functions = [{functions}]"))
            .replace("fields = [\"*\"]", &format!("fields = [{fields}]"))
    };
    for (config, wanted) in [
        (config("\"kv\"", "\"*\""), "which is not granted: add it to the plugin's functions"),
        (config("\"*\"", "\"env\""), "which is not granted: add it to the plugin's fields"),
    ] {
        let daemon = Daemon::start_with(&config).await;
        let error = daemon.try_run_pod(sandbox("denied"), "").await.err().unwrap();
        assert!(error.message().contains("plugin probe is not there: "), "{error}");
        assert!(error.message().contains(wanted), "{error}");
    }
}
