//! RuntimeService over a real socket: the runtime itself, and pod sandboxes.

use std::collections::{BTreeSet, HashMap};

use crate::support;
use crate::support::{Daemon, container, eventually_async, sandbox};
use tonic::Code;
use wasmpod::proto::cri::{self, PodSandboxState};

fn labelled(name: &str, labels: &[(&str, &str)]) -> cri::PodSandboxConfig {
    let labels: HashMap<_, _> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    cri::PodSandboxConfig { labels, ..support::sandbox(name) }
}

async fn list(daemon: &Daemon, filter: cri::PodSandboxFilter) -> Vec<cri::PodSandbox> {
    let request = cri::ListPodSandboxRequest { filter: Some(filter) };
    daemon.runtime().list_pod_sandbox(request).await.unwrap().into_inner().items
}

#[tokio::test]
async fn the_runtime_says_what_it_is_and_can() {
    let daemon = Daemon::start().await;
    let mut client = daemon.runtime();
    let request = cri::VersionRequest { version: "0.1.0".into() };
    let version = client.version(request).await.unwrap().into_inner();
    assert_eq!((version.version.as_str(), version.runtime_api_version.as_str()), ("0.1.0", "v1"));
    assert_eq!(version.runtime_name, "wasmpod");

    let status = client.status(cri::StatusRequest { verbose: true }).await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    // There is no CNI configuration: the kubelet is to give this node no pods of a pod network.
    for (kind, is_so) in [("RuntimeReady", true), ("NetworkReady", false)] {
        assert!(conditions.iter().any(|c| c.r#type == kind && c.status == is_so), "{conditions:?}");
    }
    let mut agents = daemon.agent_runtime();
    let told = agents.status(cri::StatusRequest::default()).await.unwrap().into_inner();
    assert!(told.status.unwrap().conditions.iter().all(|condition| condition.status));
    let handlers: Vec<_> = status.runtime_handlers.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(handlers, ["", "wasm", "wasm-isolated"]);
    assert!(status.runtime_handlers.iter().all(|h| h.features.unwrap().recursive_read_only_mounts));
    assert!(status.features.unwrap().supplemental_groups_policy);
    assert!(status.info["config"].contains("max_pods"));

    let config = client.runtime_config(cri::RuntimeConfigRequest {}).await.unwrap().into_inner();
    assert!(config.linux.is_some());
    let network = cri::NetworkConfig { pod_cidr: "10.1.0.0/24".into() };
    let update = cri::RuntimeConfig { network_config: Some(network) };
    let request = cri::UpdateRuntimeConfigRequest { runtime_config: Some(update) };
    client.update_runtime_config(request).await.unwrap();
}

#[tokio::test]
async fn what_is_not_given_is_unimplemented_and_named() {
    let daemon = Daemon::start().await;
    let mut client = daemon.runtime();
    let status = client.restore_pod(cri::RestorePodRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("RestorePod"), "{status:?}");
}

#[tokio::test]
async fn lists_come_as_streams_too() {
    let daemon = Daemon::start().await;
    let image = daemon.import("hello").await;
    let pod = daemon.run_pod(sandbox("listed")).await;
    let container = pod.create(container("main", &image)).await;
    let mut client = daemon.runtime();
    let pods = client.stream_pod_sandboxes(cri::StreamPodSandboxesRequest::default());
    let mut pods = pods.await.unwrap().into_inner();
    let pods = pods.message().await.unwrap().unwrap().pod_sandboxes;
    assert_eq!(pods.iter().map(|found| &found.id).collect::<Vec<_>>(), [&pod.id]);
    let containers = client.stream_containers(cri::StreamContainersRequest::default());
    let mut containers = containers.await.unwrap().into_inner();
    let found = containers.message().await.unwrap().unwrap().containers;
    assert_eq!(found.iter().map(|found| &found.id).collect::<Vec<_>>(), [&container.id]);
    assert!(containers.message().await.unwrap().is_none());
    let mut config = support::container("stays", &daemon.import("probe").await);
    config.args = ["idle"].map(str::to_owned).to_vec();
    let stays = pod.run(config).await;
    let stats = client.stream_container_stats(cri::StreamContainerStatsRequest::default());
    let stats = stats.await.unwrap().into_inner().message().await.unwrap().unwrap();
    let of: Vec<_> = stats.container_stats.into_iter().filter_map(|one| one.attributes).collect();
    assert_eq!(of.iter().map(|found| &found.id).collect::<Vec<_>>(), [&stays.id]);
    let stats = client.stream_pod_sandbox_stats(cri::StreamPodSandboxStatsRequest::default());
    let stats = stats.await.unwrap().into_inner().message().await.unwrap().unwrap();
    let of: Vec<_> = stats.pod_sandbox_stats.into_iter().filter_map(|one| one.attributes).collect();
    assert_eq!(of.iter().map(|found| &found.id).collect::<Vec<_>>(), [&pod.id]);
    let request =
        cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), ..Default::default() };
    let status = client.pod_sandbox_status(request).await.unwrap().into_inner();
    let of: BTreeSet<_> = status.containers_statuses.iter().map(|found| &found.id).collect();
    assert_eq!(of, BTreeSet::from([&container.id, &stays.id]));
    let begun = status.containers_statuses.iter().map(|found| found.started_at).max().unwrap();
    assert!(0 < begun && begun < status.timestamp, "{status:?}");
    let images = daemon.images().stream_images(cri::StreamImagesRequest::default()).await;
    let images = images.unwrap().into_inner().message().await.unwrap().unwrap().images;
    assert!(images.iter().flat_map(|found| &found.repo_tags).any(|tag| tag.ends_with(&image)));
}

