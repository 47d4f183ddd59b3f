//! Hooks that a pod brings for itself, in its sandbox.

use wasmpod::proto::cri;

use super::kit::shows;
use crate::support::{self, Container, DEADLINE, Daemon, Pod, container, eventually, sandbox};

const ALL: &str = "[pod_hooks]\nfunctions = [\"*\"]\nfields = [\"*\"]\n";

fn hooked(name: &str, image: &str, settings: &str) -> cri::PodSandboxConfig {
    let mut config = sandbox(name);
    config.annotations.insert("wasmpod.dev/hooks".to_owned(), image.to_owned());
    config.annotations.insert("wasmpod.dev/hooks-settings".to_owned(), settings.to_owned());
    config
}

struct Node {
    daemon: Daemon,
    hooks: String,
    probe: String,
}

impl Node {
    async fn start(more: &str) -> Self {
        let daemon = Daemon::start_with(&format!("{ALL}{more}")).await;
        let (hooks, probe) = (daemon.import("hooks-probe").await, daemon.import("probe").await);
        Self { daemon, hooks, probe }
    }

    async fn pod(&self, name: &str, settings: &str) -> Pod {
        self.daemon.run_pod(hooked(name, &self.hooks, settings)).await
    }

    /// Why a pod with these hooks is not made.
    async fn refusal(&self, config: cri::PodSandboxConfig) -> String {
        let refused = self.daemon.try_run_pod(config, "").await;
        refused.expect_err("it is refused").message().to_owned()
    }

    async fn idles(&self, pod: &Pod) -> Container {
        let main = shows(pod, &self.probe, &["say", "here", "--", "idle"]).await;
        main.says("here").await;
        main
    }

    /// A container of the pod has this in its environment.
    async fn dumps(&self, pod: &Pod, name: &str, text: &str) {
        let mut config = container(name, &self.probe);
        config.args = vec!["dump".to_owned()];
        pod.run(config).await.says(text).await;
    }

