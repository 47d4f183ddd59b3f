//! What is said of ports that cannot be had.

use std::net::TcpListener;

use super::kit::{free_port, try_run, write};
use crate::support::{self, Daemon};

const IDLE: &str = "containers: [{name: a, image: ./probe.wasm, args: [idle]}]";

#[tokio::test]
async fn a_port_that_is_no_port_is_told_before_any_pod_is_made() {
    let daemon = Daemon::start_as_user("").await;
    for (option, says) in [
        ("http", "\"http\" is no port from 1 to 65535"),
        ("8080:80/sctp", "\"sctp\" is neither \"tcp\" nor \"udp\""),
        ("localhost:8080:80", "\"localhost\" is no IP address"),
    ] {
        let output = try_run(&daemon, &["-p", option], "bad", IDLE).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(says), "{told}");
    }
    let port = free_port();
    let twice = format!("{port}:80");
    let output = try_run(&daemon, &["-p", &twice, "-p", &twice], "bad", IDLE).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(&format!("the host port {port}/tcp is there twice")), "{told}");
    let host = format!("hostNetwork: true, {IDLE}");
    let output = try_run(&daemon, &["-p", "8080:80"], "bad", &host).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("on the host's network port 80 is no other port"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[tokio::test]
async fn a_port_in_use_is_an_event_that_names_it_and_the_pod_comes_up_once_it_is_free() {
    let daemon = Daemon::start_as_user("[agent]\nback_off_ms = 50\nmax_back_off_ms = 400\n").await;
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let file = write(&daemon, "waits", IDLE).display().to_string();
    let log = daemon.path().join("told");
    let open = || std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
    let mut command = daemon.command(&["run", "-p", &format!("{port}:80"), &file]);
    let mut running = command.stdout(open()).stderr(open()).spawn().unwrap();
    let until_told = async |text: &str| {
        support::eventually(&format!("{text:?} is told"), || {
            std::fs::read_to_string(&log).unwrap().contains(text).then_some(())
        })
        .await;
    };
    until_told(&format!("host port {port}/tcp is in use: another pod or program")).await;
    drop(holder);
    until_told(&format!("Host port {port}/tcp leads to port 80")).await;
    running.kill().unwrap();
    running.wait().unwrap();
}
