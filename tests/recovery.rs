//! Kill -9 at any moment: of the daemon, of a shim. Guests run on, exits and log lines stay,
//! what was half made is finished or gone, nothing leaks.

use crate::support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{
    Container, Daemon, Moments, container, env, eventually, eventually_async, mount, sandbox,
};
use wasmpod::proto::cri;

async fn run(daemon: &Daemon, image: &str, args: &[&str]) -> Container {
    let mut config = container("main", image);
    config.args = args.iter().map(|word| (*word).to_owned()).collect();
    daemon.run_pod(sandbox("pod")).await.run(config).await
}

#[tokio::test]
async fn a_guest_runs_on_while_the_daemon_is_dead_and_loses_nothing() {
    let mut daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let go = daemon.path().join("go");
    std::fs::create_dir(&go).unwrap();
    let mut config = container("main", &image);
    config.mounts = vec![mount(&go, "/go")];
    config.args = ["say", "here", "--", "await", "/go/now", "--", "flood", "1", "--", "exit", "42"]
        .map(str::to_owned)
        .to_vec();
    let main = daemon.run_pod(sandbox("lives")).await.run(config).await;
    main.says("here").await;
    let shims = daemon.shims();
    daemon.kill();
    std::fs::write(go.join("now"), "").unwrap();
    eventually("the guest ends while nobody watches", || {
        (main.log().text("stdout").lines().count() == 2 + (1 << 20) / 100).then_some(())
    })
    .await;
    daemon.restart().await;
    let status = main.exit().await;
    assert_eq!((status.exit_code, status.reason.as_str()), (42, "Error"));
    assert_eq!(daemon.shims(), shims);
    // And what runs now is this daemon's to command.
    let next = run(&daemon, &image, &["say", "here", "--", "idle"]).await;
    next.says("here").await;
    daemon.restart().await;
    assert_eq!(next.status().await.unwrap().state(), cri::ContainerState::ContainerRunning);
    assert_eq!(next.exec(&["probe", "exit", "0"], 0).await.unwrap().exit_code, 0);
    next.stop(0).await;
    assert_eq!(next.status().await.unwrap().exit_code, 137);
}

