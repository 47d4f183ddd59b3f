//! RuntimeService and ImageService over a real socket with real guests: containers and images.

use crate::support;
use crate::support::{Container, Daemon, Pod};
use tonic::Code;
use wasmpod::proto::cri::{self, ContainerState};

fn args(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn idler(pod: &Pod, name: &str, image: &str) -> Container {
    let mut config = support::container(name, image);
    config.args = args(&["say", "up", "--", "idle"]);
    let container = pod.run(config).await;
    container.says("up").await;
    container
}

async fn ids(daemon: &Daemon, filter: cri::ContainerFilter) -> Vec<String> {
    let request = cri::ListContainersRequest { filter: Some(filter) };
    let found = daemon.runtime().list_containers(request).await.unwrap().into_inner().containers;
    found.into_iter().map(|container| container.id).collect()
}

#[tokio::test]
async fn a_container_is_echoed_as_it_was_asked_for() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(support::sandbox("echo")).await;
    let data = daemon.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut config = support::container("main", &image);
    config.args = args(&["say", "up", "--", "idle"]);
    config.labels = [("app".to_owned(), "x".to_owned())].into();
    config.annotations = [("note".to_owned(), "y".to_owned())].into();
    config.mounts = vec![support::mount_read_only(&data, "/data")];
    config.stop_signal = cri::Signal::Sigint.into();
    config.linux = Some(cri::LinuxContainerConfig {
        resources: Some(cri::LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            ..Default::default()
        }),
        ..Default::default()
    });
    let container = pod.create(config.clone()).await;
    let created = container.status().await.unwrap();
    assert_eq!(created.state(), ContainerState::ContainerCreated);
    assert_eq!((created.started_at, created.finished_at), (0, 0));
    container.start().await.unwrap();
    let status = container.status().await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerRunning);
    assert_eq!(status.metadata, config.metadata);
    assert_eq!(status.labels, config.labels);
    assert_eq!(status.annotations, config.annotations);
    assert_eq!(status.mounts, config.mounts);
    assert_eq!(status.image, config.image);
    assert_eq!(status.stop_signal(), cri::Signal::Sigint);
    assert_eq!(status.log_path, container.log_path().display().to_string());
    assert!(status.created_at > 0 && status.started_at >= status.created_at);
    let applied = status.resources.unwrap().linux.unwrap();
    assert_eq!(applied.memory_limit_in_bytes, 64 << 20);

    let request = cri::ImageStatusRequest {
        image: Some(cri::ImageSpec { image, ..Default::default() }),
        verbose: false,
    };
    let image = daemon.images().image_status(request).await.unwrap().into_inner().image.unwrap();
    assert_eq!(status.image_id, image.id);
    assert!(status.image_ref == image.id || image.repo_digests.contains(&status.image_ref));
    container.stop(0).await;
    let status = container.status().await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerExited);
    assert!(status.finished_at >= status.started_at);
}

#[tokio::test]
async fn resources_echo_what_is_applied() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(support::sandbox("resources")).await;
    let container = idler(&pod, "main", &image).await;
    let update = |linux| cri::UpdateContainerResourcesRequest {
        container_id: container.id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    let more = cri::LinuxContainerResources {
        cpuset_cpus: "0".into(),
        memory_limit_in_bytes: 128 << 20,
        ..Default::default()
    };
    let mut client = daemon.runtime();
    client.update_container_resources(update(more)).await.unwrap();
    let bad = cri::LinuxContainerResources { cpuset_cpus: "9-1".into(), ..Default::default() };
    assert!(client.update_container_resources(update(bad)).await.is_err());
    let applied = container.status().await.unwrap().resources.unwrap().linux.unwrap();
    assert_eq!((applied.cpuset_cpus.as_str(), applied.memory_limit_in_bytes), ("0", 128 << 20));
}

