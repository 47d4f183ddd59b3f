//! What a service asks of others: requests in the clear and encrypted ones, names.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use support::{Daemon, NameServer, Port, container, eventually};

use super::kit::{get, pod};
use crate::support;

#[tokio::test]
async fn outgoing_requests_go_by_the_container_s_names_and_its_policy() {
    let daemon = Daemon::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap();
            let line = String::from_utf8_lossy(&head[..read]).lines().next().unwrap().to_owned();
            let length = line.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{line}").unwrap();
        }
    });
    let image = daemon.import("web").await;
    let port = Port::new();
    let notes = [
        ("http.web", port.number.to_string()),
        ("connect.web", format!("tcp:127.0.0.1:{}", open.port())),
    ];
    let pod = daemon.run_pod(pod("fetches", &notes)).await;
    let mut config = container("web", &image);
    // The pod's own /etc/hosts, as a kubelet mounts it.
    let hosts = daemon.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost backend.test\n10.255.0.1 elsewhere.test\n")
        .unwrap();
    config.mounts.push(support::mount(&hosts, "/etc/hosts"));
    let _web = pod.run(config).await;
    let inside = format!("/fetch?http://backend.test:{}/page", open.port());
    assert_eq!(get(port.at(), &inside).await.body, "GET /page HTTP/1.1");
    let denied = get(port.at(), "/fetch?http://elsewhere.test/").await;
    assert_eq!((denied.status, denied.body.as_str()), (502, "ErrorCode::HttpRequestDenied\n"));
    assert_eq!(get(port.at(), "/look?backend.test").await.body, "127.0.0.1\n");
}

/// Somebody who answers HTTPS requests as backend.test, by a certificate that says so itself.
struct Backend {
    process: std::process::Child,
    certificate: std::path::PathBuf,
    at: SocketAddr,
}

impl Backend {
    /// `None`, said aloud, without openssl.
    async fn start(folder: &std::path::Path) -> Option<Self> {
        let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
        let port = Port::new();
        let at = port.at();
        let openssl = |arguments: &[&str]| {
            let mut command = std::process::Command::new("openssl");
            command.args(arguments).stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::null());
            command
        };
        let made = openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=backend.test",
            "-addext",
            "subjectAltName=DNS:backend.test",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .status();
        if !made.is_ok_and(|made| made.success()) {
            eprintln!("SKIPPED: HTTPS needs openssl");
            return None;
        }
        let mut server = openssl(&["s_server", "-quiet", "-www", "-accept", &at.to_string()]);
        let process = server.arg("-key").arg(&key).arg("-cert").arg(&certificate).spawn().unwrap();
        let backend = Self { process, certificate, at };
        eventually("it listens", || TcpStream::connect(at).ok().map(drop)).await;
        Some(backend)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn an_encrypted_request_trusts_whom_the_container_trusts() {
    let daemon = Daemon::start().await;
    let Some(backend) = Backend::start(daemon.path()).await else { return };
    let image = daemon.import("web").await;
    let hosts = daemon.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 backend.test other.test\n").unwrap();
    for (authorities, fetched) in [(true, 200), (false, 502)] {
        let port = Port::new();
        let pod = daemon.run_pod(pod("fetches", &[("http.web", port.number.to_string())])).await;
        let mut config = container("web", &image);
        config.mounts.push(support::mount(&hosts, "/etc/hosts"));
        if authorities {
            let place = "/etc/ssl/certs/ca-certificates.crt";
            config.mounts.push(support::mount_read_only(&backend.certificate, place));
        }
        let _web = pod.run(config).await;
        let fetch = |host: &str| format!("/fetch?https://{host}:{}/", backend.at.port());
        // Twice: the second time the authorities are known.
        for _ in 0..2 {
            let answer = get(port.at(), &fetch("backend.test")).await;
            assert_eq!(answer.status, fetched, "{answer:?}");
        }
        assert_eq!(get(port.at(), &fetch("other.test")).await.status, 502, "not its name");
    }
}

#[tokio::test]
async fn names_are_asked_of_the_pod_s_name_servers_along_its_search_domains() {
    if !support::root_for("a name server on port 53") {
        return;
    }
    let daemon = Daemon::start().await;
    let server = NameServer::start();
    let image = daemon.import("web").await;
    let port = Port::new();
    let pod = daemon.run_pod(pod("names", &[("http.web", port.number.to_string())])).await;
    let mut config = container("web", &image);
    let resolv = daemon.path().join("resolv.conf");
    let text = format!(
        "nameserver {}\nsearch ns.svc.cluster.test svc.cluster.test\noptions ndots:5 timeout:1 \
         unknown:7\n",
        server.ip
    );
    std::fs::write(&resolv, text).unwrap();
    config.mounts.push(support::mount(&resolv, "/etc/resolv.conf"));
    let _web = pod.run(config).await;
    assert_eq!(get(port.at(), "/look?db").await.body, "10.9.8.7\n");
    assert_eq!(get(port.at(), "/look?outside.test").await.body, "10.9.8.6\n");
    let none = get(port.at(), "/look?nothing").await;
    assert_eq!(none.status, 502, "{none:?}");
    let asked = server.asked();
    assert_eq!(
        asked.iter().find(|name| name.starts_with("db.")).unwrap(),
        "db.ns.svc.cluster.test"
    );
    // Five dots are more than that name has: the search domains come first.
    assert!(asked.contains(&"outside.test.ns.svc.cluster.test".to_owned()), "{asked:?}");
}