#[tokio::test]
async fn a_sandbox_is_echoed_as_it_was_asked_for() {
    let daemon = Daemon::start().await;
    let mut config = labelled("echo", &[("a", "1")]);
    config.annotations = [("note".to_owned(), "x y".to_owned())].into();
    let pod = daemon.run_pod_with(config, "wasm").await;
    let status = pod.status().await.unwrap();
    assert_eq!(status.metadata, pod.config.metadata);
    assert_eq!(status.labels, pod.config.labels);
    assert_eq!(status.annotations, pod.config.annotations);
    assert_eq!(status.runtime_handler, "wasm");
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert_eq!(status.network, None);
    assert_eq!(pod.id.len(), 64);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let age = now.as_nanos() as i64 - status.created_at;
    assert!((0..60_000_000_000).contains(&age), "created_at is in nanoseconds: {age}");
    let options = status.linux.unwrap().namespaces.unwrap().options;
    assert_eq!(options, Some(support::host_network()));
}

#[tokio::test]
async fn stop_and_remove_succeed_again_and_for_nothing() {
    let daemon = Daemon::start().await;
    let pod = daemon.run_pod(support::sandbox("twice")).await;
    pod.stop().await;
    pod.stop().await;
    assert_eq!(pod.status().await.unwrap().state(), PodSandboxState::SandboxNotready);
    pod.remove().await;
    pod.remove().await;
    pod.stop().await;
    assert_eq!(pod.status().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_name_is_reserved_until_its_sandbox_is_removed() {
    let daemon = Daemon::start().await;
    let config = support::sandbox("named");
    let pod = daemon.run_pod(config.clone()).await;
    let status = daemon.try_run_pod(config.clone(), "").await.map(|made| made.id).unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains(&pod.id), "{status:?}");
    pod.stop().await;
    assert!(daemon.try_run_pod(config.clone(), "").await.is_err());
    let mut next = config.clone();
    next.metadata.as_mut().unwrap().attempt = 1;
    daemon.run_pod(next).await;
    pod.remove().await;
    daemon.run_pod(config).await;
}

#[tokio::test]
async fn lists_hold_what_matches_all_of_the_filter() {
    let daemon = Daemon::start().await;
    let first = daemon.run_pod(labelled("first", &[("app", "a"), ("tier", "x")])).await;
    let second = daemon.run_pod(labelled("second", &[("app", "a"), ("tier", "y")])).await;
    second.stop().await;
    let filter = cri::PodSandboxFilter::default;
    let state = |state: PodSandboxState| Some(cri::PodSandboxStateValue { state: state.into() });
    let labels = |pairs: &[(&str, &str)]| labelled("", pairs).labels;
    let (one, two) = (vec![first.id.clone()], vec![second.id.clone()]);
    // Newest first.
    let both = vec![second.id.clone(), first.id.clone()];
    let prefix = first.id[..10].to_owned();
    let ready = state(PodSandboxState::SandboxReady);
    for (what, filter, expected) in [
        ("nothing", filter(), &both),
        ("a prefix", cri::PodSandboxFilter { id: prefix.clone(), ..filter() }, &one),
        ("no such id", cri::PodSandboxFilter { id: "zz".into(), ..filter() }, &vec![]),
        ("a state", cri::PodSandboxFilter { state: ready, ..filter() }, &one),
        (
            "another state",
            cri::PodSandboxFilter { state: state(PodSandboxState::SandboxNotready), ..filter() },
            &two,
        ),
        (
            "two labels",
            cri::PodSandboxFilter {
                label_selector: labels(&[("app", "a"), ("tier", "y")]),
                ..filter()
            },
            &two,
        ),
        (
            "all at once",
            cri::PodSandboxFilter {
                id: prefix,
                state: ready,
                label_selector: labels(&[("app", "b")]),
            },
            &vec![],
        ),
    ] {
        let found: Vec<_> = list(&daemon, filter).await.into_iter().map(|pod| pod.id).collect();
        assert_eq!(&found, expected, "by {what}");
    }
}

#[tokio::test]
async fn a_realm_sees_its_own_pods_unless_it_asks_for_all() {
    let daemon = Daemon::start().await;
    let pod = daemon.run_pod(support::sandbox("mine")).await;
    let mut agent = daemon.agent_runtime();
    let nobodys = agent.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await.unwrap();
    assert!(nobodys.into_inner().items.is_empty());
    let request = || cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    assert_eq!(agent.pod_sandbox_status(request()).await.unwrap_err().code(), Code::NotFound);
    let mut request = tonic::Request::new(request());
    request.metadata_mut().insert("wasmpod-realm", "all".parse().unwrap());
    let status = agent.pod_sandbox_status(request).await.unwrap().into_inner();
    assert!(status.info["info"].contains("kubelet"), "{:?}", status.info);
}

#[tokio::test]
async fn what_cannot_be_given_is_refused_by_name_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let mut peeping = support::sandbox("peeping");
    let context = peeping.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options.as_mut().unwrap().pid = cri::NamespaceMode::Node.into();
    let plain = || support::sandbox("plain");
    let nameless = cri::PodSandboxConfig { metadata: None, ..plain() };
    for (config, handler, says) in [
        (peeping, "", "namespace_options.pid"),
        (nameless, "", "metadata"),
        (plain(), "no-such", "no-such"),
        (plain(), "wasm-shared", "wasm-shared"),
    ] {
        let status = daemon.try_run_pod(config, handler).await.map(|made| made.id).unwrap_err();
        assert!(status.message().contains(says), "{says}: {status:?}");
        assert!(!status.message().contains('\n'));
    }
    assert!(list(&daemon, cri::PodSandboxFilter::default()).await.is_empty());
}

