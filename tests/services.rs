//! Components that answer HTTP requests, called as their clients do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;

use support::{Container, Daemon, Port, container, env, eventually};
use wasmpod::proto::cri;

use crate::support;
use kit::{WAIT, call, get, pod, post, serve};

pub mod kit;
mod outgoing;

#[tokio::test]
async fn a_service_of_0_2_listens_when_it_runs_and_has_an_instance_for_each_request() {
    let daemon = Daemon::start().await;
    let (web, port) = serve(&daemon, "web", "").await;
    // Started is listening: no waiting.
    let answer = get(port.at(), "/").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.starts_with("hello from "), "{answer:?}");
    for _ in 0..3 {
        assert_eq!(get(port.at(), "/count").await.body, "1\n");
    }
    assert_eq!(post(port.at(), "/echo", b"what was sent").await.body, "what was sent");
    assert_eq!(get(port.at(), "/none").await.status, 404);
    web.says("asked for /none").await;
    // A service is no command to run beside itself.
    let exec = web.exec(&["web.wasm"], 20).await;
    let told = String::from_utf8(exec.unwrap().stderr).unwrap();
    assert!(told.starts_with("this program is a service"), "{told}");
}

#[tokio::test]
async fn a_request_that_goes_wrong_is_its_own_500_and_a_line_in_the_log() {
    let daemon = Daemon::start().await;
    let (web, port) = serve(&daemon, "web", ",timeout=2s").await;
    assert_eq!(get(port.at(), "/trap").await.status, 500);
    let log = web.says("wasmpod: GET /trap: ").await.text("stderr");
    assert!(log.contains("unreachable") && log.contains("web.wasm!"), "{log}");
    assert_eq!(get(port.at(), "/exit").await.status, 500);
    let log = web.says("wasmpod: GET /exit: the guest ended itself with code 1").await;
    assert_eq!(log.text("stderr").matches("wasmpod: ").count(), 2, "each is told once");
    // Neither a spinning nor a sleeping instance keeps others from being answered.
    let (at, started) = (port.at(), std::time::Instant::now());
    let late = ["/spin", "/sleep"].map(|path| tokio::spawn(async move { get(at, path).await }));
    while late.iter().any(|late| !late.is_finished()) {
        assert_eq!(get(at, "/count").await.body, "1\n");
        assert!(started.elapsed() < WAIT, "requests do not end");
    }
    for late in late {
        assert_eq!(late.await.unwrap().status, 504);
    }
    web.says("wasmpod: GET /spin: no answer within 2 s").await;
    let status = web.status().await.unwrap();
    assert_eq!(status.state(), cri::ContainerState::ContainerRunning, "{status:?}");
}

#[tokio::test]
async fn a_service_that_asks_for_it_ends_as_a_whole_with_its_own_code() {
    let daemon = Daemon::start().await;
    let (web, port) = serve(&daemon, "web", "").await;
    assert_eq!(get(port.at(), "/").await.status, 200);
    let at = port.at();
    // Whether there is an answer to it is left open.
    let asked = tokio::task::spawn_blocking(move || call(at, "GET /quit", b""));
    let exit = web.exit().await;
    assert_eq!((exit.exit_code, exit.reason.as_str()), (5, "Error"));
    let _ = asked.await.unwrap();
}

#[tokio::test]
async fn a_request_over_the_memory_limit_ends_alone() {
    let daemon = Daemon::start().await;
    let port = Port::new();
    let image = daemon.import("web").await;
    let note = port.number.to_string();
    let pod = daemon.run_pod(pod("eats", &[("http.web", note)])).await;
    let mut config = container("web", &image);
    config.linux = Some(cri::LinuxContainerConfig {
        resources: Some(cri::LinuxContainerResources {
            memory_limit_in_bytes: 32 << 20,
            ..Default::default()
        }),
        ..config.linux.unwrap_or_default()
    });
    let web = pod.run(config).await;
    assert_eq!(get(port.at(), "/eat").await.status, 500);
    web.says("out of memory: the limit is 33554432 bytes").await;
    assert_eq!(get(port.at(), "/count").await.body, "1\n");
}

