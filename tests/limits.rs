//! Limits that hurt the guest alone which exceeds them.

use crate::support;

use support::{Daemon, container, sandbox};
use wasmpod::proto::cri;

#[tokio::test]
async fn open_descriptors_end_at_the_limit_and_the_neighbour_opens_on() {
    let daemon = Daemon::start_with("[limits]\ndescriptors = 64\n").await;
    for kind in ["probe", "probe-p2"] {
        let image = daemon.import(kind).await;
        let pod = daemon.run_pod(sandbox("descriptors")).await;
        let mut config = container("greedy", &image);
        config.args = ["open-many", "/etc/hosts", "5000", "--", "say", "full", "--", "idle"]
            .map(str::to_owned)
            .to_vec();
        let greedy = pod.run(config).await;
        let log = greedy.says("full").await;
        let told = log.text("stdout");
        // wasi:filesystem's error-code has no word for too many files.
        let says = if kind == "probe" { "MFILE" } else { "NOMEM" };
        assert!(told.contains(says), "{kind}: {told}");
        let opened: usize = told.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        assert!((16..=64).contains(&opened), "{kind}: {told}");
        let printed = pod.output_of("modest", &image, &["open-many", "/etc/hosts", "16"]).await;
        assert!(printed.contains("ok"), "{kind}: {printed}");
    }
}

/// A module with so many globals of 16 bytes.
fn globals(count: usize) -> Vec<u8> {
    let globals = "(global v128 (v128.const i64x2 0 0))".repeat(count);
    let text =
        format!(r#"(module (memory (export "memory") 1) {globals} (func (export "_start")))"#);
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn what_an_instance_takes_of_the_host_counts_as_its_memory() {
    let daemon = Daemon::start().await;
    let pod = daemon.run_pod(sandbox("globals")).await;
    for (count, code) in [(1_000, 0), (100_000, 137)] {
        let name = format!("globals-{count}");
        let file = daemon.path().join(&name);
        std::fs::write(&file, globals(count)).unwrap();
        let image = daemon.import_file(&file, &name).await;
        let mut config = container(&name, &image);
        let resources =
            cri::LinuxContainerResources { memory_limit_in_bytes: 1 << 20, ..Default::default() };
        config.linux =
            Some(cri::LinuxContainerConfig { resources: Some(resources), ..Default::default() });
        let status = pod.run(config).await.exit().await;
        let reason = if code == 0 { "Completed" } else { "OOMKilled" };
        assert_eq!(
            (status.exit_code, status.reason.as_str()),
            (code, reason),
            "{}",
            status.message
        );
    }
}

#[tokio::test]
async fn a_raised_memory_limit_applies_to_the_running_guest() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let go = daemon.path().join("go");
    std::fs::create_dir(&go).unwrap();
    let limit =
        |bytes| cri::LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() };
    let pod = daemon.run_pod(sandbox("raise")).await;
    let mut config = container("grows", &image);
    config.mounts = vec![support::mount(&go, "/go")];
    config.linux =
        Some(cri::LinuxContainerConfig { resources: Some(limit(16 << 20)), ..Default::default() });
    config.args =
        ["say", "here", "--", "await", "/go/now", "--", "grow", "64"].map(str::to_owned).to_vec();
    let grows = pod.run(config).await;
    grows.says("here").await;
    let update = cri::UpdateContainerResourcesRequest {
        container_id: grows.id.clone(),
        linux: Some(limit(256 << 20)),
        ..Default::default()
    };
    pod.client.clone().update_container_resources(update).await.unwrap();
    let applied = grows.status().await.unwrap().resources.unwrap().linux.unwrap();
    assert_eq!(applied.memory_limit_in_bytes, 256 << 20);
    std::fs::write(go.join("now"), "").unwrap();
    assert_eq!(grows.exit().await.exit_code, 0);
}