    /// The hooks that were called, in order.
    fn called(&self) -> Vec<String> {
        let log = self.daemon.own_log();
        let told = log.lines().filter_map(|line| line.split_once("probe ")?.1.split(' ').next());
        told.map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn they_are_called_for_each_step_of_their_own_pods_containers() {
    let node = Node::start("").await;
    let own = node.pod("own", "{}").await;
    let other = node.daemon.run_pod(sandbox("other")).await;
    let (main, stranger) = (node.idles(&own).await, node.idles(&other).await);
    let linux = cri::LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..<_>::default() };
    let request = cri::UpdateContainerResourcesRequest {
        container_id: main.id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    node.daemon.runtime().update_container_resources(request).await.unwrap();
    stranger.stop(0).await;
    main.stop(0).await;
    let all = [
        "pre-create-container",
        "post-create-container",
        "pre-start-container",
        "post-start-container",
        "update-container",
        "pre-stop-container",
    ];
    eventually("its end is told", || (node.called().len() == all.len() + 2).then_some(())).await;
    let mut called = node.called();
    let mut last = called.split_off(all.len());
    last.sort();
    assert_eq!(called, all);
    assert_eq!(last, ["container-exited", "post-stop-container"]);
}

#[tokio::test]
async fn a_pods_stop_waits_until_they_know_of_its_containers_ends() {
    let node = Node::start("").await;
    let pod =
        node.pod("own", r#"{"container-exited": "count", "pre-create-container": "see x"}"#).await;
    for name in ["one", "two", "three"] {
        let mut config = container(name, &node.probe);
        config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
        pod.run(config).await.says("here").await;
    }
    pod.stop().await;
    let ends = node.called().iter().filter(|hook| *hook == "container-exited").count();
    assert_eq!(ends, 3);
}

#[tokio::test]
async fn they_change_their_containers_and_refuse_them() {
    let node = Node::start("").await;
    let pod = node.pod("own", r#"{"pre-create-container": "env NAME of-hooks"}"#).await;
    shows(&pod, &node.probe, &["dump"]).await.says("environment NAME=of-hooks").await;
    let strict = r#"{"pre-create-container": "refuse not here"}"#;
    let pod = node.pod("strict", strict).await;
    let error = pod.try_create(container("main", &node.probe)).await.unwrap_err();
    let words = "hooks of pod tests/strict: pre-create-container: not here";
    assert!(error.message().contains(words), "{error}");
    let late = r#"{"pre-start-container": "refuse not now"}"#;
    let created = node.pod("late", late).await.create(container("main", &node.probe)).await;
    let error = created.start().await.unwrap_err();
    assert!(error.message().contains("hooks of pod tests/late: pre-start-container: not now"));
    let host = format!(r#"{{"pre-create-container": "mount {}"}}"#, node.daemon.path().display());
    let pod = node.pod("mounting", &host).await;
    let mounted = pod.create(container("main", &node.probe)).await;
    assert_eq!(mounted.status().await.unwrap().mounts[0].container_path, "/mnt");
}

#[tokio::test]
async fn they_see_their_own_pod_alone() {
    let node = Node::start("").await;
    let other = node.daemon.run_pod(sandbox("other")).await;
    let stranger = node.idles(&other).await;
    let settings = format!(r#"{{"pre-create-container": "see {}"}}"#, stranger.id);
    let pod = node.pod("own", &settings).await;
    let main = shows(&pod, &node.probe, &["dump"]).await;
    main.says("environment SEES=own 0 false").await;
    let online = std::thread::available_parallelism().unwrap().get();
    main.says(&format!("environment CPUS={online}")).await;
    let settings = format!(r#"{{"pre-create-container": "see {}"}}"#, other.id);
    let pod = node.pod("again", &settings).await;
    shows(&pod, &node.probe, &["dump"]).await.says("environment SEES=again 0 false").await;
}

#[tokio::test]
async fn they_pin_their_containers() {
    let node = Node::start("").await;
    let pod = node.pod("own", r#"{"post-start-container": "pin 0"}"#).await;
    let main = node.idles(&pod).await;
    let status = main.status().await.unwrap();
    assert_eq!(status.resources.unwrap().linux.unwrap().cpuset_cpus, "0");
    assert!(!node.daemon.own_log().contains("it is passed over"));
}

#[tokio::test]
async fn what_they_keep_outlives_the_daemon_and_goes_with_the_pod() {
    let mut node = Node::start("").await;
    let pod = node.pod("own", r#"{"pre-create-container": "count"}"#).await;
    node.dumps(&pod, "one", "environment COUNT=1").await;
    node.daemon.kill();
    node.daemon.restart().await;
    let pod = Pod { client: node.daemon.runtime(), ..pod };
    node.dumps(&pod, "two", "environment COUNT=2").await;
    pod.stop().await;
    pod.remove().await;
    let pod = node.pod("own", r#"{"pre-create-container": "count"}"#).await;
    node.dumps(&pod, "three", "environment COUNT=1").await;
}

/// The next event of a plugin's or of hooks: its reason and message.
async fn told(events: &mut tonic::Streaming<cri::ContainerEventResponse>) -> (String, String) {
    loop {
        let event = events.message().await.unwrap().unwrap();
        let told = event.pod_sandbox_status.unwrap().annotations;
        if let Some(reason) = told.get("event.wasmpod.dev/reason") {
            return (reason.clone(), told["event.wasmpod.dev/message"].clone());
        }
    }
}

#[tokio::test]
async fn a_call_that_breaks_down_ends_neither_the_pod_nor_its_container() {
    let node = Node::start("deadline_ms = 300\nmemory = 16777216\n").await;
    for (thing, why) in [
        ("trap", "broke down: "),
        ("eat", "broke down: "),
        ("spin", "gave no answer in time"),
        ("sleep", "gave no answer in time"),
    ] {
        let pod = node.pod(thing, &format!(r#"{{"pre-create-container": "{thing}"}}"#)).await;
        let request = cri::GetEventsRequest {};
        let events = node.daemon.runtime().get_container_events(request).await.unwrap();
        let main = node.idles(&pod).await;
        let (reason, message) =
            tokio::time::timeout(DEADLINE, told(&mut events.into_inner())).await.unwrap();
        let wanted = format!("pre-create-container of the pod's own hooks {why}");
        assert!(reason == "HookFailed" && message.starts_with(&wanted), "{thing}: {message}");
        // The next hooks have an instance again.
        let before = node.called().len();
        main.stop(0).await;
        let ended = || node.called().split_off(before).contains(&"container-exited".to_owned());
        eventually("its end is told", || ended().then_some(())).await;
        assert_eq!(pod.status().await.unwrap().state(), cri::PodSandboxState::SandboxReady);
    }
}

#[tokio::test]
async fn they_tell_events_of_their_pod() {
    let node = Node::start("").await;
    let pod = node.pod("own", r#"{"post-start-container": "tell Warmed"}"#).await;
    let request = cri::GetEventsRequest {};
    let events = node.daemon.runtime().get_container_events(request).await.unwrap();
    node.idles(&pod).await;
    let told = tokio::time::timeout(DEADLINE, told(&mut events.into_inner())).await.unwrap();
    assert_eq!(told, ("Warmed".to_owned(), "as asked".to_owned()));
}

#[tokio::test]
async fn a_pod_without_its_hooks_is_not_made() {
    let node = Node::start("").await;
    let (graceful, plugin) =
        (node.daemon.import("graceful").await, node.daemon.import("env-inject").await);
    for (image, settings, wanted) in [
        ("no.such.example:1/team/none:1", "{}", "the pod's hooks, image no.such.example:1/team"),
        (node.probe.as_str(), "{}", "is a core module, no component"),
        (graceful.as_str(), "{}", "it does not export wasmpod:lifecycle/own-hooks@0.1.0"),
        (plugin.as_str(), "{}", "it does not export wasmpod:lifecycle/own-hooks@0.1.0"),
        ("Not A Name", "{}", "the pod's hooks, image Not A Name: "),
        (node.hooks.as_str(), "[1]", "annotation wasmpod.dev/hooks-settings is no JSON object"),
    ] {
        let error = node.refusal(hooked("none", image, settings)).await;
        assert!(error.contains(wanted) && !error.contains('\n'), "{error}");
    }
    let pods = cri::ListPodSandboxRequest::default();
    let left = node.daemon.runtime().list_pod_sandbox(pods).await.unwrap().into_inner().items;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn the_node_grants_what_they_may_do_or_has_none_of_them() {
    for (config, wanted) in [
        ("", "it needs to call containers, which pods' hooks are not granted on this node"),
        ("[pod_hooks]\nfunctions = [\"*\"]\n", "it needs to change mounts"),
        ("[pod_hooks]\nenabled = false\n", "switched off on this node (pod_hooks.enabled)"),
    ] {
        let daemon = Daemon::start_with(config).await;
        let hooks = daemon.import("hooks-probe").await;
        let refused = daemon.try_run_pod(hooked("none", &hooks, "{}"), "").await;
        let error = refused.expect_err("it is refused").message().to_owned();
        assert!(error.contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn their_image_comes_by_the_nodes_credentials_and_stays_while_it_is_used() {
    use crate::registry::kit::artifact;
    use crate::registry::server::{Guard, Server, folder, is_there};
    if !is_there() {
        return;
    }
    let folder = folder();
    let server = Server::start(folder.path(), Guard::TlsAndPassword).await;
    let wasm = std::fs::read(support::guest("hooks-probe")).unwrap();
    server.push(&artifact(wasm), "team/hooks", "1");
    let password = folder.path().join("password");
    std::fs::write(&password, "p").unwrap();
    let node = format!(
        "{ALL}[registry.hosts.\"{}\"]\nca = [{:?}]\nusername = \"u\"\npassword_file = {:?}\n",
        server.host,
        folder.path().join("ca.pem"),
        password,
    );
    let daemon = Daemon::start_with(&node).await;
    let image = format!("{}/team/hooks:1", server.host);
    let probe = daemon.import("probe").await;
    let pod = daemon
        .run_pod(hooked("own", &image, r#"{"pre-create-container": "env FROM registry"}"#))
        .await;
    shows(&pod, &probe, &["dump"]).await.says("environment FROM=registry").await;

    let listed = async || {
        let request = cri::ListImagesRequest::default();
        let images = daemon.images().list_images(request).await.unwrap().into_inner().images;
        images.into_iter().find(|found| found.repo_tags.contains(&image))
    };
    assert!(listed().await.unwrap().pinned);
    let remove = async || {
        let image = Some(cri::ImageSpec { image: image.clone(), ..<_>::default() });
        daemon.images().remove_image(cri::RemoveImageRequest { image }).await
    };
    let error = remove().await.unwrap_err();
    assert!(error.message().contains("is used by the hooks of pod tests/own"), "{error}");
    daemon.cli(&["images", "prune", "--all"]).await;
    assert!(listed().await.is_some());
    pod.stop().await;
    pod.remove().await;
    assert!(!listed().await.unwrap().pinned);
    remove().await.unwrap();
    assert!(listed().await.is_none());
}
