//! Pods on a bridge.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use wasmpod::proto::cri;

use super::kit::{Net, addresses, namespace, networked, possible, remains, within};
use crate::support::{Daemon, container, eventually};

const WAIT: Duration = Duration::from_secs(20);

/// What answers at `address` says.
fn call(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&address, WAIT).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Says `text` to whoever calls once.
fn answer(listener: TcpListener, text: &'static str) {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(text.as_bytes()).unwrap();
    });
}

#[tokio::test]
async fn pods_on_a_bridge_reach_each_other_and_the_host_and_give_everything_back() {
    if !possible() {
        return;
    }
    let net = Net::new();
    net.write(&[net.bridge_plugin()]);
    let mut daemon = Daemon::start_with(&net.configuration()).await;
    let one = daemon.run_pod(networked("one")).await;
    let two = daemon.run_pod_with(networked("two"), "wasm-isolated").await;
    let (ips_one, ips_two) = (addresses(&one).await, addresses(&two).await);
    for ips in [&ips_one, &ips_two] {
        assert!(ips[0].is_ipv4() && ips[1].is_ipv6() && ips.len() == 2, "{ips:?}");
    }
    let mut all: Vec<IpAddr> = ips_one.iter().chain(&ips_two).copied().collect();
    all.sort();
    assert_eq!(net.reserved(), all);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);

    // A guest runs there, and its shim's thread stands in the namespace.
    let image = daemon.import("probe").await;
    let mut config = container("main", &image);
    config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
    let guest = one.run(config).await;
    guest.says("here").await;
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(namespace(&daemon, &one)).unwrap().ino();
    let is_there = daemon.shims().into_iter().any(|shim| {
        let threads = std::fs::read_dir(format!("/proc/{shim}/task")).unwrap();
        threads
            .filter_map(|thread| std::fs::metadata(thread.ok()?.path().join("ns/net")).ok())
            .any(|found| found.ino() == inode)
    });
    assert!(is_there, "no thread of a shim is in the pod's namespace");

    // TCP from pod to pod, by both families.
    let (first, second) = (namespace(&daemon, &one), namespace(&daemon, &two));
    for ip in ips_two.clone() {
        let listener = within(&second, move || TcpListener::bind((ip, 0)).unwrap());
        let address = listener.local_addr().unwrap();
        answer(listener, "two");
        assert_eq!(within(&first, move || call(address)), "two");
    }
    // UDP from the host to a pod and back: an echo.
    let ip = ips_one[0];
    let echo = within(&first, move || UdpSocket::bind((ip, 0)).unwrap());
    let address = echo.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let (count, from) = echo.recv_from(&mut buffer).unwrap();
        echo.send_to(&buffer[..count], from).unwrap();
    });
    let asks = UdpSocket::bind("0.0.0.0:0").unwrap();
    asks.set_read_timeout(Some(WAIT)).unwrap();
    asks.send_to(b"echo", address).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(asks.recv(&mut buffer).unwrap(), 4);
    // From a pod to the host, at the bridge's own address.
    let (a, b) = net.subnet;
    let listener = TcpListener::bind((Ipv4Addr::new(10, a, b, 1), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    answer(listener, "host");
    assert_eq!(within(&first, move || call(address)), "host");
    let interfaces = within(&first, || {
        let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let names = table.lines().skip(2).map(|line| line.split(':').next().unwrap().trim());
        names.map(str::to_owned).collect::<BTreeSet<_>>()
    });
    assert!(interfaces.contains("lo") && interfaces.contains("eth0"), "{interfaces:?}");

    // A new daemon finds everything again.
    daemon.restart().await;
    assert_eq!(addresses(&one).await, ips_one);
    assert!(namespace(&daemon, &one).exists());

    one.stop().await;
    one.stop().await;
    assert_eq!(one.status().await.unwrap().network, None);
    assert!(!namespace(&daemon, &one).exists());
    let left: BTreeSet<_> = net.reserved().into_iter().collect();
    assert_eq!(left, ips_two.into_iter().collect());
    one.remove().await;
    two.remove().await;
    assert_eq!(net.reserved(), Vec::<IpAddr>::new());
    assert_eq!(remains(&daemon), Vec::<std::path::PathBuf>::new());
    eventually("the links are gone", || net.ports().is_empty().then_some(())).await;
}

fn iptables() -> Option<String> {
    let output = Command::new("iptables-save").args(["-t", "nat"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A pod whose port 8080 is to be had at the host's port, which is free now.
fn with_host_port(name: &str) -> (cri::PodSandboxConfig, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut config = networked(name);
    config.port_mappings = vec![cri::PortMapping {
        protocol: cri::Protocol::Tcp.into(),
        container_port: 8080,
        host_port: i32::from(port),
        host_ip: String::new(),
    }];
    (config, port)
}

#[tokio::test]
async fn a_host_port_leads_to_the_pod_and_goes_with_it() {
    if !possible() {
        return;
    }
    if iptables().is_none() {
        eprintln!("SKIPPED: host ports need iptables");
        return;
    }
    let net = Net::new();
    let portmap = json!({"type": "portmap", "snat": true, "capabilities": {"portMappings": true}});
    let firewall = json!({"type": "firewall"});
    net.write(&[net.bridge_plugin(), portmap, firewall]);
    let daemon = Daemon::start_with(&net.configuration()).await;
    let (config, port) = with_host_port("ports");
    let pod = daemon.run_pod(config).await;
    let listener = within(&namespace(&daemon, &pod), || TcpListener::bind("0.0.0.0:8080").unwrap());
    answer(listener, "pod");
    let (a, b) = net.subnet;
    assert_eq!(call((Ipv4Addr::new(10, a, b, 1), port).into()), "pod");
    assert!(iptables().unwrap().contains(&pod.id));
    pod.remove().await;
    let rules = iptables().unwrap();
    assert!(!rules.contains(&pod.id) && !rules.contains(&format!("dport {port} ")), "{rules}");
    assert_eq!(net.reserved(), Vec::<IpAddr>::new());
}

#[tokio::test]
async fn a_host_port_leads_to_the_pods_address_by_proxy_where_no_plugin_maps_ports() {
    if !possible() {
        return;
    }
    let net = Net::new();
    net.write(&[net.bridge_plugin()]);
    let daemon = Daemon::start_with(&net.configuration()).await;
    let (config, port) = with_host_port("proxied");
    let pod = daemon.run_pod(config).await;
    let ip = addresses(&pod).await[0];
    let listener =
        within(&namespace(&daemon, &pod), move || TcpListener::bind((ip, 8080)).unwrap());
    answer(listener, "pod");
    assert_eq!(call((Ipv4Addr::LOCALHOST, port).into()), "pod");
    pod.stop().await;
    TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
}

#[tokio::test]
async fn bandwidth_and_ptp_work_and_annotations_that_cannot_are_refused() {
    if !possible() {
        return;
    }
    let net = Net::new();
    let mut ptp = net.bridge_plugin();
    ptp["type"] = "ptp".into();
    net.write_as(
        "10-test.conflist",
        "0.4.0",
        &[ptp, json!({"type": "bandwidth", "capabilities": {"bandwidth": true}})],
    );
    let daemon = Daemon::start_with(&net.configuration()).await;
    let mut config = networked("slow");
    let note = ("kubernetes.io/ingress-bandwidth".to_owned(), "8M".to_owned());
    config.annotations = [note].into();
    let pod = daemon.run_pod(config).await;
    let ip = addresses(&pod).await[0];
    if let Ok(output) = Command::new("tc").args(["qdisc", "show"]).output() {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("rate 8Mbit"), "{text}");
    }
    // The host reaches it by the point-to-point link.
    let listener = within(&namespace(&daemon, &pod), move || TcpListener::bind((ip, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    answer(listener, "pod");
    assert_eq!(call(address), "pod");
    pod.remove().await;
    let mut config = networked("fast");
    config.annotations = [("kubernetes.io/egress-bandwidth".to_owned(), "very".to_owned())].into();
    let error = daemon.try_run_pod(config, "").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("egress-bandwidth: \"very\""), "{}", error.message());
    let mut config = networked("own");
    config.annotations = [("wasmpod.dev/ips".to_owned(), "10.1.1.1/24".to_owned())].into();
    let error = daemon.try_run_pod(config, "").await.unwrap_err();
    assert!(error.message().contains("has the capability ips"), "{}", error.message());
    assert_eq!(net.reserved(), Vec::<IpAddr>::new());
    assert_eq!(remains(&daemon), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_pods_come_and_go_side_by_side() {
    if !possible() {
        return;
    }
    let net = Net::new();
    net.write(&[net.bridge_plugin()]);
    let daemon = Daemon::start_with(&net.configuration()).await;
    let runs = (0..200).map(|number| daemon.run_pod(networked(&format!("many-{number}"))));
    let pods = futures::future::join_all(runs).await;
    let mut given = BTreeSet::new();
    for pod in &pods {
        given.extend(addresses(pod).await);
    }
    assert_eq!(given.len(), 400);
    assert_eq!(net.reserved().len(), 400);
    futures::future::join_all(pods.iter().map(|pod| async {
        pod.stop().await;
        pod.remove().await;
    }))
    .await;
    assert_eq!(net.reserved(), Vec::<IpAddr>::new());
    assert_eq!(remains(&daemon), Vec::<std::path::PathBuf>::new());
    eventually("the links are gone", || net.ports().is_empty().then_some(())).await;
}
