//! The proxy between the test's namespace and a sandbox's own, whose servers are threads of the
//! test that joined it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::*;
use crate::model::ids::SandboxId;
use crate::model::sockets::Protocol;
use crate::shim::sandbox::{NetworkMode, SandboxSpec};

const WAIT: Duration = Duration::from_secs(20);
const INSIDE: u16 = 8080;

/// A port that was free a moment ago.
fn free() -> u16 {
    TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

fn port(protocol: Protocol, ip: Option<&str>, host: u16) -> HostPort {
    HostPort { protocol, ip: ip.map(|ip| ip.parse().unwrap()), host, container: INSIDE }
}

async fn try_sandbox(ports: &[HostPort]) -> Result<Arc<Sandbox>> {
    let engine = crate::engine::new().expect("an engine");
    let spec = SandboxSpec {
        id: SandboxId::random(),
        network: NetworkMode::Own,
        etc_layer: None,
        cpus: None,
        memory: u64::MAX,
        ports: PortsSpec { ports: ports.to_vec(), addresses: Vec::new() },
        hooks: None,
    };
    Sandbox::start(&engine, spec, None).await
}

/// `None`, and says so, where this user may make no network namespace.
async fn sandbox(ports: &[HostPort]) -> Option<Arc<Sandbox>> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a network namespace of the pod's own needs root");
        return None;
    }
    Some(try_sandbox(ports).await.unwrap())
}

/// Does that in the sandbox's namespace.
async fn within<T: Send + 'static>(
    sandbox: &Arc<Sandbox>,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let own = sandbox.clone();
    let thread = std::thread::spawn(move || {
        own.join().unwrap();
        work()
    });
    tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap()
}

/// Answers each connection with what it sends, once it has sent all.
async fn echo(sandbox: &Arc<Sandbox>, address: &'static str) {
    let listener = within(sandbox, move || TcpListener::bind((address, INSIDE)).unwrap()).await;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes)?;
                stream.write_all(&bytes)
            });
        }
    });
}

fn ask(at: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&at, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    let mut writes = stream.try_clone()?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A reset is seen by whoever reads.
            let _ = writes.write_all(bytes);
            let _ = writes.shutdown(Shutdown::Write);
        });
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    })
}

async fn asked(at: SocketAddr, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    tokio::task::spawn_blocking(move || ask(at, &bytes)).await.unwrap()
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

#[tokio::test]
async fn connections_of_both_families_are_carried_whole_to_whichever_loopback_listens() {
    let host = free();
    let Some(pod) = sandbox(&[port(Protocol::Tcp, None, host)]).await else { return };
    let refused = asked(at("127.0.0.1", host), b"x".to_vec()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset, "nobody listens in the pod");
    echo(&pod, "::1").await;
    assert_eq!(asked(at("127.0.0.1", host), b"six".to_vec()).await.unwrap(), b"six");
    echo(&pod, "127.0.0.1").await;
    // More than all buffers on the way hold.
    let big: Vec<u8> = (0..12_000_000_u32).map(|byte| (byte >> 3) as u8).collect();
    assert!(asked(at("::1", host), big.clone()).await.unwrap() == big);
    assert_eq!(asked(at("127.0.0.1", host), Vec::new()).await.unwrap(), b"");
    pod.end().await;
    TcpListener::bind(("0.0.0.0", host)).expect("the port is free again");
}

#[tokio::test]
async fn a_reset_by_the_pod_is_a_reset_for_the_client() {
    let host = free();
    let port = port(Protocol::Tcp, Some("127.0.0.1"), host);
    let Some(pod) = sandbox(&[port]).await else { return };
    let listener = within(&pod, || TcpListener::bind(("127.0.0.1", INSIDE)).unwrap()).await;
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    let error = asked(at("127.0.0.1", host), b"x".to_vec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    pod.end().await;
}

#[tokio::test]
async fn ending_the_sandbox_ends_its_connections() {
    let host = free();
    let Some(pod) = sandbox(&[port(Protocol::Tcp, None, host)]).await else { return };
    echo(&pod, "127.0.0.1").await;
    let mut open = TcpStream::connect_timeout(&at("127.0.0.1", host), WAIT).unwrap();
    open.set_read_timeout(Some(WAIT)).unwrap();
    open.write_all(b"x").unwrap();
    pod.end().await;
    let ended = open.read(&mut [0; 1]);
    assert!(
        matches!(&ended, Ok(0)) || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
    );
}

#[tokio::test]
async fn a_port_in_use_is_named_and_an_address_of_another_machine_too() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().port();
    let told = |ports: Vec<HostPort>| async move {
        try_sandbox(&ports).await.err().expect("it is refused").to_string()
    };
    let expected = format!("host port {taken}/tcp is in use");
    let error = told(vec![port(Protocol::Tcp, None, taken)]).await;
    assert!(error.starts_with(&expected) && !error.contains('\n'), "{error}");
    let error = told(vec![port(Protocol::Tcp, Some("192.0.2.1"), 4242)]).await;
    assert!(error.starts_with("host port 192.0.2.1:4242/tcp cannot be served"), "{error}");
    let twice = port(Protocol::Udp, Some("::1"), free());
    let error = told(vec![twice, twice]).await;
    assert!(error.starts_with(&format!("host port [::1]:{}/udp is in use", twice.host)), "{error}");
}

#[tokio::test]
async fn an_answer_comes_from_the_address_that_was_asked() {
    let host = free();
    let (both, four) = (port(Protocol::Udp, None, host), free());
    let four = port(Protocol::Udp, Some("0.0.0.0"), four);
    let Some(pod) = sandbox(&[both, four]).await else { return };
    let server = within(&pod, || UdpSocket::bind(("127.0.0.1", INSIDE)).unwrap()).await;
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((read, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..read], from);
        }
    });
    let asks = [("127.0.0.9", host), ("127.0.0.1", host), ("::1", host), ("127.0.0.9", four.host)];
    for (address, port) in asks {
        let answered = tokio::task::spawn_blocking(move || {
            let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let client = UdpSocket::bind(any).unwrap();
            client.set_read_timeout(Some(WAIT)).unwrap();
            client.send_to(b"x", at(address, port)).unwrap();
            client.recv_from(&mut [0; 8]).unwrap().1
        });
        assert_eq!(answered.await.unwrap(), at(address, port));
    }
    pod.end().await;
}

