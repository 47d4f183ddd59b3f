//! UpdatePodSandboxResources: what is refused, what is recorded, and what is applied.

use support::{Container, Daemon, Pod, container, sandbox};
use tonic::Code;
use wasmpod::proto::cri;

use crate::limits::PodGroup;
use crate::support;

type Resources = cri::LinuxContainerResources;

pub async fn update(
    pod: &Pod,
    overhead: Option<Resources>,
    resources: Option<Resources>,
) -> Result<(), tonic::Status> {
    let pod_sandbox_id = pod.id.clone();
    let request = cri::UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead, resources };
    pod.client.clone().update_pod_sandbox_resources(request).await.map(drop)
}

/// What crictl inspectp shows of a pod's resources.
pub async fn recorded(daemon: &Daemon, pod: &Pod) -> serde_json::Value {
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let answer = daemon.runtime().pod_sandbox_status(request).await.unwrap().into_inner();
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    serde_json::json!({ "overhead": info["overhead"], "resources": info["resources"] })
}

async fn idle(pod: &Pod, image: &str, name: &str, cpus: &str) -> Container {
    let mut config = container(name, image);
    config.args = ["say", "up", "--", "idle"].map(str::to_owned).to_vec();
    config.linux = Some(cri::LinuxContainerConfig {
        resources: Some(Resources { cpuset_cpus: cpus.to_owned(), ..Default::default() }),
        ..Default::default()
    });
    let container = pod.run(config).await;
    container.says("up").await;
    container
}

/// The CPUs that a thread may run on whose name begins so, in the pod's shim.
fn cpus_of(daemon: &Daemon, what: char, id: &str) -> Vec<String> {
    let name = format!("{what}-{}", &id[..12]);
    let threads = |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut found = Vec::new();
    for thread in daemon.shims().iter().flat_map(threads).flatten() {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let line = |key: &str| {
            status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("").trim().to_owned()
        };
        if line("Name:") == name {
            found.push(line("Cpus_allowed_list:"));
        }
    }
    found
}

#[tokio::test]
async fn what_is_said_is_recorded_merged_and_survives_a_kill() {
    let mut daemon = Daemon::start().await;
    let pod = daemon.run_pod(sandbox("recorded")).await;
    let overhead = Resources { memory_limit_in_bytes: 5 << 20, ..Default::default() };
    let resources = Resources { cpu_shares: 512, cpu_quota: 50_000, ..Default::default() };
    update(&pod, Some(overhead), Some(resources)).await.unwrap();
    let more = Resources { memory_limit_in_bytes: 1 << 30, cpu_shares: 1024, ..Default::default() };
    update(&pod, None, Some(more)).await.unwrap();
    let before = recorded(&daemon, &pod).await;
    assert_eq!(before["overhead"]["memory_limit"], 5 << 20, "{before}");
    assert_eq!(before["resources"]["memory_limit"], 1 << 30, "{before}");
    assert_eq!(before["resources"]["cpu_shares"], 1024, "{before}");
    assert_eq!(before["resources"]["cpu_quota"], 50_000, "what is not said stays: {before}");
    daemon.restart().await;
    assert_eq!(recorded(&daemon, &pod).await, before);
}

#[tokio::test]
async fn bad_values_and_unknown_pods_change_nothing() {
    let daemon = Daemon::start().await;
    let pod = daemon.run_pod(sandbox("bad")).await;
    let before = recorded(&daemon, &pod).await;
    let good = Resources { cpu_shares: 7, ..Default::default() };
    let text = |cpus: &str, mems: &str| Resources {
        cpuset_cpus: cpus.to_owned(),
        cpuset_mems: mems.to_owned(),
        ..good.clone()
    };
    for (bad, says) in [
        (Resources { memory_limit_in_bytes: -1, ..good.clone() }, "memory_limit_in_bytes = -1"),
        (Resources { cpu_quota: -5, ..good.clone() }, "cpu_quota = -5"),
        (Resources { oom_score_adj: 5000, ..good.clone() }, "oom_score_adj = 5000"),
        (text("one", ""), "one"),
        (text("4000", ""), "4000"),
        (text("", "4000"), "memory node 4000"),
        (
            Resources {
                unified: [("x".to_owned(), "y".repeat(1 << 20))].into(),
                ..Default::default()
            },
            "limit of",
        ),
    ] {
        let status = update(&pod, Some(good.clone()), Some(bad.clone())).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(says), "{status:?}");
    }
    assert_eq!(recorded(&daemon, &pod).await, before);
    let unknown = Pod { id: "no-such".to_owned(), ..pod.clone() };
    let status = update(&unknown, None, Some(good.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    pod.stop().await;
    let status = update(&pod, None, Some(good)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}

#[tokio::test]
async fn a_pods_cpus_are_those_of_its_threads_and_of_containers_without_their_own() {
    let all = std::thread::available_parallelism().unwrap().get();
    if all < 2 {
        eprintln!("SKIPPED: pinning needs two CPUs");
        return;
    }
    let mut daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("pinned")).await;
    let follows = idle(&pod, &image, "follows", "").await;
    let own = idle(&pod, &image, "own", "1").await;
    let cpus = |text: &str| Resources { cpuset_cpus: text.to_owned(), ..Default::default() };
    update(&pod, None, Some(cpus("0"))).await.unwrap();
    let pinned = |daemon: &Daemon, what: char, id: &str, text: &str| {
        let found = cpus_of(daemon, what, id);
        assert!(!found.is_empty() && found.iter().all(|cpus| cpus == text), "{found:?}");
    };
    pinned(&daemon, 's', &pod.id, "0");
    pinned(&daemon, 'c', &follows.id, "0");
    pinned(&daemon, 'c', &own.id, "1");
    let later = idle(&pod, &image, "later", "").await;
    pinned(&daemon, 'c', &later.id, "0");
    daemon.restart().await;
    update(&pod, None, Some(cpus("1"))).await.unwrap();
    for id in [&follows.id, &later.id, &own.id] {
        pinned(&daemon, 'c', id, "1");
    }
}

#[tokio::test]
async fn the_limit_of_the_pods_cgroup_is_read_anew() {
    if !support::root_for("cgroups") {
        return;
    }
    let Some((group, parent)) = PodGroup::with_limit("anew", 64 << 20) else { return };
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let mut config = sandbox("resized");
    config.linux.as_mut().unwrap().cgroup_parent = parent;
    let pod = daemon.run_pod(config).await;
    let grow = |name: &str| {
        let mut config = container(name, &image);
        config.args = ["grow", "80", "--", "say", "grown"].map(str::to_owned).to_vec();
        config
    };
    let first = pod.run(grow("first")).await.exit().await;
    assert_eq!(first.reason, "OOMKilled");
    group.set(256 << 20).unwrap();
    let resources = Resources { memory_limit_in_bytes: 256 << 20, ..Default::default() };
    update(&pod, None, Some(resources)).await.unwrap();
    let second = pod.run(grow("second")).await.exit().await;
    assert_eq!((second.exit_code, second.reason.as_str()), (0, "Completed"), "{}", second.message);
    pod.remove().await;
}
