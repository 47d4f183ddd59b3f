//! Daemons and shims that are killed: what lives on, what is told, and that nothing is left.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use crate::support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::{Daemon, container, eventually, eventually_async, sandbox};
use wasmpod::proto::cri::{self, ContainerState, PodSandboxState};
use wasmpod::proto::shim::shim_client::ShimClient;
use wasmpod::proto::shim::{StateRequest, StateResponse};

const FOR_EVER: u64 = 3600;

/// Sleeps so many milliseconds, then exits with 7.
fn sleeper(milliseconds: u64) -> String {
    let nanoseconds = milliseconds * 1_000_000;
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start")
                (i32.store (i32.const 16) (i32.const 1))
                (i64.store (i32.const 24) (i64.const {nanoseconds}))
                (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
                (call $exit (i32.const 7))))"#
    )
}

async fn import(daemon: &Daemon, name: &str, text: &str) -> String {
    let file = daemon.path().join(format!("{name}.wasm"));
    fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
    daemon.import_file(&file, name).await
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// What each shim says that it holds.
async fn held(daemon: &Daemon) -> Vec<StateResponse> {
    let folder = daemon.state().join("shims");
    let mut all = Vec::new();
    for name in names_in(&folder) {
        let socket = folder.join(name).join("shim.sock");
        let Ok(channel) = wasmpod::cri::client::connect(&socket).await else { continue };
        let state = ShimClient::new(channel).state(StateRequest::default()).await;
        all.extend(state.map(tonic::Response::into_inner));
    }
    all
}

/// Waits until neither folders nor shims hold anything of a pod.
async fn is_empty(daemon: &Daemon) {
    eventually("no folder of a pod is left", || {
        let roots = names_in(&daemon.root().join("roots"));
        let pods = names_in(&daemon.state().join("sandboxes"));
        (roots.is_empty() && pods.is_empty()).then_some(())
    })
    .await;
    eventually_async("no shim holds a pod", || async {
        let held = held(daemon).await;
        let empty =
            |state: &StateResponse| state.sandboxes.is_empty() && state.containers.is_empty();
        held.iter().all(empty).then_some(())
    })
    .await;
}

#[tokio::test]
async fn pods_and_their_guests_outlive_the_daemon() {
    let mut daemon = Daemon::start().await;
    let image = import(&daemon, "sleeper", &sleeper(FOR_EVER * 1000)).await;
    let pod = daemon.run_pod(sandbox("survivor")).await;
    let guest = pod.run(container("guest", &image)).await;
    let created = pod.create(container("created", &image)).await;
    let (before, shims) = (guest.status().await.unwrap(), daemon.shims());

    daemon.restart().await;
    assert_eq!(daemon.shims(), shims);
    assert_eq!(guest.status().await.unwrap(), before);
    assert_eq!(pod.status().await.unwrap().state(), PodSandboxState::SandboxReady);
    created.start().await.unwrap();
    guest.stop(30).await;
    let after = guest.status().await.unwrap();
    assert_eq!((after.exit_code, after.started_at), (143, before.started_at));
    pod.remove().await;
    is_empty(&daemon).await;
}

#[tokio::test]
async fn an_exit_while_the_daemon_is_away_is_not_lost() {
    let mut daemon = Daemon::start().await;
    let image = import(&daemon, "napper", &sleeper(500)).await;
    let pod = daemon.run_pod(sandbox("napper")).await;
    let guest = pod.run(container("guest", &image)).await;
    daemon.kill();
    let folder = daemon.state().join("shims");
    eventually("the shim writes the exit down", || {
        let journals = names_in(&folder).into_iter().map(|name| folder.join(name).join("exits"));
        let told = |path: std::path::PathBuf| {
            fs::read_to_string(path).is_ok_and(|t| t.contains(&guest.id))
        };
        journals.into_iter().any(told).then_some(())
    })
    .await;
    daemon.restart().await;
    let status = guest.status().await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerExited);
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(status.finished_at > status.started_at && status.started_at > 0);
}