#[tokio::test]
async fn stop_and_remove_succeed_again_and_for_nothing() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(support::sandbox("twice")).await;
    let container = idler(&pod, "main", &image).await;
    container.stop(0).await;
    container.stop(0).await;
    container.remove().await;
    container.remove().await;
    container.stop(5).await;
    assert_eq!(container.status().await.unwrap_err().code(), Code::NotFound);
    // Removing a running one ends it.
    let container = idler(&pod, "main", &image).await;
    container.remove().await;
    assert!(ids(&daemon, cri::ContainerFilter::default()).await.is_empty());
    let again = idler(&pod, "main", &image).await;
    pod.stop().await;
    assert_eq!(again.status().await.unwrap().state(), ContainerState::ContainerExited);
    pod.remove().await;
    assert_eq!(again.status().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn lists_hold_what_matches_all_of_the_filter() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let (pod, other) =
        (daemon.run_pod(support::sandbox("a")).await, daemon.run_pod(support::sandbox("b")).await);
    let running = idler(&pod, "running", &image).await;
    let mut config = support::container("created", &image);
    config.labels = [("app".to_owned(), "x".to_owned())].into();
    let created = pod.create(config).await;
    let elsewhere = idler(&other, "elsewhere", &image).await;
    let filter = cri::ContainerFilter::default;
    let state = |state: ContainerState| Some(cri::ContainerStateValue { state: state.into() });
    let (running, created, elsewhere) = (&running.id, &created.id, &elsewhere.id);
    for (what, filter, expected) in [
        ("nothing", filter(), vec![elsewhere, created, running]),
        (
            "a pod's prefix",
            cri::ContainerFilter { pod_sandbox_id: pod.id[..12].to_owned(), ..filter() },
            vec![created, running],
        ),
        (
            "a state",
            cri::ContainerFilter { state: state(ContainerState::ContainerRunning), ..filter() },
            vec![elsewhere, running],
        ),
        (
            "created, which is number 0",
            cri::ContainerFilter { state: state(ContainerState::ContainerCreated), ..filter() },
            vec![created],
        ),
        (
            "a label",
            cri::ContainerFilter {
                label_selector: [("app".to_owned(), "x".to_owned())].into(),
                ..filter()
            },
            vec![created],
        ),
        (
            "an id in another pod",
            cri::ContainerFilter {
                id: running.clone(),
                pod_sandbox_id: other.id.clone(),
                ..filter()
            },
            vec![],
        ),
    ] {
        let found = ids(&daemon, filter).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "by {what}");
    }
}

