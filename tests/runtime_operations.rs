//! The core's operations on running containers, through CRI: exec, limits, usage, stopping that
//! overtakes, removal.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use crate::support;

use std::fs;
use std::time::{Duration, Instant};

use support::{Container, Daemon, container, sandbox};
use tonic::Code;
use wasmpod::proto::cri::{self, ContainerState, PodSandboxState};

/// Sleeps so many milliseconds, then exits with 7.
fn sleeper(milliseconds: u64) -> Vec<u8> {
    let nanoseconds = milliseconds * 1_000_000;
    wat::parse_str(format!(
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
    ))
    .unwrap()
}

async fn sleeping_image(daemon: &Daemon) -> String {
    let file = daemon.path().join("sleeper.wasm");
    fs::write(&file, sleeper(3_600_000)).unwrap();
    daemon.import_file(&file, "sleeper").await
}

async fn update(guest: &Container, memory: i64, cpus: &str) -> Result<(), tonic::Status> {
    let request = cri::UpdateContainerResourcesRequest {
        container_id: guest.id.clone(),
        linux: Some(cri::LinuxContainerResources {
            memory_limit_in_bytes: memory,
            cpuset_cpus: cpus.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    guest.pod.client.clone().update_container_resources(request).await.map(drop)
}

async fn limits(guest: &Container) -> (i64, String) {
    let linux = guest.status().await.unwrap().resources.unwrap().linux.unwrap();
    (linux.memory_limit_in_bytes, linux.cpuset_cpus)
}

#[tokio::test]
async fn exec_runs_a_mounted_program_says_what_else_there_is_and_keeps_its_deadline() {
    let daemon = Daemon::start().await;
    let image = sleeping_image(&daemon).await;
    let tools = daemon.path().join("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("nap.wasm"), sleeper(1)).unwrap();
    let pod = daemon.run_pod(sandbox("exec")).await;
    let mut config = container("guest", &image);
    config.mounts = vec![support::mount_read_only(&tools, "/tools")];
    let guest = pod.run(config).await;

    for _ in 0..2 {
        let answer = guest.exec(&["/tools/nap.wasm"], 30).await.unwrap();
        assert_eq!(answer.exit_code, 7);
    }
    let error = guest.exec(&["sh", "-c", "true"], 30).await.unwrap_err();
    assert!(error.message().contains("no program \"sh\""), "{error}");
    assert!(error.message().contains(".wasm"), "{error}");
    let late = guest.exec(&["sleeper"], 1).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    let entries = fs::read_dir(daemon.root().join("execs")).unwrap().count();
    assert_eq!(entries, 0);
    guest.stop(0).await;
    assert!(guest.exec(&["sleeper"], 1).await.is_err());
}

#[tokio::test]
async fn limits_change_as_asked_or_not_at_all_and_are_remembered() {
    let mut daemon = Daemon::start().await;
    let image = sleeping_image(&daemon).await;
    let pod = daemon.run_pod(sandbox("limits")).await;
    let guest = pod.run(container("guest", &image)).await;
    update(&guest, 64 << 20, "0").await.unwrap();
    assert_eq!(limits(&guest).await, (64 << 20, "0".to_owned()));
    for (memory, cpus) in [(32 << 20, "0-x"), (32 << 20, "8000"), (-1, "0")] {
        assert!(update(&guest, memory, cpus).await.is_err(), "{memory} {cpus}");
    }
    daemon.restart().await;
    assert_eq!(limits(&guest).await, (64 << 20, "0".to_owned()));
    let stats = cri::ContainerStatsRequest { container_id: guest.id.clone() };
    let stats = daemon.runtime().container_stats(stats).await.unwrap().into_inner();
    let memory = stats.stats.unwrap().memory.unwrap();
    assert!(memory.working_set_bytes.unwrap().value >= 65536);
}

#[tokio::test]
async fn a_hasty_stop_overtakes_a_patient_one() {
    let daemon = Daemon::start().await;
    let image = sleeping_image(&daemon).await;
    let pod = daemon.run_pod(sandbox("patience")).await;
    let mut config = container("guest", &image);
    config.annotations = [("wasmpod.dev/stop".to_owned(), "grace".to_owned())].into();
    let guest = pod.run(config).await;
    let began = Instant::now();
    let patient = {
        let guest = guest.clone();
        tokio::spawn(async move { guest.stop(600).await })
    };
    // The patient stop is on its way or waiting: neither order may make the hasty one wait.
    guest.stop(0).await;
    patient.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(guest.status().await.unwrap().exit_code, 137);

    let plain = pod.run(container("plain", &image)).await;
    plain.stop(600).await;
    assert_eq!(plain.status().await.unwrap().exit_code, 143);
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn removing_what_runs_ends_it_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let image = sleeping_image(&daemon).await;
    let pod = daemon.run_pod(sandbox("removal")).await;
    let guest = pod.run(container("guest", &image)).await;
    let root = daemon.root().join("roots").join(&guest.id);
    assert!(root.is_dir());
    guest.remove().await;
    guest.remove().await;
    assert!(!root.exists());
    assert_eq!(guest.status().await.unwrap_err().code(), Code::NotFound);

    // The name is free again.
    let guest = pod.run(container("guest", &image)).await;
    let created = pod.create(container("created", &image)).await;
    pod.stop().await;
    pod.stop().await;
    assert_eq!(pod.status().await.unwrap().state(), PodSandboxState::SandboxNotready);
    for ended in [&guest, &created] {
        let status = ended.status().await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert_eq!(status.exit_code, 137);
    }
    let late = pod.try_create(container("late", &image)).await.err().unwrap();
    assert!(late.message().contains("not ready"), "{late}");
    pod.remove().await;
    pod.remove().await;
    assert!(pod.status().await.is_err());
    assert_eq!(fs::read_dir(daemon.root().join("roots")).unwrap().count(), 0);
}

#[tokio::test]
async fn bad_requests_are_refused_by_name_and_leave_nothing() {
    let daemon = Daemon::start().await;
    let image = sleeping_image(&daemon).await;
    let pod = daemon.run_pod(sandbox("bad")).await;
    let refused = async |change: &dyn Fn(&mut cri::ContainerConfig)| {
        let mut config = container("guest", &image);
        change(&mut config);
        pod.try_create(config).await.err().unwrap().message().to_owned()
    };
    let says = refused(&|c| c.command = vec!["/bin/sh".to_owned()]).await;
    assert!(says.contains("\"/bin/sh\"") && says.contains(".wasm"), "{says}");
    let says = refused(&|c| c.image.as_mut().unwrap().image = "absent:1".to_owned()).await;
    assert!(says.contains("image"), "{says}");
    let says = refused(&|c| c.log_path = "../../etc/log".to_owned()).await;
    assert!(says.contains("log path"), "{says}");
    let twice = |c: &mut cri::ContainerConfig| {
        c.mounts = vec![support::mount(daemon.path(), "/a"), support::mount(daemon.path(), "/a/")];
    };
    let says = refused(&twice).await;
    assert!(says.contains("mounted twice"), "{says}");
    assert_eq!(fs::read_dir(daemon.root().join("roots")).unwrap().count(), 0);
    let error = daemon.try_run_pod(sandbox("shared"), "wasm-shared").await.err().unwrap();
    assert!(error.message().contains("not available yet"), "{error}");
}
