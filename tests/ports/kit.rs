//! Pods that serve, and who calls them from the host.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{self, Daemon};

pub const WAIT: Duration = Duration::from_secs(20);

/// A port of this machine that was free a moment ago, for both families. It is not held: the
/// proxy would be refused it.
pub fn free_port() -> u16 {
    TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A pod with these fields of its spec beside what ends it at once, in YAML's flow style, as a
/// file of the daemon's folder. `./NAME.wasm` is a guest.
pub fn write(daemon: &Daemon, name: &str, spec: &str) -> PathBuf {
    for guest in ["probe", "probe-p2", "p3-command", "web", "web-p3"] {
        let file = daemon.path().join(format!("{guest}.wasm"));
        if spec.contains(&format!("./{guest}.wasm")) && !file.exists() {
            std::fs::copy(support::guest(guest), &file).unwrap();
        }
    }
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: \
         {{terminationGracePeriodSeconds: 0, {spec}}}}}\n"
    );
    let file = daemon.path().join(format!("{name}.yaml"));
    std::fs::write(&file, text).unwrap();
    file
}

/// `wasmpod run -d` of [`write`]'s pod with these options.
pub async fn try_run(daemon: &Daemon, options: &[&str], name: &str, spec: &str) -> Output {
    let file = write(daemon, name, spec).display().to_string();
    let words = [&["run", "-d"], options, &[file.as_str()]].concat();
    daemon.try_cli(&words).await
}

pub async fn run(daemon: &Daemon, options: &[&str], name: &str, spec: &str) -> Output {
    let output = try_run(daemon, options, name, spec).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Waits until a container of the pod has written that.
pub async fn says(daemon: &Daemon, pod: &str, text: &str) -> String {
    support::eventually_async(&format!("{pod} says {text:?}"), || async {
        let logs = daemon.try_cli(&["logs", pod]).await;
        let told = String::from_utf8_lossy(&logs.stdout).into_owned();
        told.contains(text).then_some(told)
    })
    .await
}

/// Sends `text`, closes that direction, reads to the end.
pub fn ask(at: SocketAddr, text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&at, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.write_all(text)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

pub async fn asked(at: SocketAddr, text: &str) -> std::io::Result<String> {
    let text = text.as_bytes().to_vec();
    let answer = tokio::task::spawn_blocking(move || ask(at, &text)).await.unwrap();
    answer.map(|bytes| String::from_utf8(bytes).unwrap())
}

/// What a service answers to GET, once it serves.
pub async fn got(at: SocketAddr, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
    support::eventually_async(&format!("{at} serves {path}"), || {
        let head = head.clone();
        let call = move || {
            let mut stream = TcpStream::connect_timeout(&at, WAIT).ok()?;
            stream.set_read_timeout(Some(WAIT)).ok()?;
            stream.write_all(head.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        };
        async { tokio::task::spawn_blocking(call).await.unwrap() }
    })
    .await
}

/// Sends datagrams until one is answered.
pub async fn asked_by_udp(at: SocketAddr, text: &'static str) -> String {
    let call = move || {
        let any = if at.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        loop {
            // Refused where nobody listens.
            let _ = socket.send(text.as_bytes());
            if let Ok(read) = socket.recv(&mut buffer) {
                return String::from_utf8(buffer[..read].to_vec()).unwrap();
            }
            assert!(begun.elapsed() < WAIT, "nobody answers at {at}");
        }
    };
    tokio::task::spawn_blocking(call).await.unwrap()
}

/// What `wasmpod ps` knows of a pod.
pub async fn listed(daemon: &Daemon, pod: &str) -> Value {
    let output = daemon.cli(&["ps", "-o", "json"]).await;
    let pods: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    pods.into_iter().find(|listed| listed["name"] == pod).unwrap_or_default()
}
