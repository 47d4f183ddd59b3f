//! Threads in system calls that no signal ends: a stop answers all the same, says so where an
//! operator looks, and harms nobody else.

use crate::support;

use std::time::{Duration, Instant};

use support::{Container, Daemon, Tarpit, container, eventually, eventually_async, mount, sandbox};
use wasmpod::proto::cri::{self, ContainerState};

/// What ContainerStatus tells of it besides the status.
async fn info(of: &Container) -> serde_json::Value {
    let request = cri::ContainerStatusRequest { container_id: of.id.clone(), verbose: true };
    let answer = of.pod.client.clone().container_status(request).await.unwrap().into_inner();
    serde_json::from_str(&answer.info["info"]).unwrap()
}

fn threads(shims: &[u32]) -> usize {
    let count =
        |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    shims.iter().map(count).sum()
}

#[tokio::test]
async fn a_thread_that_no_signal_frees_is_left_told_and_cleaned_up_when_it_returns() {
    if !support::root_for("FUSE") {
        return;
    }
    let daemon = Daemon::start().await;
    let at = daemon.path().join("tarpit");
    std::fs::create_dir(&at).unwrap();
    let Some(tarpit) = Tarpit::at(&at) else { return };
    let image = daemon.import("probe").await;
    let beside = {
        let mut config = container("beside", &image);
        config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
        daemon.run_pod(sandbox("beside")).await.run(config).await
    };
    beside.says("here").await;
    let shims = daemon.shims();
    let before = threads(&shims);

    let pod = daemon.run_pod(sandbox("stuck")).await;
    let mut config = container("stuck", &image);
    config.mounts = vec![mount(&at, "/data")];
    config.args = ["read", "/data/file"].map(str::to_owned).to_vec();
    let stuck = pod.run(config.clone()).await;
    eventually("the guest waits", || (tarpit.waiting() == 1).then_some(())).await;
    assert_eq!(info(&stuck).await["stuckThreads"], 0);

    let asked = Instant::now();
    stuck.stop(1).await;
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let status = stuck.status().await.unwrap();
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137));
    assert!(status.message.contains("stuck in a system call"), "{}", status.message);
    assert_eq!(info(&stuck).await["stuckThreads"], 1);
    assert!(daemon.own_log().contains("threads stay in a system call"), "{}", daemon.own_log());

    // Its pod takes the next container, its neighbour goes on.
    assert_eq!(pod.output_of("next", &image, &["say", "next"]).await, "next\n");
    assert_eq!(beside.exec(&["probe", "exit", "3"], 10).await.unwrap().exit_code, 3);
    stuck.remove().await;
    pod.stop().await;
    pod.remove().await;
    assert_eq!(beside.status().await.unwrap().state(), ContainerState::ContainerRunning);
    assert_eq!(daemon.shims(), shims);

    // When the call returns at last, nothing of it stays.
    assert!(threads(&shims) > before - 1);
    tarpit.let_go();
    eventually("the thread ends", || (threads(&shims) <= before).then_some(())).await;
    for pid in &shims {
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        assert!(!mounts.lines().any(|line| line.contains(stuck.id.as_str())), "{mounts}");
    }
    assert!(!daemon.root().join("roots").join(&stuck.id).exists());
}

#[tokio::test]
async fn an_exec_that_no_signal_frees_ends_for_its_caller() {
    if !support::root_for("FUSE") {
        return;
    }
    let daemon = Daemon::start().await;
    let at = daemon.path().join("tarpit");
    std::fs::create_dir(&at).unwrap();
    let Some(tarpit) = Tarpit::at(&at) else { return };
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("stuck")).await;
    let mut config = container("main", &image);
    config.mounts = vec![mount(&at, "/data")];
    config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
    let main = pod.run(config).await;
    main.says("here").await;
    let late = main.exec(&["probe", "read", "/data/file"], 1).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded, "{late}");
    assert_eq!(tarpit.waiting(), 1);
    assert_eq!(info(&main).await["stuckThreads"], 1);
    assert_eq!(main.exec(&["probe", "exit", "3"], 10).await.unwrap().exit_code, 3);

    // One that nobody limits ends with its container.
    let endless = {
        let main = main.clone();
        tokio::spawn(async move { main.exec(&["probe", "read", "/data/file"], 0).await })
    };
    eventually("both wait", || (tarpit.waiting() == 2).then_some(())).await;
    main.stop(0).await;
    assert_eq!(main.status().await.unwrap().exit_code, 137);
    let _ = endless.await.unwrap();
    tarpit.let_go();
    eventually_async("both are gone", || async {
        (info(&main).await["stuckThreads"] == 0).then_some(())
    })
    .await;
}