#[tokio::test]
async fn a_killed_shims_containers_are_lost_and_the_next_pod_gets_another() {
    let daemon = Daemon::start().await;
    let image = import(&daemon, "sleeper", &sleeper(FOR_EVER * 1000)).await;
    let napper = import(&daemon, "napper", &sleeper(1)).await;
    let pod = daemon.run_pod(sandbox("victim")).await;
    let guest = pod.run(container("guest", &image)).await;
    let ended = pod.run(container("ended", &napper)).await;
    assert_eq!(ended.exit().await.exit_code, 7);
    let old = daemon.shims();
    old.iter().for_each(|pid| kill(*pid));

    let status = guest.exit().await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    assert!(status.finished_at > 0);
    assert_eq!(ended.status().await.unwrap().exit_code, 7);
    eventually_async("the pod is not ready", || async {
        let state = pod.status().await.unwrap().state();
        (state == PodSandboxState::SandboxNotready).then_some(())
    })
    .await;

    let next = daemon.run_pod(sandbox("next")).await;
    next.run(container("guest", &image)).await;
    assert!(daemon.shims().iter().all(|pid| !old.contains(pid)));
    pod.stop().await;
    guest.stop(1).await;
    pod.remove().await;
    next.remove().await;
    is_empty(&daemon).await;
    let folders = names_in(&daemon.state().join("shims"));
    assert!(folders.len() <= 2, "{folders:?}");
}

#[tokio::test]
async fn a_shim_killed_while_the_daemon_is_away_is_found_dead() {
    let mut daemon = Daemon::start().await;
    let image = import(&daemon, "sleeper", &sleeper(FOR_EVER * 1000)).await;
    let pod = daemon.run_pod(sandbox("victim")).await;
    let guest = pod.run(container("guest", &image)).await;
    let shims = daemon.shims();
    daemon.kill();
    shims.iter().for_each(|pid| kill(*pid));
    daemon.restart().await;
    let status = guest.status().await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    assert_eq!(pod.status().await.unwrap().state(), PodSandboxState::SandboxNotready);
    pod.remove().await;
    is_empty(&daemon).await;
}

#[tokio::test]
async fn an_isolated_pods_shim_is_its_own_and_ends_with_it() {
    let daemon = Daemon::start().await;
    let image = import(&daemon, "sleeper", &sleeper(FOR_EVER * 1000)).await;
    let shared = daemon.run_pod(sandbox("shared")).await;
    let before = daemon.shims();
    let pod = daemon.run_pod_with(sandbox("own"), "wasm-isolated").await;
    pod.run(container("guest", &image)).await;
    let own: Vec<u32> = daemon.shims().into_iter().filter(|pid| !before.contains(pid)).collect();
    assert_eq!(own.len(), 1);
    if support::root_for("cgroups") {
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", own[0])).unwrap();
        assert!(cgroup.contains(&format!("pod-{}", pod.id)), "{cgroup}");
    }
    pod.remove().await;
    assert!(!daemon.shims().contains(&own[0]));
    assert_eq!(names_in(&daemon.state().join("shims")).len(), daemon.shims().len());
    shared.remove().await;
    is_empty(&daemon).await;
}

#[tokio::test]
async fn a_cgroup_parent_that_was_made_for_pods_goes_with_the_last_one() {
    if !support::root_for("cgroups") {
        return;
    }
    let mut daemon = Daemon::start().await;
    let top = format!("wasmpod-tests-parent-{}", std::process::id());
    let there = || {
        let roots = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        let roots = roots.chain(["/sys/fs/cgroup".into()]);
        roots.filter(|root| root.join(&top).exists()).count()
    };
    let mut pods = Vec::new();
    for name in ["first", "second"] {
        let mut config = sandbox(name);
        config.linux.as_mut().unwrap().cgroup_parent = format!("/{top}/inner");
        pods.push(daemon.run_pod_with(config, "wasm-isolated").await);
    }
    assert!(there() > 0);
    pods.remove(0).remove().await;
    assert!(there() > 0, "the second pod is inside");
    daemon.restart().await;
    pods.remove(0).remove().await;
    eventually("the parent is gone", || (there() == 0).then_some(())).await;
    is_empty(&daemon).await;
}

