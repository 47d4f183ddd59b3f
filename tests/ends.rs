//! How containers end: exit codes, traps, memory, signals, starts that fail.

use crate::support;

use std::time::{Duration, Instant};

use support::{Container, Daemon, Pod, container, sandbox};
use wasmpod::proto::cri;

async fn run(pod: &Pod, name: &str, image: &str, args: &[&str]) -> Container {
    let mut config = container(name, image);
    config.args = args.iter().map(|word| (*word).to_owned()).collect();
    pod.run(config).await
}

#[tokio::test]
async fn exit_codes_arrive_exactly() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("codes")).await;
    for (code, reason) in
        [(0, "Completed"), (1, "Error"), (3, "Error"), (137, "Error"), (255, "Error")]
    {
        let ended = run(&pod, &format!("code-{code}"), &image, &["exit", &code.to_string()]).await;
        let status = ended.exit().await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason));
        assert!(status.created_at > 0 && status.started_at >= status.created_at);
        assert!(status.finished_at >= status.started_at);
    }
}

#[tokio::test]
async fn components_end_with_zero_or_one() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe-p2").await;
    let pod = daemon.run_pod(sandbox("codes")).await;
    assert_eq!(run(&pod, "zero", &image, &["exit", "0"]).await.exit().await.exit_code, 0);
    // Rust's std has only success and failure for p2 (facts of wasi:cli/exit's stable part).
    assert_eq!(run(&pod, "one", &image, &["exit", "3"]).await.exit().await.exit_code, 1);
}

#[tokio::test]
async fn a_trap_is_134_with_its_backtrace_in_message_and_log() {
    let daemon = Daemon::start().await;
    for guest in ["probe", "probe-p2"] {
        let image = daemon.import(guest).await;
        let pod = daemon.run_pod(sandbox("trap")).await;
        let trapped = run(&pod, "trap", &image, &["say", "before", "--", "trap"]).await;
        let status = trapped.exit().await;
        assert_eq!((status.exit_code, status.reason.as_str()), (134, "Error"), "{guest}");
        let log = trapped.log();
        assert_eq!(log.text("stdout"), "before\n");
        for text in ["unreachable", "descend"] {
            assert!(status.message.contains(text), "{guest}: {}", status.message);
            assert!(log.text("stderr").contains(text), "{guest}: {}", log.text("stderr"));
        }
    }
}

#[tokio::test]
async fn a_stack_that_overflows_is_a_trap_of_that_guest_alone() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("overflow")).await;
    let beside = run(&pod, "beside", &image, &["say", "here", "--", "idle"]).await;
    beside.says("here").await;
    let status = run(&pod, "overflow", &image, &["overflow"]).await.exit().await;
    assert_eq!(status.exit_code, 134, "{}", status.message);
    assert_eq!(beside.status().await.unwrap().state(), cri::ContainerState::ContainerRunning);
}

#[tokio::test]
async fn a_guest_over_its_memory_limit_is_oom_killed_alone() {
    let daemon = Daemon::start().await;
    for guest in ["probe", "probe-p2"] {
        let image = daemon.import(guest).await;
        let pod = daemon.run_pod(sandbox("memory")).await;
        let beside = run(&pod, "beside", &image, &["say", "here", "--", "idle"]).await;
        beside.says("here").await;
        let mut config = container("hog", &image);
        config.args = ["grow", "64"].map(str::to_owned).to_vec();
        config.linux = Some(cri::LinuxContainerConfig {
            resources: Some(cri::LinuxContainerResources {
                memory_limit_in_bytes: 16 << 20,
                ..Default::default()
            }),
            ..Default::default()
        });
        let hog = pod.run(config).await;
        let status = hog.exit().await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"), "{guest}");
        assert_eq!(beside.status().await.unwrap().state(), cri::ContainerState::ContainerRunning);
    }
}

#[tokio::test]
async fn a_guest_that_hears_no_signals_is_ended_at_once() {
    let daemon = Daemon::start().await;
    for guest in ["probe", "probe-p2"] {
        let image = daemon.import(guest).await;
        let pod = daemon.run_pod(sandbox("stop")).await;
        for (name, what) in [("spin", "spin"), ("idle", "idle")] {
            let running = run(&pod, name, &image, &["say", "here", "--", what]).await;
            running.says("here").await;
            let begun = Instant::now();
            running.stop(30).await;
            assert!(begun.elapsed() < Duration::from_secs(10), "{guest} {name}");
            let status = running.status().await.unwrap();
            assert_eq!(
                (status.exit_code, status.reason.as_str()),
                (143, "Error"),
                "{guest} {name}"
            );
            running.stop(30).await;
            assert_eq!(running.status().await.unwrap(), status);
        }
        let killed = run(&pod, "killed", &image, &["say", "here", "--", "spin"]).await;
        killed.says("here").await;
        killed.stop(0).await;
        assert_eq!(killed.status().await.unwrap().exit_code, 137);
    }
}