#[tokio::test]
async fn sandbox_stats_count_the_pods_containers() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(support::sandbox("stats")).await;
    let mut config = support::container("main", &image);
    config.args = ["say", "up", "--", "idle"].map(str::to_owned).to_vec();
    let container = pod.run(config).await;
    container.says("up").await;
    let request = cri::PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
    let stats = daemon.runtime().pod_sandbox_stats(request).await.unwrap().into_inner();
    let linux = stats.stats.unwrap().linux.unwrap();
    assert_eq!(linux.containers.len(), 1);
    assert!(linux.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let request = cri::ListPodSandboxStatsRequest { filter: None };
    let listed = daemon.runtime().list_pod_sandbox_stats(request).await.unwrap().into_inner();
    assert_eq!(listed.stats.len(), 1);
}

/// A module with so many pages of memory, that sleeps for an hour.
fn sleeper(pages: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") {pages})
            (func (export "_start")
                (i32.store (i32.const 16) (i32.const 1))
                (i64.store (i32.const 24) (i64.const 3600000000000))
                (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#
    );
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn a_pods_stats_are_the_sum_of_its_containers() {
    const LIMIT: u64 = 64 << 20;
    let daemon = Daemon::start().await;
    let pod = daemon.run_pod(support::sandbox("sum")).await;
    for pages in [16, 48] {
        let name = format!("pages-{pages}");
        let file = daemon.path().join(format!("{name}.wasm"));
        std::fs::write(&file, sleeper(pages)).unwrap();
        let mut config = support::container(&name, &daemon.import_file(&file, &name).await);
        let memory_limit_in_bytes = i64::try_from(LIMIT).unwrap();
        config.linux = Some(cri::LinuxContainerConfig {
            resources: Some(cri::LinuxContainerResources {
                memory_limit_in_bytes,
                ..Default::default()
            }),
            ..Default::default()
        });
        pod.run(config).await;
    }
    let used = |memory: Option<cri::MemoryUsage>| memory.unwrap().working_set_bytes.unwrap().value;
    let (linux, guests) = eventually_async("both guests hold their memory", || async {
        let request = cri::PodSandboxStatsRequest { pod_sandbox_id: pod.id.clone() };
        let stats = daemon.runtime().pod_sandbox_stats(request).await.unwrap().into_inner();
        let linux = stats.stats.unwrap().linux.unwrap();
        let mut guests: Vec<u64> = linux.containers.iter().map(|c| used(c.memory)).collect();
        guests.sort_unstable();
        // What an instance takes besides its memory is the same for both.
        let more = guests.last()?.checked_sub(*guests.first()?)?;
        (guests.len() == 2 && more == 32 << 16).then_some((linux, guests))
    })
    .await;
    assert!(guests[0] >= 16 << 16 && guests[0] < 32 << 16, "{guests:?}");
    let sum = guests.iter().sum::<u64>();
    let memory = linux.memory.unwrap();
    assert_eq!(memory.available_bytes.unwrap().value, 2 * LIMIT - sum);
    assert_eq!(used(Some(memory)), sum);
    let nanos = |cpu: Option<cri::CpuUsage>| cpu.unwrap().usage_core_nano_seconds.unwrap().value;
    let of_guests: u64 = linux.containers.iter().map(|c| nanos(c.cpu)).sum();
    assert!(of_guests > 0 && nanos(linux.cpu) > of_guests, "the sandbox's thread took some too");
    // The sandbox's thread and one of each container.
    assert_eq!(linux.process.unwrap().process_count.unwrap().value, 3);
}

#[tokio::test]
async fn no_pod_carries_so_much_that_lists_fail() {
    let daemon = Daemon::start().await;
    let carrying = |name: &str, kib: usize| {
        let annotations = [("note".to_owned(), "x".repeat(kib << 10))].into();
        cri::PodSandboxConfig { annotations, ..support::sandbox(name) }
    };
    let error = daemon.try_run_pod(carrying("huge", 8192), "").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("config.annotations"), "{error}");
    let mut pods = 0;
    let error = loop {
        match daemon.try_run_pod(carrying(&format!("heavy-{pods}"), 300), "").await {
            Ok(_) => pods += 1,
            Err(error) => break error,
        }
        assert!(pods < 100, "nothing bounds the list");
    };
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert!(error.message().contains("the list of the kubelet's pods"), "{error}");
    assert_eq!(list(&daemon, cri::PodSandboxFilter::default()).await.len(), pods);
    let request = cri::ListPodSandboxStatsRequest { filter: None };
    let stats = daemon.runtime().list_pod_sandbox_stats(request).await.unwrap().into_inner().stats;
    assert_eq!(stats.len(), pods);
}