#[tokio::test]
async fn a_killed_shim_takes_its_pods_and_no_others() {
    let mut daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let ended = run(&daemon, &image, &["exit", "5"]).await;
    ended.exit().await;
    let lost = run(&daemon, &image, &["say", "here", "--", "idle"]).await;
    lost.says("here").await;
    for pid in daemon.shims() {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    let status = lost.exit().await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"), "{}", status.message);
    assert!(status.finished_at > 0);
    eventually_async("its sandbox is not ready", || async {
        (lost.pod.status().await.unwrap().state() == cri::PodSandboxState::SandboxNotready)
            .then_some(())
    })
    .await;
    assert_eq!(ended.status().await.unwrap().exit_code, 5);
    let next = run(&daemon, &image, &["exit", "6"]).await;
    assert_eq!(next.exit().await.exit_code, 6);
    lost.pod.remove().await;
    daemon.restart().await;
    assert_eq!(next.status().await.unwrap().exit_code, 6);
    assert_eq!(lost.status().await.unwrap_err().code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_shim_killed_while_the_daemon_is_dead_still_tells_its_exits() {
    let mut daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let go = daemon.path().join("go");
    std::fs::create_dir(&go).unwrap();
    let mut config = container("main", &image);
    config.mounts = vec![mount(&go, "/go")];
    config.args =
        ["await", "/go/now", "--", "say", "bye", "--", "exit", "9"].map(str::to_owned).to_vec();
    let told = daemon.run_pod(sandbox("told")).await.run(config).await;
    let lost = run(&daemon, &image, &["say", "here", "--", "idle"]).await;
    lost.says("here").await;
    let shims = daemon.shims();
    daemon.kill();
    std::fs::write(go.join("now"), "").unwrap();
    told.says("bye").await;
    daemon.exit_is_in_the_journal(&told.id).await;
    for pid in shims {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    daemon.restart().await;
    assert_eq!(told.status().await.unwrap().exit_code, 9);
    let status = lost.status().await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
}

/// Clients that make, run and remove pods without end, while the daemon is killed at random
/// moments. WASMPOD_KILLS sets how often (12 unless told).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_it_always_comes_back_true() {
    let kills: u64 =
        std::env::var("WASMPOD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let mut daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let steady = run(&daemon, &image, &["say", "here", "--", "idle"]).await;
    steady.says("here").await;
    let (made, mut workers) = clients(&daemon, &image, &[7]);
    let mut moments = Moments::new(0);
    for _ in 0..kills {
        moments.pass(Duration::from_millis(400), &mut workers).await;
        daemon.restart().await;
        assert_eq!(steady.status().await.unwrap().state(), cri::ContainerState::ContainerRunning);
    }
    eventually("the workers get pods through", || (made.load(Ordering::Relaxed) > 3).then_some(()))
        .await;
    end(workers).await;
    daemon.restart().await;
    comes_out_clean(daemon, &[7, 137, 143]).await;
}

/// The same clients while all shims are killed at random moments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shims_killed_at_random_moments_lose_their_pods_and_nothing_else() {
    const KILLS: usize = 6;
    let mut daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let (made, workers) = clients(&daemon, &image, &[7, 255]);
    let mut moments = Moments::new(1);
    for _ in 0..KILLS {
        // A shim that has just died may be asked before that is known.
        let pod = eventually_async("a new shim serves the next pod", || async {
            daemon.try_run_pod(sandbox("lost"), "").await.ok()
        })
        .await;
        let mut config = container("main", &image);
        config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
        let lost = pod.run(config).await;
        lost.says("here").await;
        let ended = lost.exit();
        let ended = tokio::time::timeout(moments.next(Duration::from_millis(300)), ended).await;
        assert!(ended.is_err(), "{ended:?}");
        for pid in daemon.shims() {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let status = lost.exit().await;
        assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"), "{status:?}");
        eventually_async("its sandbox is not ready", || async {
            let status = lost.pod.status().await.unwrap();
            (status.state() == cri::PodSandboxState::SandboxNotready).then_some(())
        })
        .await;
        lost.pod.remove().await;
    }
    let before = made.load(Ordering::Relaxed);
    eventually("the workers get pods through", || {
        (made.load(Ordering::Relaxed) > before + 3).then_some(())
    })
    .await;
    end(workers).await;
    daemon.restart().await;
    comes_out_clean(daemon, &[7, 137, 143, 255]).await;
}

/// Clients that make, run and remove pods without end, and how many came through. `codes` are
/// the exits that their guests may have.
fn clients(
    daemon: &Daemon,
    image: &str,
    codes: &'static [i32],
) -> (Arc<AtomicUsize>, Vec<tokio::task::JoinHandle<()>>) {
    let made = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            let (client, image, made) = (daemon.runtime(), image.to_owned(), made.clone());
            let logs = daemon.logs();
            tokio::spawn(async move {
                for round in 0.. {
                    // Every step may meet a dead process: then on to the next pod.
                    let name = format!("w{worker}-{round}");
                    if let Some(code) = one_pod(client.clone(), &name, &image, &logs).await {
                        assert!(codes.contains(&code), "{name} exited with {code}");
                        made.fetch_add(usize::from(code == 7), Ordering::Relaxed);
                    } else {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        })
        .collect();
    (made, workers)
}

async fn end(workers: Vec<tokio::task::JoinHandle<()>>) {
    for worker in workers {
        worker.abort();
        if let Err(ended) = worker.await
            && ended.is_panic()
        {
            std::panic::resume_unwind(ended.into_panic());
        }
    }
}

/// Every record is true: what is listed answers, exits are among `codes`, everything can be
/// removed, and nothing of it is left.
async fn comes_out_clean(mut daemon: Daemon, codes: &[i32]) {
    let mut client = daemon.runtime();
    let containers =
        client.list_containers(cri::ListContainersRequest::default()).await.unwrap().into_inner();
    for listed in &containers.containers {
        let request =
            cri::ContainerStatusRequest { container_id: listed.id.clone(), verbose: false };
        let status = client.container_status(request).await.unwrap().into_inner().status.unwrap();
        if status.state() == cri::ContainerState::ContainerExited {
            assert!(codes.contains(&status.exit_code), "{status:?}");
        }
    }
    let pods =
        client.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await.unwrap().into_inner();
    for pod in &pods.items {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        client.remove_pod_sandbox(request).await.unwrap();
    }
    for (folder, what) in [
        (daemon.root().join("roots"), "writable roots"),
        (daemon.state().join("sandboxes"), "sandboxes' folders"),
    ] {
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{what} left: {left:?}");
    }
    for shim in daemon.shims() {
        let threads = || std::fs::read_dir(format!("/proc/{shim}/task")).map_or(0, Iterator::count);
        eventually("the shim's guests' threads are gone", || (threads() <= 8).then_some(())).await;
        let mounts = std::fs::read_to_string(format!("/proc/{shim}/mountinfo")).unwrap_or_default();
        assert!(!mounts.contains(" - overlay wasmpod "), "{mounts}");
        let open = std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap().flatten();
        let namespaces = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let left: Vec<_> =
            namespaces.filter(|link| link.to_string_lossy().starts_with("net:")).collect();
        assert!(left.is_empty(), "network namespaces left: {left:?}");
    }
    let names = daemon.shim_names();
    daemon.terminate().await;
    assert_eq!(daemon.shims(), Vec::<u32>::new(), "shims left");
    assert_eq!(daemon.shim_names(), Vec::<String>::new(), "shims' folders left");
    assert_eq!(daemon.cgroups(&names), Vec::<std::path::PathBuf>::new(), "cgroups left");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for folder in [daemon.root(), daemon.state()] {
        assert!(!mounts.contains(folder.to_str().unwrap()), "{mounts}");
    }
}

async fn one_pod(
    mut client: wasmpod::proto::cri::runtime_service_client::RuntimeServiceClient<
        tonic::transport::Channel,
    >,
    name: &str,
    image: &str,
    logs: &std::path::Path,
) -> Option<i32> {
    let mut pod = sandbox(name);
    pod.log_directory = logs.display().to_string();
    if name.starts_with("w1-") {
        // A network of its own.
        pod.linux = None;
    }
    let request = cri::RunPodSandboxRequest { config: Some(pod.clone()), ..Default::default() };
    let id = client.run_pod_sandbox(request).await.ok()?.into_inner().pod_sandbox_id;
    let mut config = container("main", image);
    config.log_path = format!("{name}.log");
    config.envs = vec![env("NAME", name)];
    config.args = ["say", name, "--", "exit", "7"].map(str::to_owned).to_vec();
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: id.clone(),
        config: Some(config),
        sandbox_config: Some(pod),
    };
    let container = client.create_container(request).await.ok()?.into_inner().container_id;
    let request = cri::StartContainerRequest { container_id: container.clone() };
    client.start_container(request).await.ok()?;
    let code = loop {
        let request =
            cri::ContainerStatusRequest { container_id: container.clone(), verbose: false };
        let status = client.container_status(request).await.ok()?.into_inner().status?;
        if status.state() == cri::ContainerState::ContainerExited {
            break status.exit_code;
        }
    };
    if code == 7 {
        let text = std::fs::read_to_string(logs.join(format!("{name}.log"))).unwrap();
        assert!(text.contains(&format!("stdout F {name}\n")), "{text:?}");
    }
    client.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: id }).await.ok()?;
    Some(code)
}
