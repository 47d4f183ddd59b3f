//! Pods of `wasmpod run` on a network.

use super::kit::{Net, possible};
use crate::support::{Daemon, guest};

#[tokio::test]
async fn a_pod_of_the_agent_knows_its_names_and_addresses() {
    if !possible() {
        return;
    }
    let net = Net::new();
    net.write(&[net.bridge_plugin()]);
    let daemon = Daemon::start_with(&net.configuration()).await;
    let manifest = "{apiVersion: v1, kind: Pod, metadata: {name: named}, spec: {restartPolicy: \
                    Never, hostname: box, hostAliases: [{ip: 10.1.2.3, hostnames: [db]}], \
                    dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.53], searches: [pods.test], \
                    options: [{name: ndots, value: '3'}]}, containers: [{name: a, image: PROBE, \
                    env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: IPS, \
                    valueFrom: {fieldRef: {fieldPath: status.podIPs}}}], args: [dump, --, read, \
                    /etc/hosts, --, read, /etc/resolv.conf, --, read, /etc/hostname]}]}}";
    let file = daemon.path().join("named.yaml");
    let probe = guest("probe").display().to_string();
    std::fs::write(&file, manifest.replace("PROBE", &probe)).unwrap();
    let output = daemon.cli(&["run", &file.display().to_string()]).await;
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = |name: &str| {
        let line = output.lines().find_map(|line| line.split_once(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("no {name}:\n{output}")).1.trim().to_owned()
    };
    let ((a, b), ip) = (net.subnet, value("IP"));
    assert!(ip.starts_with(&format!("10.{a}.{b}.")), "{output}");
    let ips = value("IPS");
    let (first, second) = ips.split_once(',').unwrap();
    assert!(first == ip && second.starts_with(&format!("fd00:{a:x}:{b:x}:")), "{output}");
    for line in [
        &format!("{ip}\tbox"),
        &format!("{second}\tbox"),
        "10.1.2.3\tdb",
        "search pods.test",
        "nameserver 192.0.2.53",
        "options ndots:3",
        "read /etc/hostname: ok box",
    ] {
        assert!(output.contains(line), "{line:?} is missing:\n{output}");
    }
    assert!(!output.contains("127.0.0.1\tbox"), "{output}");
}
