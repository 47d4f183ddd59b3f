//! What guests of every kind do with their pod's network: servers, clients, names, and the
//! policy that bounds them. Servers listen on the host's network, where the test calls them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::support;

use support::{Container, Daemon, Port, container, host_network, sandbox};
use wasmpod::proto::cri;

const WAIT: Duration = Duration::from_secs(20);

/// A sandbox on the host's network with these annotations, in front of which stands
/// `wasmpod.dev/`.
fn annotated(name: &str, annotations: &[(&str, &str)]) -> cri::PodSandboxConfig {
    let mut config = sandbox(name);
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options = Some(host_network());
    config.annotations = annotations
        .iter()
        .map(|(key, value)| (format!("wasmpod.dev/{key}"), (*value).to_owned()))
        .collect();
    config
}

fn things(name: &str, image: &str, things: &[&str]) -> cri::ContainerConfig {
    let mut config = container(name, image);
    config.args = things.iter().map(|&word| word.to_owned()).collect();
    config
}

/// Sends `text`, closes that direction, and reads to the end.
fn ask(at: SocketAddr, text: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&at, WAIT).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(text).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// [`ask`], from an async test.
async fn asked(at: SocketAddr, text: &'static str) -> String {
    let answer = tokio::task::spawn_blocking(move || ask(at, text.as_bytes())).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_p1_module_serves_on_the_sockets_that_its_annotation_names() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let (first, second) = (Port::new(), Port::new());
    let listen = format!("tcp:{},tcp:127.0.0.1:{}", first.number, second.number);
    let pod = daemon.run_pod(annotated("p1", &[("listen.server", &listen)])).await;
    let words = [
        "serve-fd",
        "3",
        "2",
        "--",
        "serve-fd",
        "4",
        "1",
        "--",
        "read",
        "/etc/hostname",
        "--",
        "idle",
    ];
    let server = pod.run(things("server", &image, &words)).await;
    server.says("listening on 3").await;
    assert_eq!(asked(first.at(), "one").await, "one");
    // More than any buffer on the way holds, both directions at once.
    let at = first.at();
    let big: Vec<u8> = (0..4_000_000_u32).map(|byte| byte as u8).collect();
    let expected = big.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect_timeout(&at, WAIT).unwrap();
        let mut writes = stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            writes.write_all(&big).unwrap();
            writes.shutdown(Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        writer.join().unwrap();
        answer
    });
    assert!(answer.await.unwrap() == expected);
    server.says("listening on 4").await;
    assert_eq!(asked(second.at(), "two").await, "two");
    // Its folders are still found behind the sockets.
    let log = server.says("read /etc/hostname: ok").await;
    assert!(!log.text("stdout").contains("BADF"), "{}", log.text("stdout"));

    // Another program of the container is not given them; a stop ends one that waits in accept.
    let exec = server.exec(&["probe", "serve-fd", "3", "1"], 20).await.unwrap();
    assert!(String::from_utf8_lossy(&exec.stdout).contains("NOTSOCK"), "{exec:?}");
    server.stop(0).await;
}

#[tokio::test]
async fn a_p1_server_is_ended_while_it_waits_for_a_connection_and_a_taken_port_is_told() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let port = Port::new();
    let listen = format!("tcp:{}", port.number);
    let pod = daemon.run_pod(annotated("p1", &[("listen", &listen)])).await;
    let server = pod.run(things("waits", &image, &["serve-fd", "3", "1"])).await;
    server.says("listening on 3").await;
    let second = pod.create(things("second", &image, &["idle"])).await;
    let error = second.start().await.unwrap_err();
    let expected = format!("cannot listen on tcp:{}: the port is taken", port.number);
    assert!(error.message().contains(&expected), "{}", error.message());
    assert_eq!(second.status().await.unwrap().reason, "StartError");
    server.stop(0).await;
    assert_eq!(server.exit().await.exit_code, 137);
    // Its port is free again.
    let third = pod.run(things("third", &image, &["serve-fd", "3", "1"])).await;
    third.says("listening on 3").await;
    assert_eq!(asked(port.at(), "again").await, "again");
    assert_eq!(third.exit().await.exit_code, 0);
}

