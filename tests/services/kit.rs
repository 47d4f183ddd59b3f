//! What tests of services share: a client's requests, services to ask.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use support::{Container, Daemon, Port, container, host_network, sandbox};
use wasmpod::proto::cri;

use crate::support;

pub const WAIT: Duration = Duration::from_secs(30);

/// What a client got.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

pub fn call(at: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&at, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    let length = body.len();
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    Ok(Answer { status, body: if is_chunked { joined(body) } else { body.to_owned() } })
}

/// A chunked body's bytes.
fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        body.push_str(&rest[..size]);
        chunks = rest[size..].trim_start_matches("\r\n");
    }
    body
}

pub async fn get(at: SocketAddr, path: &str) -> Answer {
    let head = format!("GET {path}");
    tokio::task::spawn_blocking(move || call(at, &head, b"")).await.unwrap().unwrap()
}

pub async fn post(at: SocketAddr, path: &str, body: &'static [u8]) -> Answer {
    let head = format!("POST {path}");
    tokio::task::spawn_blocking(move || call(at, &head, body)).await.unwrap().unwrap()
}

/// A pod on the host's network.
pub fn pod(name: &str, annotations: &[(&str, String)]) -> cri::PodSandboxConfig {
    let mut config = sandbox(name);
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options = Some(host_network());
    config.annotations = annotations
        .iter()
        .map(|(key, value)| (format!("wasmpod.dev/{key}"), value.clone()))
        .collect();
    config
}

/// One service in a pod of its own, with more settings behind its port.
pub async fn serve(daemon: &Daemon, guest: &str, settings: &str) -> (Container, Port) {
    let port = Port::new();
    let image = daemon.import(guest).await;
    let note = format!("port={}{settings}", port.number);
    let pod = daemon.run_pod(pod(guest, &[("http.web", note)])).await;
    (pod.run(container("web", &image)).await, port)
}
