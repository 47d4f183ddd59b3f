//! Containers' logs: whole, untorn, in order, at full speed and through rotation.

use crate::support;

use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount as mount_fs, unmount};
use support::{Container, Daemon, Log, Tarpit, container, eventually, sandbox};
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

#[tokio::test]
async fn a_slow_disk_holds_up_its_guest_and_nobody_else_and_loses_nothing() {
    if !support::root_for("FUSE") {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let at = disk.path().join("slow");
    std::fs::create_dir(&at).unwrap();
    let Some(tarpit) = Tarpit::at(&at) else { return };
    // Later than the disk: not every machine tells a shim of what is mounted after it began.
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let mut slow = sandbox("slow");
    slow.log_directory = at.display().to_string();
    let slow = daemon.run_pod(slow).await;
    let mut config = container("slow", &image);
    config.log_path = "file".to_owned();
    config.args = ["flood", "1"].map(str::to_owned).to_vec();
    let flood = slow.run(config).await;
    eventually("the guest waits for the disk", || (tarpit.waiting() > 0).then_some(())).await;

    let pod = daemon.run_pod(sandbox("fast")).await;
    assert_eq!(pod.output_of("beside", &image, &["say", "fast"]).await, "fast\n");
    assert_eq!(flood.status().await.unwrap().state(), cri::ContainerState::ContainerRunning);
    assert_eq!(flood.exec(&["probe", "say", "fast"], 10).await.unwrap().stdout, b"fast\n");

    tarpit.let_go();
    assert_eq!(flood.exit().await.exit_code, 0);
    let copy = daemon.path().join("copy.log");
    std::fs::write(&copy, tarpit.contents()).unwrap();
    let log = Log::read(&copy);
    for (stream, name) in [("stdout", "out"), ("stderr", "err")] {
        assert_whole(std::slice::from_ref(&log), stream, name, (1 << 20) / 100);
    }
    slow.remove().await;
}

#[tokio::test]
async fn a_full_disk_costs_lines_that_are_counted_and_nothing_else() {
    if !support::root_for("a small tmpfs") {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let (at, go) = (disk.path().join("small"), disk.path().join("go"));
    std::fs::create_dir(&at).unwrap();
    std::fs::create_dir(&go).unwrap();
    mount_fs("test", &at, "tmpfs", MountFlags::empty(), c"size=256k").unwrap();
    // Later than the disk: not every machine tells a shim of what is mounted after it began.
    let daemon = Daemon::start().await;
    std::fs::write(at.join("filler"), vec![1; 128 << 10]).unwrap();
    let image = daemon.import("probe").await;
    let mut full = sandbox("full");
    full.log_directory = at.display().to_string();
    let pod = daemon.run_pod(full).await;
    let mut config = container("full", &image);
    config.mounts = vec![support::mount(&go, "/go")];
    config.args = ["flood", "1", "--", "write", "/go/over", "x"]
        .into_iter()
        .chain(["--", "await", "/go/now", "--", "say", "after"])
        .map(str::to_owned)
        .collect();
    let full = pod.run(config).await;
    eventually("the flood is over", || go.join("over").exists().then_some(())).await;
    std::fs::remove_file(at.join("filler")).unwrap();
    std::fs::write(go.join("now"), "").unwrap();
    assert_eq!(full.exit().await.exit_code, 0);
    // Reading it panics at a torn line.
    let log = full.log();
    let told = log.lines.iter().position(|line| line.text.contains("could not be written here"));
    let after = log.lines.iter().position(|line| line.text == "after");
    assert!(told.is_some() && told < after, "{told:?} {after:?}");
    let lost: usize =
        log.lines[told.unwrap()].text.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(lost > (1 << 20), "{lost}");
    let floods = log.lines.iter().filter(|line| line.text.len() == 99).count();
    assert!(floods > 500, "{floods} lines were there before the disk was full");
    pod.remove().await;
    unmount(&at, UnmountFlags::empty()).unwrap();
}

#[tokio::test]
async fn a_log_that_is_a_fifo_is_refused_by_name() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("fifo")).await;
    let fifo = std::path::Path::new(&pod.config.log_directory).join("fifo_0.log");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let error = pod.try_create(container("fifo", &image)).await.err().unwrap();
    assert!(error.message().contains("fifo_0.log"), "{error}");
    assert!(error.message().contains("no regular file"), "{error}");
}