#[tokio::test]
async fn connections_at_once_are_served_by_a_thread_for_each_cpu() {
    let daemon = Daemon::start().await;
    let (web, port) = serve(&daemon, "web", "").await;
    let at = port.at();
    let helpers = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.shims()[0])).unwrap();
        let names = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("h-")).count()
    };
    assert_eq!(get(at, "/count").await.body, "1\n");
    assert_eq!(helpers(), 0, "one client at a time needs no help");
    let cpus = std::thread::available_parallelism().unwrap().get();
    let ask = |stream: &mut TcpStream, path: &str| {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"0\r\n\r\n") {
            let mut piece = [0; 256];
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "closed");
            text.extend(&piece[..read]);
        }
        assert!(text.starts_with(b"HTTP/1.1 200"), "{}", text.escape_ascii());
    };
    let mut clients: Vec<_> = (0..8).map(|_| TcpStream::connect(at).unwrap()).collect();
    clients.iter_mut().for_each(|client| ask(client, "/count"));
    assert_eq!(helpers(), cpus.min(4) - 1);
    // Helpers whose clients have gone go too, and come again.
    drop(clients);
    eventually("helpers go", || (helpers() == 0).then_some(())).await;
    let mut clients: Vec<_> = (0..8).map(|_| TcpStream::connect(at).unwrap()).collect();
    clients.iter_mut().for_each(|client| ask(client, "/count"));
    assert_eq!(helpers(), cpus.min(4) - 1);
    // What they have under way is finished by a stop.
    let slow: Vec<_> = clients
        .into_iter()
        .map(|mut client| std::thread::spawn(move || ask(&mut client, "/slow")))
        .collect();
    eventually("all are asked", || {
        (web.log().text("stdout").matches("asked for /slow").count() == 8).then_some(())
    })
    .await;
    web.stop(20).await;
    slow.into_iter().for_each(|slow| slow.join().unwrap());
    assert_eq!((web.exit().await.exit_code, helpers()), (0, 0));
}

#[tokio::test]
async fn more_requests_at_once_than_memories_are_kept_are_answered_and_none_sees_another_s() {
    let daemon = Daemon::start().await;
    let (web, port) = serve(&daemon, "web", "").await;
    let at = port.at();
    for _ in 0..2 {
        let slow: Vec<_> = (0..40).map(|_| tokio::spawn(get(at, "/slow"))).collect();
        for slow in slow {
            assert_eq!(slow.await.unwrap().body, "slow\n");
        }
        let counts: Vec<_> = (0..40).map(|_| tokio::spawn(get(at, "/count"))).collect();
        for count in counts {
            assert_eq!(count.await.unwrap().body, "1\n");
        }
    }
    // A kill ends what spins, beside connections that wait.
    let _waiting: Vec<_> = (0..8).map(|_| TcpStream::connect(at).unwrap()).collect();
    let spins = tokio::task::spawn_blocking(move || call(at, "GET /spin", b""));
    web.says("asked for /spin").await;
    web.stop(0).await;
    assert_eq!(web.exit().await.exit_code, 137);
    assert!(!spins.await.unwrap().is_ok_and(|answer| answer.status == 200));
}

#[tokio::test]
async fn instances_are_shared_as_far_as_the_annotation_says() {
    let daemon = Daemon::start().await;
    let (_web, port) = serve(&daemon, "web", ",reuse=3").await;
    let mut counts = Vec::new();
    for _ in 0..6 {
        counts.push(get(port.at(), "/count").await.body.trim().to_owned());
    }
    assert_eq!(counts, ["1", "2", "3", "1", "2", "3"]);
    let (_web, port) = serve(&daemon, "web-p3", "").await;
    assert_eq!(get(port.at(), "/count").await.body, "1\n");
    assert_eq!(get(port.at(), "/count").await.body, "2\n");
}

