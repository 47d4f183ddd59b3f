//! Containers' logs: whole, untorn, in order, at full speed and through rotation.

use crate::support;

use std::path::PathBuf;

use support::{Container, Daemon, Log, container, sandbox};
use wasmpod::proto::cri;

async fn reopen(of: &Container) {
    let request = cri::ReopenContainerLogRequest { container_id: of.id.clone() };
    of.pod.client.clone().reopen_container_log(request).await.unwrap();
}

/// Every line of a flood, once, in order, over all files of the log.
fn assert_whole(logs: &[Log], stream: &str, name: &str, lines: usize) {
    let mut next = 0;
    for log in logs {
        for line in log.text(stream).lines() {
            let expected = format!("{name} {next:010} ");
            assert!(line.starts_with(&expected), "{stream} line {next}: {line:?}");
            assert_eq!(line.len(), 99, "{stream} line {next}: {line:?}");
            next += 1;
        }
    }
    assert_eq!(next, lines, "{stream}");
}

#[tokio::test]
async fn a_flood_survives_rotation_whole_on_both_streams() {
    const MIB: usize = 64;
    let daemon = Daemon::start().await;
    for guest in ["probe", "probe-p2"] {
        let image = daemon.import(guest).await;
        let pod = daemon.run_pod(sandbox("flood")).await;
        let mut config = container("flood", &image);
        config.args = ["flood", &MIB.to_string()].map(str::to_owned).to_vec();
        let flood = pod.run(config).await;
        let mut files: Vec<PathBuf> = Vec::new();
        while flood.status().await.unwrap().state() == cri::ContainerState::ContainerRunning {
            let rotated = flood.log_path().with_extension(format!("log.{}", files.len()));
            std::fs::rename(flood.log_path(), &rotated).unwrap();
            files.push(rotated);
            let request = cri::ReopenContainerLogRequest { container_id: flood.id.clone() };
            if let Err(status) = flood.pod.client.clone().reopen_container_log(request).await {
                // It ended in between; then nothing new is to come.
                assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
                break;
            }
        }
        assert_eq!(flood.exit().await.exit_code, 0);
        files.push(flood.log_path());
        let logs: Vec<Log> = files.iter().map(|file| Log::read(file)).collect();
        let lines = MIB * (1 << 20) / 100;
        assert_whole(&logs, "stdout", "out", lines);
        assert_whole(&logs, "stderr", "err", lines);
        pod.remove().await;
    }
}

#[tokio::test]
async fn text_without_a_newline_is_a_partial_entry() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("partial")).await;
    let mut config = container("bare", &image);
    config.args = ["say", "one", "--", "say-bare", "two"].map(str::to_owned).to_vec();
    let bare = pod.run(config).await;
    bare.exit().await;
    let lines = bare.log().lines;
    let seen: Vec<_> = lines.iter().map(|line| (line.text.as_str(), line.full)).collect();
    assert_eq!(seen, [("one", true), ("two", false)]);
}

#[tokio::test]
async fn a_log_that_was_removed_is_made_again_by_reopening() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("reopen")).await;
    let mut config = container("late", &image);
    let file = daemon.path().join("go");
    std::fs::create_dir(&file).unwrap();
    config.mounts = vec![support::mount(&file, "/go")];
    config.args =
        ["say", "early", "--", "await", "/go/now", "--", "say", "late"].map(str::to_owned).to_vec();
    let late = pod.run(config).await;
    late.says("early").await;
    std::fs::remove_file(late.log_path()).unwrap();
    reopen(&late).await;
    assert_eq!(late.log().lines.len(), 0);
    std::fs::write(file.join("now"), "").unwrap();
    late.exit().await;
    assert_eq!(late.log().lines.last().unwrap().text, "late");
}

#[tokio::test]
async fn an_empty_log_path_discards_output() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("silent")).await;
    let mut config = container("silent", &image);
    config.log_path = String::new();
    config.args = ["say", "unheard"].map(str::to_owned).to_vec();
    assert_eq!(pod.run(config).await.exit().await.exit_code, 0);
    assert_eq!(std::fs::read_dir(&pod.config.log_directory).unwrap().count(), 0);
}
