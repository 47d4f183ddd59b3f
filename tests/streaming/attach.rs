//! Attach: a running container's own streams.

use std::time::{Duration, Instant};

use bytes::Bytes;
use support::{Container, DEADLINE, Daemon, container, sandbox};
use wasmpod::runtime::Wanted;

use super::kit::{PIPES, TERMINAL, all, attach, ended, until};
use crate::support;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Always,
    Once,
    Terminal,
}

async fn echoing(daemon: &Daemon, image: &str, input: Input) -> Container {
    let pod = daemon.run_pod(sandbox("attach")).await;
    let mut config = container("main", image);
    let things = ["say", "here", "--", "echo", "--", "say", "over", "--", "exit", "7"];
    config.args = things.map(str::to_owned).to_vec();
    config.stdin = true;
    config.stdin_once = input == Input::Once;
    config.tty = input == Input::Terminal;
    let container = pod.run(config).await;
    container.says("here").await;
    container
}

#[tokio::test]
async fn clients_come_and_go_and_see_what_is_written_meanwhile() {
    let daemon = Daemon::start().await;
    for kind in ["probe", "probe-p2"] {
        let image = daemon.import(kind).await;
        let main = echoing(&daemon, &image, Input::Always).await;
        let mut first = attach(&main, PIPES).await;
        let mut watching = attach(&main, Wanted { stdin: false, ..PIPES }).await;
        let mut stdin = first.stdin.take().unwrap();
        // Typed again and again, until both are attached and have seen it.
        for client in [&mut first, &mut watching] {
            let begun = Instant::now();
            loop {
                assert!(begun.elapsed() < DEADLINE, "{kind}: what one types does not come back");
                stdin.send(Bytes::from_static(b"one\n")).await.unwrap();
                let seen = client.stdout.as_mut().unwrap().next();
                if tokio::time::timeout(Duration::from_millis(100), seen).await.is_ok() {
                    break;
                }
            }
        }
        drop((stdin, first));
        let mut second = attach(&main, PIPES).await;
        let mut stdin = second.stdin.take().unwrap();
        stdin.send(Bytes::from_static(b"two\n")).await.unwrap();
        until(second.stdout.as_mut().unwrap(), "two\n").await;
        until(watching.stdout.as_mut().unwrap(), "two\n").await;
        main.says("two").await;
        // The end of one client's input is not the container's.
        stdin.finish().await;
        main.stop(0).await;
        all(watching.stdout.as_mut().unwrap()).await;
        assert_eq!(ended(&mut watching).await, Ok(0), "{kind}");
    }
}

#[tokio::test]
async fn input_for_once_ends_with_its_client() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = echoing(&daemon, &image, Input::Once).await;
    let mut client = attach(&main, PIPES).await;
    let mut stdin = client.stdin.take().unwrap();
    stdin.send(Bytes::from_static(b"text\n")).await.unwrap();
    stdin.finish().await;
    assert_eq!(all(client.stdout.as_mut().unwrap()).await, "text\nover\n");
    assert_eq!(main.exit().await.exit_code, 7);
}

#[tokio::test]
async fn a_terminal_is_one_for_the_guest_its_log_and_its_clients() {
    let daemon = Daemon::start().await;
    for kind in ["probe", "probe-p2"] {
        let image = daemon.import(kind).await;
        let main = echoing(&daemon, &image, Input::Terminal).await;
        let mut client = attach(&main, TERMINAL).await;
        let (mut stdin, mut stdout) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        stdin.send(Bytes::from_static(b"typed\r")).await.unwrap();
        until(&mut stdout, "typed\r\n").await;
        main.says("typed").await;
        stdin.send(Bytes::from_static(b"\x04")).await.unwrap();
        assert!(all(&mut stdout).await.ends_with("over\r\n"), "{kind}");
        let exit = main.exit().await;
        assert!(exit.exit_code == 7 || kind == "probe-p2", "{kind}: {}", exit.exit_code);
        // All of it is in the log by the time of the exit, on one stream.
        assert!(main.log().text("stdout").ends_with("over\r\n"), "{kind}");
    }
}

#[tokio::test]
async fn the_interrupt_key_ends_a_container_with_a_terminal() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = echoing(&daemon, &image, Input::Terminal).await;
    let mut client = attach(&main, TERMINAL).await;
    client.stdin.as_mut().unwrap().send(Bytes::from_static(b"\x03")).await.unwrap();
    assert_eq!(main.exit().await.exit_code, 130);
}

#[tokio::test]
async fn an_attachment_ends_with_its_daemon_and_a_new_one_goes_on() {
    let mut daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = echoing(&daemon, &image, Input::Always).await;
    let mut client = attach(&main, PIPES).await;
    client.stdin.as_mut().unwrap().send(Bytes::from_static(b"before\n")).await.unwrap();
    until(client.stdout.as_mut().unwrap(), "before\n").await;
    daemon.restart().await;
    let mut client = attach(&main, PIPES).await;
    client.stdin.as_mut().unwrap().send(Bytes::from_static(b"after\n")).await.unwrap();
    until(client.stdout.as_mut().unwrap(), "after\n").await;
}

#[tokio::test]
async fn a_container_without_input_takes_none_and_says_so() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = super::kit::idle(&daemon, &image).await;
    let mut client = attach(&main, PIPES).await;
    let told = ended(&mut client).await.unwrap_err();
    assert!(told.contains("takes no input: give it stdin: true"), "{told}");
}