#[tokio::test]
async fn the_grace_annotation_lets_a_guest_serve_until_the_deadline() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("grace")).await;
    let with_grace = |name: &str, args: &[&str]| {
        let mut config = container(name, &image);
        config.args = args.iter().map(|word| (*word).to_owned()).collect();
        config.annotations = [("wasmpod.dev/stop".to_owned(), "grace".to_owned())].into();
        config
    };
    let done = pod
        .run(with_grace(
            "done",
            &["say", "here", "--", "sleep", "300", "--", "say", "done", "--", "exit", "7"],
        ))
        .await;
    done.says("here").await;
    done.stop(30).await;
    assert_eq!(done.status().await.unwrap().exit_code, 7);
    assert!(done.log().contains("done"));
    let late = pod.run(with_grace("late", &["say", "here", "--", "idle"])).await;
    late.says("here").await;
    late.stop(1).await;
    assert_eq!(late.status().await.unwrap().exit_code, 137);
}

#[tokio::test]
async fn a_start_that_fails_says_what_is_missing() {
    let daemon = Daemon::start().await;
    let pod = daemon.run_pod(sandbox("start")).await;
    let cases = [
        (
            "import",
            r#"(module (import "env" "magic" (func)) (memory (export "memory") 1) (func (export "_start")))"#,
            "env",
        ),
        ("entry", r#"(module (memory (export "memory") 1) (func (export "run")))"#, "_start"),
        ("world", r#"(component (import "wasi:nowhere/store@0.2.0" (instance)))"#, "wasi:cli/run"),
    ];
    for (name, text, says) in cases {
        let file = daemon.path().join(format!("{name}.wasm"));
        std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
        let image = daemon.import_file(&file, name).await;
        let created = pod.create(container(name, &image)).await;
        let error = created.start().await.expect_err(name);
        assert!(error.message().contains(says), "{name}: {}", error.message());
        assert_eq!(error.message().lines().count(), 1, "{}", error.message());
        let status = created.status().await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"), "{name}");
        assert!(status.message.contains(says), "{name}: {}", status.message);
    }
}

#[tokio::test]
async fn stopping_a_sandbox_ends_its_containers_and_keeps_its_record() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("pod")).await;
    let containers = [
        run(&pod, "spin", &image, &["say", "here", "--", "spin"]).await,
        run(&pod, "idle", &image, &["say", "here", "--", "idle"]).await,
    ];
    for each in &containers {
        each.says("here").await;
    }
    pod.stop().await;
    pod.stop().await;
    assert_eq!(pod.status().await.unwrap().state(), cri::PodSandboxState::SandboxNotready);
    for each in &containers {
        assert_eq!(each.status().await.unwrap().state(), cri::ContainerState::ContainerExited);
    }
    let refused = pod.try_create(container("late", &image)).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    pod.remove().await;
    pod.remove().await;
    assert_eq!(pod.status().await.unwrap_err().code(), tonic::Code::NotFound);
    assert_eq!(containers[0].status().await.unwrap_err().code(), tonic::Code::NotFound);
    let left: Vec<_> = std::fs::read_dir(daemon.root().join("roots")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_guest_that_cannot_be_begun_is_a_failed_start() {
    let daemon = Daemon::start().await;
    for kind in ["probe", "probe-p2"] {
        let image = daemon.import(kind).await;
        let pod = daemon.run_pod(sandbox("folder")).await;
        let mut config = container("nowhere", &image);
        config.working_dir = "/not/there".to_owned();
        config.linux = Some(cri::LinuxContainerConfig {
            security_context: Some(cri::LinuxContainerSecurityContext {
                readonly_rootfs: true,
                ..Default::default()
            }),
            ..Default::default()
        });
        let nowhere = pod.create(config).await;
        let error = nowhere.start().await.unwrap_err();
        assert!(error.message().contains("working directory /not/there"), "{kind}: {error}");
        assert_eq!(error.message().lines().count(), 1, "{kind}: {error}");
        let status = nowhere.status().await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerExited, "{kind}");
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"), "{kind}");
        assert_eq!(status.started_at, 0, "{kind}");
        assert!(status.message.contains("/not/there"), "{kind}: {}", status.message);
    }
}