#[tokio::test]
async fn a_service_of_0_3_answers_streams_and_survives_traps() {
    let daemon = Daemon::start().await;
    let (web, port) = serve(&daemon, "web-p3", "").await;
    assert_eq!(get(port.at(), "/").await.body, "hello from WASI 0.3\n");
    assert_eq!(post(port.at(), "/echo", b"streamed").await.body, "streamed");
    assert_eq!(get(port.at(), "/trap").await.status, 500);
    web.says("unreachable").await;
    assert_eq!(get(port.at(), "/").await.status, 200);
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_finish_within_the_grace() {
    let daemon = Daemon::start().await;
    let (web, port) = serve(&daemon, "web", "").await;
    let at = port.at();
    let slow = tokio::spawn(async move { get(at, "/slow").await });
    web.says("asked for /slow").await;
    web.stop(20).await;
    assert_eq!(slow.await.unwrap().body, "slow\n");
    let status = web.exit().await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    assert!(TcpStream::connect(at).is_err(), "it still listens");

    // One that does not finish is ended at the deadline; an idle one ends at once.
    let (web, port) = serve(&daemon, "web", "").await;
    let at = port.at();
    let stuck = tokio::task::spawn_blocking(move || call(at, "GET /sleep", b""));
    web.says("asked for /sleep").await;
    web.stop(1).await;
    assert_eq!(web.exit().await.exit_code, 137);
    assert!(stuck.await.unwrap().is_ok_and(|answer| answer.status == 0));
}

#[tokio::test]
async fn the_port_is_the_environment_s_where_no_annotation_says_it() {
    let daemon = Daemon::start().await;
    let image = daemon.import("web").await;
    let port = Port::new();
    let pod = daemon.run_pod(pod("environment", &[])).await;
    let mut config = container("web", &image);
    config.envs.push(env("PORT", &port.number.to_string()));
    let web = pod.run(config).await;
    assert_eq!(get(port.at(), "/count").await.status, 200);
    let mut second = container("second", &image);
    second.envs.push(env("PORT", &port.number.to_string()));
    let error = pod.create(second).await.start().await.unwrap_err();
    assert!(error.message().contains("the port is taken"), "{}", error.message());
    let mut third = container("third", &image);
    third.envs.push(env("PORT", "eighty"));
    let error = pod.create(third).await.start().await.unwrap_err();
    assert!(error.message().contains("PORT in its environment is no port"), "{}", error.message());
    web.stop(10).await;
}

#[tokio::test]
async fn clients_that_misbehave_cost_nobody_else_anything() {
    let daemon = Daemon::start_with("[limits]\ndescriptors = 40\n").await;
    let (web, port) = serve(&daemon, "web", ",requests=2").await;
    let at = port.at();
    // No HTTP, half a head, a head without end, gone in the middle of an answer.
    for text in [
        "\0\0\0\0\r\n\r\n",
        "GET / HT",
        "GET / HTTP/1.1\r\nA: ",
        "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
    }
    let many = "X: y\r\n".repeat(5000);
    let head = format!("GET /count HTTP/1.1\r\n{many}Host: a\r\n\r\n");
    let refused = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let _ = stream.write_all(head.as_bytes());
        let mut answer = [0; 12];
        let _ = stream.read(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    let told = refused.await.unwrap();
    assert!(!told.contains("200"), "{told}");
    // Connections that ask nothing, more than the container may have descriptors.
    let held: Vec<_> = (0..60).map(|_| TcpStream::connect(at).unwrap()).collect();
    drop(held);
    eventually("it answers again", || {
        call(at, "GET /count", b"").ok().filter(|answer| answer.status == 200).map(drop)
    })
    .await;
    assert_eq!(web.status().await.unwrap().state(), cri::ContainerState::ContainerRunning);
}

#[tokio::test]
async fn a_service_outlives_its_daemon_and_a_kill_frees_its_port() {
    let mut daemon = Daemon::start().await;
    let (web, port) = serve(&daemon, "web", "").await;
    daemon.kill();
    assert_eq!(get(port.at(), "/count").await.body, "1\n");
    daemon.restart().await;
    assert_eq!(get(port.at(), "/count").await.body, "1\n");
    let web = Container { pod: support::Pod { client: daemon.runtime(), ..web.pod }, ..web };
    web.stop(0).await;
    assert_eq!(web.exit().await.exit_code, 137);
    assert!(TcpStream::connect(port.at()).is_err());
}
