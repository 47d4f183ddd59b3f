//! What these tests share: containers that wait, clients of streaming URLs.

use std::path::PathBuf;

use support::{Container, Daemon, container, sandbox};
use wasmpod::cri::streaming::client::{Client, Inflow, Remote};
use wasmpod::proto::cri;
use wasmpod::runtime::Wanted;

use crate::support;

/// Input, both outputs.
pub const PIPES: Wanted = Wanted { stdin: true, stdout: true, stderr: true, terminal: false };

/// Input, and a terminal's one output.
pub const TERMINAL: Wanted = Wanted { stdin: true, stdout: true, stderr: false, terminal: true };

/// A sandbox with a network of its own.
pub fn apart(name: &str) -> cri::PodSandboxConfig {
    let mut config = sandbox(name);
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options = Some(cri::NamespaceOption::default());
    config
}

/// A container of a probe that does nothing.
pub async fn idle(daemon: &Daemon, image: &str) -> Container {
    run(daemon, image, &["say", "here", "--", "idle"]).await
}

pub async fn run(daemon: &Daemon, image: &str, things: &[&str]) -> Container {
    let pod = daemon.run_pod(apart("streams")).await;
    let mut config = container("main", image);
    config.args = things.iter().map(|&word| word.to_owned()).collect();
    let container = pod.run(config).await;
    container.says("here").await;
    container
}

/// A server in a pod of its own, on port 8080 of its loopback.
pub async fn echo_server(daemon: &Daemon, connections: &str) -> Container {
    let image = daemon.import("probe-p2").await;
    let things = ["say", "here", "--", "serve", "127.0.0.1:8080", connections, "--", "idle"];
    let server = run(daemon, &image, &things).await;
    server.says("listening").await;
    server
}

pub async fn exec_url(
    container: &Container,
    argv: &[&str],
    wanted: Wanted,
) -> Result<String, tonic::Status> {
    let request = cri::ExecRequest {
        container_id: container.id.clone(),
        cmd: argv.iter().map(|&word| word.to_owned()).collect(),
        tty: wanted.terminal,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    Ok(container.pod.client.clone().exec(request).await?.into_inner().url)
}

pub async fn exec(container: &Container, argv: &[&str], wanted: Wanted) -> Remote {
    let url = exec_url(container, argv, wanted).await.unwrap();
    Client::remote(&url, wanted).await.unwrap()
}

pub async fn attach(container: &Container, wanted: Wanted) -> Remote {
    let request = cri::AttachRequest {
        container_id: container.id.clone(),
        tty: wanted.terminal,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    let url = container.pod.client.clone().attach(request).await.unwrap().into_inner().url;
    Client::remote(&url, wanted).await.unwrap()
}

/// What comes until the stream's end.
pub async fn all(inflow: &mut Inflow) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(piece)) = inflow.next().await {
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `text` has come; gives all that was read.
pub async fn until(inflow: &mut Inflow, text: &str) -> String {
    let mut read = String::new();
    let reading = async {
        while !read.contains(text) {
            let piece = inflow.next().await.unwrap().expect("the stream ended");
            read.push_str(&String::from_utf8_lossy(&piece));
        }
    };
    let in_time = tokio::time::timeout(support::DEADLINE, reading).await;
    assert!(in_time.is_ok(), "{text:?} did not come, only {read:?}");
    read
}

/// How a session ended: its exit code, or what was wrong.
pub async fn ended(remote: &mut Remote) -> Result<i32, String> {
    let told = tokio::time::timeout(support::DEADLINE, all(&mut remote.status)).await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
    let cause = status["details"]["causes"][0]["message"].as_str().unwrap_or_default();
    match status["reason"].as_str() {
        _ if status["status"] == "Success" => Ok(0),
        Some("NonZeroExitCode") => Ok(cause.parse().unwrap()),
        _ => Err(if cause.is_empty() { told } else { cause.to_owned() }),
    }
}

/// Threads that run execs of a container, in its shim.
pub fn exec_threads(container: &Container) -> usize {
    let name = format!("x-{}\n", &container.id[..12]);
    let folders = |path: PathBuf| {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    let threads = folders("/proc".into()).flat_map(|process| folders(process.join("task")));
    let is_one = |thread: &PathBuf| {
        std::fs::read_to_string(thread.join("comm")).is_ok_and(|text| text == name)
    };
    threads.filter(is_one).count()
}