#[tokio::test]
async fn a_bad_cpuset_changes_nothing() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("cpus")).await;
    let mut config = container("pinned", &image);
    config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
    let pinned = pod.run(config).await;
    pinned.says("here").await;
    let update = |cpus: &str| cri::UpdateContainerResourcesRequest {
        container_id: pinned.id.clone(),
        linux: Some(cri::LinuxContainerResources {
            cpuset_cpus: cpus.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut client = pod.client.clone();
    client.update_container_resources(update("0")).await.unwrap();
    for bad in ["x", "1-0", "4095", "0,,1"] {
        let error = client.update_container_resources(update(bad)).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{bad}: {error}");
    }
    let applied = pinned.status().await.unwrap().resources.unwrap().linux.unwrap();
    assert_eq!(applied.cpuset_cpus, "0");
}

/// The number after a word that a guest's log says.
async fn said(guest: &support::Container, word: &str) -> u16 {
    let log = guest.says(word).await.text("stdout");
    let rest = log.split(word).nth(1).unwrap();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Connects until told to stop; what the guest does not take waits in its backlog.
fn connect_all(port: u16) -> Vec<std::net::TcpStream> {
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let patience = std::time::Duration::from_millis(200);
    let connect = |_| std::net::TcpStream::connect_timeout(&at, patience).ok();
    (0..100).map_while(connect).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_and_made_sockets_end_at_the_limit_of_descriptors() {
    let daemon = Daemon::start_with("[limits]\ndescriptors = 64\n").await;
    let image = daemon.import("probe-p2").await;
    let pod = daemon.run_pod(sandbox("sockets")).await;
    let mut config = container("accepts", &image);
    config.args =
        ["accept-many", "5000", "--", "say", "full", "--", "idle"].map(str::to_owned).to_vec();
    let accepts = pod.run(config.clone()).await;
    let port = said(&accepts, "listening ").await;
    let held = tokio::task::block_in_place(|| connect_all(port));
    let told = accepts.says("full").await.text("stdout");
    assert!(told.contains("then MFILE"), "{told}");
    let accepted = said(&accepts, "accept-many 5000: ok ").await;
    assert!((40..64).contains(&accepted), "{told}");
    drop(held);

    // A neighbour makes sockets of its own, up to its own limit.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let told = pod.output_of("connects", &image, &["connect-many", &address, "5000"]).await;
    assert!(told.contains("then MFILE"), "{told}");
    assert_eq!(accepts.status().await.unwrap().state(), cri::ContainerState::ContainerRunning);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_0_3_makes_no_socket_over_the_limit_its_connections_counted() {
    let daemon = Daemon::start_with("[limits]\ndescriptors = 64\n").await;
    let image = daemon.import("p3-command").await;
    let pod = daemon.run_pod(sandbox("sockets")).await;
    let mut config = container("hoards", &image);
    config.args = ["hoard", "30"].map(str::to_owned).to_vec();
    let hoards = pod.run(config).await;
    let port = said(&hoards, "listening ").await;
    let held = tokio::task::block_in_place(|| connect_all(port));
    let status = hoards.exit().await;
    let told = hoards.log().text("stdout");
    assert_eq!(status.exit_code, 0, "{told}{}", status.message);
    let (accepted, made) = (said(&hoards, "accepted ").await, said(&hoards, ", made ").await);
    assert!(accepted == 30 && made >= 16 && accepted + made < 64, "{told}");
    assert!(told.contains("then ErrorCode::OutOfMemory"), "{told}");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_a_component_of_0_3_accepts_wait_while_it_has_too_many() {
    let daemon = Daemon::start_with("[limits]\ndescriptors = 32\n").await;
    let image = daemon.import("p3-command").await;
    let pod = daemon.run_pod(sandbox("sockets")).await;
    let mut config = container("floods", &image);
    config.args = ["flood", "40"].map(str::to_owned).to_vec();
    let floods = pod.run(config).await;
    let port = said(&floods, "listening ").await;
    let clients: Vec<_> =
        (0..40).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let status = floods.exit().await;
    let told = floods.log().text("stdout");
    assert_eq!(status.exit_code, 0, "{told}{}", status.message);
    let held = said(&floods, "held ").await;
    assert!((16..32).contains(&held), "{told}");
    drop(clients);
}

/// The group that a kubelet makes for a pod, with a memory limit; gone when dropped.
pub struct PodGroup {
    folder: std::path::PathBuf,
    file: &'static str,
}

impl PodGroup {
    /// With the group's name as a cgroup parent; `name` is the test's own.
    pub fn with_limit(name: &str, bytes: u64) -> Option<(Self, String)> {
        let base = std::path::Path::new("/sys/fs/cgroup");
        let (base, file) = match base.join("memory/memory.limit_in_bytes").exists() {
            true => (base.join("memory"), "memory.limit_in_bytes"),
            false => (base.to_owned(), "memory.max"),
        };
        let name = format!("wasmpod-tests-{name}-{}", std::process::id());
        let group = Self { folder: base.join(&name), file };
        let made = std::fs::create_dir(&group.folder).and_then(|()| group.set(bytes));
        match made {
            Ok(()) => Some((group, format!("/{name}"))),
            Err(error) => {
                eprintln!("SKIPPED: a memory cgroup: {error}");
                None
            }
        }
    }
}

impl PodGroup {
    pub fn set(&self, bytes: u64) -> std::io::Result<()> {
        std::fs::write(self.folder.join(self.file), bytes.to_string())
    }
}

impl Drop for PodGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.folder);
    }
}

#[tokio::test]
async fn a_pods_own_memory_limit_holds_for_its_containers_together() {
    if !support::root_for("cgroups") {
        return;
    }
    let Some((_group, parent)) = PodGroup::with_limit("together", 64 << 20) else { return };
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let mut config = sandbox("together");
    config.linux.as_mut().unwrap().cgroup_parent = parent;
    let pod = daemon.run_pod(config).await;
    let grows = |name: &str| {
        let mut config = container(name, &image);
        config.args =
            ["grow", "40", "--", "say", "grown", "--", "idle"].map(str::to_owned).to_vec();
        config
    };
    let first = pod.run(grows("first")).await;
    first.says("grown").await;
    let second = pod.run(grows("second")).await.exit().await;
    assert_eq!((second.exit_code, second.reason.as_str()), (137, "OOMKilled"));
    assert!(second.message.contains("pod's containers together is 67108864"), "{}", second.message);
    assert_eq!(first.status().await.unwrap().state(), cri::ContainerState::ContainerRunning);
    // Another pod has nothing of it.
    let other = daemon.run_pod(sandbox("other")).await;
    assert_eq!(
        other.output_of("main", &image, &["grow", "80", "--", "say", "grown"]).await.lines().last(),
        Some("grown")
    );
    pod.remove().await;
}