#[tokio::test]
async fn daemon_and_shims_use_no_cpu_while_nothing_is_asked() {
    let daemon = Daemon::start().await;
    let image = import(&daemon, "sleeper", &sleeper(FOR_EVER * 1000)).await;
    daemon.run_pod(sandbox("idle")).await.run(container("guest", &image)).await;
    // User and system time in hundredths of a second.
    let ticks = || -> Vec<String> {
        let pids = daemon.shims().into_iter().chain([daemon.pid()]);
        let stats = pids.map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap());
        stats
            .flat_map(|stat| {
                let after_name = stat.rsplit(") ").next().unwrap();
                after_name.split(' ').skip(11).take(2).map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    };
    let (mut seen, mut quiet_since) = (ticks(), Instant::now());
    eventually("they sleep for two seconds", || {
        let now = ticks();
        if now != seen {
            (seen, quiet_since) = (now, Instant::now());
        }
        (quiet_since.elapsed() >= Duration::from_secs(2)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_shim_is_followed_by_the_next_and_empty_ones_end() {
    let daemon = Daemon::start_with("[shim]\nmax_pods = 2\n").await;
    let mut pods = Vec::new();
    for number in 0..5 {
        pods.push(daemon.run_pod(sandbox(&format!("pod-{number}"))).await);
    }
    assert!(held(&daemon).await.iter().all(|state| state.sandboxes.len() <= 2));
    assert!(daemon.shims().len() >= 3);
    for pod in &pods {
        pod.remove().await;
    }
    is_empty(&daemon).await;
    eventually("one spare shim is left", || (daemon.shims().len() <= 1).then_some(())).await;
}

#[tokio::test]
async fn a_name_is_reserved_and_free_again_after_removal() {
    let mut daemon = Daemon::start().await;
    let config = sandbox("twin");
    let pod = daemon.run_pod(config.clone()).await;
    daemon.restart().await;
    let error = daemon.try_run_pod(config.clone(), "").await.err().unwrap();
    assert!(error.message().contains("is reserved for"), "{error}");
    assert!(error.message().contains(&pod.id), "{error}");
    pod.remove().await;
    daemon.run_pod(config).await;
}

/// Makes and removes pods until the daemon is gone.
async fn churn(daemon: &Daemon, name: &str, image: &str) {
    for _ in 0..1000 {
        let Ok(pod) = daemon.try_run_pod(sandbox(name), "").await else { return };
        let Ok(guest) = pod.try_create(container("guest", image)).await else { return };
        if guest.start().await.is_err() {
            return;
        }
        let stop = cri::StopContainerRequest { container_id: guest.id.clone(), timeout: 1 };
        if pod.client.clone().stop_container(stop).await.is_err() {
            return;
        }
        let status = guest.status().await;
        assert!(status.is_err() || status.unwrap().exit_code == 143);
        let remove = cri::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        if pod.client.clone().remove_pod_sandbox(remove).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_the_daemon_leaves_nothing_half_done() {
    let mut daemon = Daemon::start().await;
    let image = import(&daemon, "sleeper", &sleeper(FOR_EVER * 1000)).await;
    for round in 0u64..12 {
        let pid = daemon.pid();
        let killer = async {
            // Every round's kill comes at another point of the pods' lives.
            tokio::time::sleep(Duration::from_micros(7_300 * (round + 1))).await;
            kill(pid);
        };
        let names = ["a", "b", "c"];
        let work = futures::future::join_all(names.map(|name| churn(&daemon, name, &image)));
        tokio::join!(killer, work);
        daemon.restart().await;

        let mut client = daemon.runtime();
        let listed = client.list_containers(cri::ListContainersRequest::default()).await.unwrap();
        let held = held(&daemon).await;
        let held: Vec<_> = held.iter().flat_map(|state| &state.containers).collect();
        for container in listed.into_inner().containers {
            let state = container.state();
            let told = held.iter().find(|told| told.id == container.id).map(|told| told.phase());
            use wasmpod::proto::shim::container_state::Phase;
            let expected = match told {
                Some(Phase::Created) => ContainerState::ContainerCreated,
                Some(Phase::Running) => ContainerState::ContainerRunning,
                Some(Phase::Exited) | None => ContainerState::ContainerExited,
            };
            assert_eq!(state, expected, "round {round}: {} {told:?}", container.id);
        }
        let pods = client.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await.unwrap();
        for pod in pods.into_inner().items {
            let request = cri::RemovePodSandboxRequest { pod_sandbox_id: pod.id };
            client.remove_pod_sandbox(request).await.unwrap();
        }
        is_empty(&daemon).await;
    }
}
