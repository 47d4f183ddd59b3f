//! `wasmpod exec`, `attach` and `port-forward`, and the real crictl's, as people type them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};

use support::{Container, Daemon, container, eventually, sandbox};

use super::kit::{echo_server, exec_threads, idle};
use crate::crictl::{Crictl, program};
use crate::support;

/// Gives back its input, tells something on the other output, ends with a code.
const PROGRAM: [&str; 8] = ["probe", "echo", "--", "say-stderr", "told", "--", "exit", "3"];

/// Runs `command` with this input; its exit code and both outputs.
async fn typed(mut command: Command, input: &'static str) -> (Option<i32>, String, String) {
    let run = move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn wasmpod_exec_is_the_program_with_this_commands_streams() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let words = [&["exec", "-i", main.id.as_str(), "--"], &PROGRAM[..]].concat();
    let (code, out, err) = typed(daemon.command(&words), "some input\n").await;
    assert_eq!((code, out.as_str(), err.as_str()), (Some(3), "some input\n", "told\n"));
    let words = ["exec", &main.id, "--", "nothing"];
    let (code, _, err) = typed(daemon.command(&words), "").await;
    assert!(code == Some(1) && err.starts_with("wasmpod: no program \"nothing\""), "{err}");
    let words = ["exec", "--timeout", "1", &main.id, "--", "probe", "idle"];
    let (code, _, err) = typed(daemon.command(&words), "").await;
    assert!(code == Some(1) && err.contains("did not end within 1 s"), "{err}");
    eventually("the program has gone", || (exec_threads(&main) == 0).then_some(())).await;
}

#[tokio::test]
async fn wasmpod_attach_gives_input_and_shows_output() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = once(&daemon, &image).await;
    let (code, out, err) = typed(daemon.command(&["attach", "-i", &main.id]), "some input\n").await;
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "some input\nover\n", ""));
}

async fn once(daemon: &Daemon, image: &str) -> Container {
    let pod = daemon.run_pod(sandbox("attach")).await;
    let mut config = container("main", image);
    config.args = ["say", "here", "--", "echo", "--", "say", "over"].map(str::to_owned).to_vec();
    (config.stdin, config.stdin_once) = (true, true);
    let container = pod.run(config).await;
    container.says("here").await;
    container
}

/// Talks to an echo server through a command that prints where it listens.
fn ask_through(mut command: Command, said: &str) -> String {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains("127.0.0.1:")).unwrap().unwrap();
    let port: String = line
        .split_once("127.0.0.1:")
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect())
        .unwrap();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    answer
}

#[tokio::test]
async fn wasmpod_port_forward_listens_here_and_connects_there() {
    let daemon = Daemon::start().await;
    let server = echo_server(&daemon, "1").await;
    let command = daemon.command(&["port-forward", &server.pod.id, "0:8080"]);
    let answer =
        tokio::task::spawn_blocking(move || ask_through(command, "through")).await.unwrap();
    assert_eq!(answer, "through");
    let (code, _, err) = typed(daemon.command(&["port-forward", &server.pod.id, "a"]), "").await;
    assert!(code == Some(2) && err.contains("8080:80"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn crictl_execs_attaches_and_forwards_over_both_transports() {
    let Some(program) = program() else { return };
    let daemon = Daemon::start().await;
    let crictl = Crictl { program, daemon: &daemon };
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    for transport in ["spdy", "websocket"] {
        let words = ["exec", "-i", "--transport", transport, main.id.as_str()];
        let words = [&words[..], &PROGRAM].concat();
        let (code, out, err) = typed(crictl.command(&words), "some input\n").await;
        assert_eq!(out, "some input\n", "{transport}: {err}");
        assert!(code != Some(0) && err.contains("told\n"), "{transport}: {code:?} {err}");
        assert!(err.contains('3'), "{transport}: the exit code is told: {err}");

        let attached = once(&daemon, &image).await;
        let words = ["attach", "-i", "--transport", transport, &attached.id];
        let (_, out, err) = typed(crictl.command(&words), "some input\n").await;
        assert_eq!(out, "some input\nover\n", "{transport}: {err}");

        let server = echo_server(&daemon, "1").await;
        let words = ["port-forward", "--transport", transport, &server.pod.id, "0:8080"];
        let command = crictl.command(&words);
        let answer =
            tokio::task::spawn_blocking(move || ask_through(command, "through")).await.unwrap();
        assert_eq!(answer, "through", "{transport}");
    }
}
