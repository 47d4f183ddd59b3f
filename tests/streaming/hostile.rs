//! Clients that do not speak as they should.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::Daemon;

use super::kit::{PIPES, all, exec, exec_url, idle, until};
use crate::support;

/// The address of a streaming URL, and its path.
fn parts(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    (address.to_owned(), format!("/{path}"))
}

/// Sends `request` and gives the first line of the answer.
async fn answer(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut text));
    let count = read.await.expect("it answers").unwrap();
    String::from_utf8_lossy(&text[..count]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn requests_that_are_none_get_an_answer_that_says_so() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let url = exec_url(&main, &["probe", "idle"], PIPES).await.unwrap();
    let (address, path) = parts(&url);
    let spdy = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
    for (request, expected) in [
        (format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"), "400"),
        (format!("PUT {path} HTTP/1.1\r\nHost: a\r\n{spdy}\r\n"), "405"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{spdy}\r\n"), "404"),
        (format!("GET /exec/AAAAAAAA HTTP/1.1\r\nHost: a\r\n{spdy}\r\n"), "404"),
        (
            format!(
                "GET {path} HTTP/1.1\r\nHost: a\r\n{spdy}X-Stream-Protocol-Version: v9\r\n\r\n"
            ),
            "403",
        ),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let line = answer(&address, &request).await;
        assert!(line.contains(expected), "{request:?}: {line:?}");
    }
    // None of these has used the token up.
    let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{spdy}\r\n");
    assert!(answer(&address, &request).await.contains("101"));
}

#[tokio::test]
async fn a_client_that_upgrades_and_talks_nonsense_is_dropped() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    for nonsense in [&[0xff; 64][..], b"GET / HTTP/1.1\r\n\r\n", &[0x80, 3, 0, 1, 0, 0, 0, 4]] {
        let url = exec_url(&main, &["probe", "idle"], PIPES).await.unwrap();
        let (address, path) = parts(&url);
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        stream.write_all(nonsense).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(support::DEADLINE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the daemon kept the connection");
    }
    assert_eq!(super::kit::exec_threads(&main), 0);
    assert_eq!(main.exec(&["probe", "say", "well"], 10).await.unwrap().stdout, b"well\n");
}

#[tokio::test]
async fn a_session_on_which_nothing_moves_ends() {
    let daemon = Daemon::start_with("[streaming]\nidle_seconds = 1\n").await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let mut remote = exec(&main, &["probe", "say", "moving", "--", "idle"], PIPES).await;
    until(remote.stdout.as_mut().unwrap(), "moving").await;
    let ended = tokio::time::timeout(support::DEADLINE, all(&mut remote.status)).await;
    assert!(ended.is_ok(), "the session goes on");
    let gone = || (super::kit::exec_threads(&main) == 0).then_some(());
    support::eventually("the program has gone", gone).await;
}