#[tokio::test]
async fn datagrams_find_their_way_there_and_back_for_each_client() {
    let host = free();
    let Some(pod) = sandbox(&[port(Protocol::Udp, None, host)]).await else { return };
    let client = |address: &str| {
        let any = if address.contains(':') { "[::1]:0" } else { "127.0.0.1:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(at(address, host)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        socket
    };
    // Lost, for nobody listens; asked anew until somebody does.
    let ask = move |socket: &UdpSocket, text: &[u8]| {
        let begun = std::time::Instant::now();
        let mut buffer = [0; 64];
        loop {
            socket.send(text).unwrap();
            if let Ok(read) = socket.recv(&mut buffer) {
                return buffer[..read].to_vec();
            }
            assert!(begun.elapsed() < WAIT, "no answer");
        }
    };
    let (one, two) = (client("127.0.0.1"), client("::1"));
    client("127.0.0.1").send(b"lost").unwrap();
    let server = |address: &'static str| {
        within(&pod, move || {
            let socket = UdpSocket::bind((address, INSIDE)).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                loop {
                    let (read, from) = socket.recv_from(&mut buffer).unwrap();
                    let mut answer = from.to_string().into_bytes();
                    answer.extend_from_slice(&buffer[..read]);
                    socket.send_to(&answer, from).unwrap();
                    if &buffer[..read] == b"end" {
                        return;
                    }
                }
            });
        })
    };
    server("::1").await;
    let answers = tokio::task::spawn_blocking(move || {
        let answers = [ask(&one, b"a"), ask(&two, b"b"), ask(&one, b"a"), ask(&one, b"end")];
        (answers, one)
    });
    let (answers, one) = answers.await.unwrap();
    let texts: Vec<_> =
        answers.iter().map(|answer| String::from_utf8(answer.clone()).unwrap()).collect();
    assert!(texts[0].starts_with("[::1]:") && texts[0].ends_with('a'), "{texts:?}");
    assert!(texts[1].ends_with('b'), "{texts:?}");
    assert_eq!(texts[0], texts[2], "a client keeps its socket");
    assert_ne!(texts[0].trim_end_matches('a'), texts[1].trim_end_matches('b'));
    // Its server has gone, the next one is found at another address.
    server("127.0.0.1").await;
    let answer = tokio::task::spawn_blocking(move || ask(&one, b"c")).await.unwrap();
    assert!(answer.starts_with(b"127.0.0.1:"), "{answer:?}");
    pod.end().await;
    UdpSocket::bind(("0.0.0.0", host)).expect("the port is free again");
}