#[tokio::test]
async fn what_cannot_be_made_says_why_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(support::sandbox("refusals")).await;
    let plain = || support::container("main", &image);
    let with_mount = |change: fn(&mut cri::Mount)| {
        let mut mount = support::mount_read_only(std::path::Path::new("/tmp"), "/data");
        mount.recursive_read_only = true;
        change(&mut mount);
        cri::ContainerConfig { mounts: vec![mount], ..plain() }
    };
    let privileged = cri::LinuxContainerConfig {
        security_context: Some(cri::LinuxContainerSecurityContext {
            privileged: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    for (config, says) in [
        (cri::ContainerConfig { linux: Some(privileged), ..plain() }, "privileged"),
        (support::container("main", "none/such:1"), "none/such:1"),
        (with_mount(|mount| mount.readonly = false), "recursive_read_only"),
        (with_mount(|mount| mount.propagation = 1), "recursive_read_only"),
        (with_mount(|mount| mount.propagation = 2), "BIDIRECTIONAL"),
        (with_mount(|mount| mount.host_path = "relative".into()), "relative"),
    ] {
        let status = pod.try_create(config).await.map(|made| made.id).unwrap_err();
        assert!(status.message().contains(says), "{says}: {status:?}");
    }
    assert!(ids(&daemon, cri::ContainerFilter::default()).await.is_empty());
    let first = pod.create(plain()).await;
    let status = pod.try_create(plain()).await.map(|made| made.id).unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    first.remove().await;
    pod.create(plain()).await;
}

#[tokio::test]
async fn exec_sync_gives_output_and_exit_code_or_says_what_could_be_run() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(support::sandbox("exec")).await;
    let container = idler(&pod, "main", &image).await;
    let told = container.exec(&["/probe.wasm", "say", "hi", "--", "exit", "3"], 10).await.unwrap();
    assert_eq!((told.stdout.as_slice(), told.exit_code), (&b"hi\n"[..], 3));
    let status = container.exec(&["/bin/sh"], 10).await.unwrap_err();
    assert!(status.message().contains("/probe.wasm"), "{status:?}");
    let status = container.exec(&["/probe.wasm", "spin"], 1).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    container.stop(0).await;
    let status = container.exec(&["/probe.wasm", "say", "hi"], 10).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}

#[tokio::test]
async fn stats_are_of_running_containers() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(support::sandbox("stats")).await;
    let container = idler(&pod, "main", &image).await;
    pod.create(support::container("created", &image)).await;
    let request = cri::ListContainerStatsRequest { filter: None };
    let mut client = daemon.runtime();
    let listed = client.list_container_stats(request).await.unwrap().into_inner().stats;
    assert_eq!(listed.len(), 1);
    let stats = &listed[0];
    assert_eq!(stats.attributes.as_ref().unwrap().id, container.id);
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let layer = stats.writable_layer.clone().unwrap();
    assert!(layer.timestamp > 0 && layer.fs_id.is_some());
    // Writable roots are the containers' file system, apart from the images.
    let usage = daemon.images().image_fs_info(cri::ImageFsInfoRequest {}).await.unwrap();
    let usage = usage.into_inner();
    let (containers, images) = (&usage.container_filesystems[0], &usage.image_filesystems[0]);
    assert_eq!(containers.fs_id, images.fs_id);
    let used = |of: &cri::FilesystemUsage| of.used_bytes.unwrap().value;
    assert!(used(containers) < used(images), "{containers:?} {images:?}");
    let request = cri::ContainerStatsRequest { container_id: "no-such".into() };
    assert_eq!(client.container_stats(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn images_are_known_by_name_and_id_and_stay_while_used() {
    let daemon = Daemon::start().await;
    let name = daemon.import("probe").await;
    let mut client = daemon.images();
    let spec = |image: &str| Some(cri::ImageSpec { image: image.into(), ..Default::default() });
    let listed = client.list_images(cri::ListImagesRequest { filter: None }).await.unwrap();
    let image = listed.into_inner().images.remove(0);
    assert!(image.pinned && image.size > 0, "{image:?}");
    for known in [name.as_str(), image.id.as_str(), image.repo_tags[0].as_str()] {
        let request = cri::ImageStatusRequest { image: spec(known), verbose: true };
        let status = client.image_status(request).await.unwrap().into_inner();
        assert_eq!(status.image.as_ref().map(|image| &image.id), Some(&image.id), "{known}");
        let pull = cri::PullImageRequest { image: spec(known), ..Default::default() };
        let pulled = client.pull_image(pull).await.unwrap().into_inner();
        assert_eq!(pulled.image_ref, image.id, "{known}");
    }
    // Nobody listens on port 1.
    let absent = "127.0.0.1:1/no/such:1";
    let request = cri::ImageStatusRequest { image: spec(absent), verbose: true };
    assert_eq!(client.image_status(request).await.unwrap().into_inner().image, None);
    let pull = cri::PullImageRequest { image: spec(absent), ..Default::default() };
    let status = client.pull_image(pull).await.unwrap_err();
    assert!(status.message().starts_with("RegistryUnavailable: "), "{status:?}");

    let pod = daemon.run_pod(support::sandbox("images")).await;
    let container = idler(&pod, "main", &name).await;
    let remove = |image: &str| cri::RemoveImageRequest { image: spec(image) };
    let status = client.remove_image(remove(&name)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains(&container.id), "{status:?}");
    container.remove().await;
    client.remove_image(remove(&name)).await.unwrap();
    client.remove_image(remove(&name)).await.unwrap();
    let listed = client.list_images(cri::ListImagesRequest { filter: None }).await.unwrap();
    assert!(listed.into_inner().images.is_empty());

    let usage = client.image_fs_info(cri::ImageFsInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(usage.image_filesystems.len(), 1);
    assert_eq!(usage.container_filesystems.len(), 1);
    assert!(usage.image_filesystems[0].timestamp > 0);
}

#[tokio::test]
async fn a_checkpoint_is_refused_with_what_to_do_instead() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(support::sandbox("checkpoint")).await;
    let container = idler(&pod, "main", &image).await;
    let location = daemon.path().join("checkpoint.tar");
    let request = |id: &str| cri::CheckpointContainerRequest {
        container_id: id.to_owned(),
        location: location.display().to_string(),
        timeout: 0,
    };
    let mut client = daemon.runtime();
    let status = client.checkpoint_container(request("no-such")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    let status = client.checkpoint_container(request(&container.id)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    for part in [container.id.as_str(), "cannot be checkpointed", "start it anew"] {
        assert!(status.message().contains(part), "{status:?}");
    }
    let request = |id: &str| cri::CheckpointPodRequest {
        pod_sandbox_id: id.to_owned(),
        ..Default::default()
    };
    let status = client.checkpoint_pod(request("no-such")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    let status = client.checkpoint_pod(request(&pod.id)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    assert!(!location.exists());
    let running = container.status().await.unwrap();
    assert_eq!(running.state(), cri::ContainerState::ContainerRunning);
}
