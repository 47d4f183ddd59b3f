//! Who is asked, in which order, and what adjustments do.

use support::{container, sandbox};

use super::kit::{Plugin, configuration, hooks, pod, probe, shows, start, told};
use crate::support::{self, Daemon, eventually};

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
    let list = wasmpod::proto::cri::ListContainersRequest::default();
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
    use crate::registry::kit::artifact;
    use crate::registry::server::{Guard, Server, folder, is_there};
    if !is_there() {
        return;
    }
    let daemon = start(&[Plugin::default()]).await;
    let folder = folder();
    let server = Server::start(folder.path(), Guard::Nothing).await;
    server.push(&artifact(std::fs::read(support::guest("hello")).unwrap()), "team/hello", "1");
    daemon.cli(&["pull", &format!("{}/team/hello:1", server.host)]).await;
    eventually("it is told", || (hooks(&daemon, "sha256:").len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_kubelets_update_is_what_plugins_make_of_it() {
    use wasmpod::proto::cri;
    let daemon =
        start(&[probe("probe", 1, "do = { update-container = \"memory 33554432\" }")]).await;
    let image = daemon.import("probe").await;
    let main = shows(&pod(&daemon).await, &image, &["idle"]).await;
    let linux =
        cri::LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
    let request = cri::UpdateContainerResourcesRequest {
        container_id: main.id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    daemon.runtime().update_container_resources(request).await.unwrap();
    let status = main.status().await.unwrap();
    let limit = status.resources.unwrap().linux.unwrap().memory_limit_in_bytes;
    assert_eq!(limit, 32 << 20);
    assert!(hooks(&daemon, &main.id).contains(&"post-update-container".to_owned()));
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