#[tokio::test]
async fn a_go_server_serves_http_on_its_listener() {
    if !support::guest("go-server").exists() {
        support::skipped("the Go server was not built");
        return;
    }
    let daemon = Daemon::start().await;
    let image = daemon.import("go-server").await;
    let port = Port::new();
    let pod = daemon
        .run_pod(annotated("go", &[("listen.server", &format!("tcp:{}", port.number))]))
        .await;
    let server = pod.run(container("server", &image)).await;
    server.says("serving").await;
    // Several at once, on connections that stay open.
    let at = port.at();
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            tokio::task::spawn_blocking(move || {
                let mut stream = TcpStream::connect_timeout(&at, WAIT).unwrap();
                stream.set_read_timeout(Some(WAIT)).unwrap();
                for _ in 0..5 {
                    write!(stream, "GET /{caller} HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
                    let mut answer = String::new();
                    while !answer.contains("from ") {
                        let mut piece = [0; 1024];
                        let read = stream.read(&mut piece).unwrap();
                        assert!(read > 0, "{answer}");
                        answer.push_str(std::str::from_utf8(&piece[..read]).unwrap());
                    }
                    assert!(answer.contains(&format!("GET /{caller} from")), "{answer}");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    server.stop(0).await;
}

#[tokio::test]
async fn components_serve_and_ask_by_tcp_and_udp() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe-p2").await;
    let pod = daemon.run_pod(annotated("p2", &[])).await;
    let server = pod
        .run(things(
            "server",
            &image,
            &["serve", "127.0.0.1:0", "1", "--", "udp-serve", "127.0.0.1:0", "1"],
        ))
        .await;
    let at = listening(&server, 0).await;
    let told = pod.output_of("asks", &image, &["ask", &at, "over tcp"]).await;
    assert!(told.contains("ok over tcp"), "{told}");
    let at = listening(&server, 1).await;
    let told = pod.output_of("asks-udp", &image, &["udp-ask", &at, "over udp"]).await;
    assert!(told.contains("ok over udp"), "{told}");
    assert_eq!(server.exit().await.exit_code, 0);
}

/// Where a probe's nth server listens.
async fn listening(server: &Container, index: usize) -> String {
    support::eventually("it listens", || {
        let told = server.log().text("stdout");
        let mut lines = told.lines().filter_map(|line| line.strip_prefix("listening "));
        lines.nth(index).map(str::to_owned)
    })
    .await
}

#[tokio::test]
async fn the_policy_s_annotations_bound_what_sockets_reach() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe-p2").await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let shut = other.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        }
    });
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let free = Port::new();
    let rule = format!("tcp:127.0.0.0/8:{}", open.port());
    let bind = format!("tcp:{}", free.number);
    let notes = [("connect.bounded", rule.as_str()), ("bind.bounded", &bind)];
    let pod = daemon.run_pod(annotated("policy", &notes)).await;
    let open = open.to_string();
    let told = pod
        .output_of(
            "bounded",
            &image,
            &[
                "ask",
                &open,
                "in",
                "--",
                "ask",
                &shut,
                "out",
                "--",
                "udp-ask",
                &udp,
                "out",
                "--",
                "serve",
                "127.0.0.1:0",
                "1",
                "--",
                "serve",
                "127.0.0.1:9",
                "1",
                "--",
                "say",
                "end",
            ],
        )
        .await;
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].ends_with("ok in"), "{told}");
    assert!(lines[1..5].iter().all(|line| line.ends_with(": ACCES")), "{told}");
    // What names another container, or none, does not bound this one.
    drop(other);
    let told = pod.output_of("free", &image, &["ask", &shut, "", "--", "say", "end"]).await;
    assert!(!told.contains("ACCES"), "{told}");
    // The bound one may serve where it is allowed to.
    let at = free.at().to_string();
    let words = ["serve", &at, "1"];
    let mut config = things("bounded", &image, &words);
    config.metadata.as_mut().unwrap().attempt = 1;
    let server = pod.run(config).await;
    server.says("listening").await;
    assert_eq!(asked(free.at(), "served").await, "served");
}

#[tokio::test]
async fn a_node_that_denies_lets_out_only_what_is_annotated() {
    let daemon = Daemon::start_with("[network]\nguests = \"deny\"\n").await;
    let image = daemon.import("probe-p2").await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let pod = daemon.run_pod(annotated("denied", &[])).await;
    let told = pod
        .output_of(
            "closed",
            &image,
            &["ask", &at, "x", "--", "resolve", "localhost", "--", "say", "end"],
        )
        .await;
    assert!(told.contains("ask") && told.matches(": ACCES").count() >= 1, "{told}");
    assert!(!told.contains("127.0.0.1\n"), "a name was looked up: {told}");
}

#[tokio::test]
async fn bad_annotations_are_the_caller_s_error_and_name_themselves() {
    let daemon = Daemon::start().await;
    let (probe, component) = (daemon.import("probe").await, daemon.import("probe-p2").await);
    for (key, value, says) in [
        ("listen.a", "tcp:http", "annotation wasmpod.dev/listen.a: \"tcp:http\" has no port"),
        ("bind", "80", "annotation wasmpod.dev/bind: \"80\" has no protocol"),
        ("connect.a", "tcp:db:5432", "names no IP address"),
        ("http.a", "port=0", "no port from 1"),
    ] {
        let pod = daemon.run_pod(annotated(&key.replace('.', "-"), &[(key, value)])).await;
        let error = pod.try_create(container("a", &probe)).await.err().unwrap();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert!(error.message().contains(says), "{}", error.message());
    }
    let port = Port::new();
    let listen = format!("tcp:{}", port.number);
    let pod = daemon.run_pod(annotated("component", &[("listen", &listen)])).await;
    let created = pod.create(container("a", &component)).await;
    let error = created.start().await.unwrap_err();
    assert!(error.message().contains("is a component, which opens its sockets itself"), "{error}");
}
