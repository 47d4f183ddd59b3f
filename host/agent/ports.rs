//! A pod's ports on the host: those of its manifest and those of `wasmpod run -p`, which become
//! a part of the manifest before it is taken on, so that they stay the same for all of its life.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use k8s_openapi::api::core::v1::{Container, ContainerPort};

use super::manifest::Manifest;
use crate::error::{Error, Result};
use crate::proto::cri;
use crate::proto::pod::PublishedPort;

/// Tries to find a port that is free and that the pod does not name itself.
const TRIES: usize = 16;

/// The protocol of a port that names none.
const TCP: &str = "TCP";

/// Adds what the command line wants.
pub fn publish(manifest: &mut Manifest, wanted: &[PublishedPort]) -> Result<()> {
    for wanted in wanted {
        let port = container_port(manifest, wanted)?;
        let Some(spec) = manifest.pod.spec.as_mut() else { continue };
        let is_meant = |known: &ContainerPort| {
            known.container_port == port.container_port
                && protocol(known) == protocol(&port)
                && known.host_port.unwrap_or(0) == 0
        };
        let mut known = spec.containers.iter_mut().flat_map(|c| c.ports.iter_mut().flatten());
        if let Some(known) = known.find(|known| is_meant(known)) {
            (known.host_port, known.host_ip) = (port.host_port, port.host_ip);
        } else if let Some(first) = spec.containers.first_mut() {
            // A pod's containers share its network, so any will do.
            first.ports.get_or_insert_default().push(port);
        }
    }
    Ok(())
}

fn container_port(manifest: &Manifest, wanted: &PublishedPort) -> Result<ContainerPort> {
    let number = |port: u32| {
        i32::try_from(port)
            .ok()
            .filter(|port| *port <= i32::from(u16::MAX))
            .ok_or_else(|| Error::Invalid(format!("{port} is no port")))
    };
    let is_udp = wanted.protocol.eq_ignore_ascii_case("udp");
    let is_on_host = manifest.spec()?.host_network == Some(true);
    let host = match wanted.host_port {
        0 if is_on_host => wanted.container_port,
        0 => free(manifest, wanted, is_udp)?.into(),
        port => port,
    };
    Ok(ContainerPort {
        container_port: number(wanted.container_port)?,
        host_ip: Some(wanted.host_ip.clone()).filter(|ip| !ip.is_empty()),
        host_port: Some(number(host)?),
        name: None,
        protocol: Some(if is_udp { "UDP" } else { TCP }.to_owned()),
    })
}

/// A port that is free now. Who comes before the pod's sandbox has it; the sandbox's error says
/// so.
fn free(manifest: &Manifest, wanted: &PublishedPort, is_udp: bool) -> Result<u16> {
    let ip = match wanted.host_ip.as_str() {
        // Free for both families.
        "" => IpAddr::from([0u16; 8]),
        text => text.parse().map_err(|_| Error::Invalid(format!("{text:?} is no IP address")))?,
    };
    let bind = |ip: IpAddr| match is_udp {
        true => UdpSocket::bind((ip, 0)).and_then(|socket| socket.local_addr()),
        false => TcpListener::bind((ip, 0)).and_then(|listener| listener.local_addr()),
    };
    for _ in 0..TRIES {
        let bound = bind(ip).or_else(|error| match wanted.host_ip.as_str() {
            "" => bind(IpAddr::from([0u8; 4])),
            _ => Err(error),
        });
        let port = bound.map_err(Error::io(format!("finding a free port of {ip}")))?.port();
        if published(manifest).iter().all(|known| known.host_port != u32::from(port)) {
            return Ok(port);
        }
    }
    Err(Error::Exhausted(format!("no free port of {ip} is found")))
}

/// Every port of the host that leads to the pod.
pub fn published(manifest: &Manifest) -> Vec<PublishedPort> {
    let number = |port: i32| u32::try_from(port).unwrap_or(0);
    let all = running(manifest).flat_map(|container| container.ports.iter().flatten());
    let published = all.map(|port| PublishedPort {
        protocol: protocol(port).to_ascii_lowercase(),
        host_ip: port.host_ip.clone().unwrap_or_default(),
        host_port: number(port.host_port.unwrap_or(0)),
        container_port: number(port.container_port),
    });
    published.filter(|port| port.host_port > 0).collect()
}

/// As CRI is told them, those without a port of the host too.
pub fn mappings(manifest: &Manifest) -> Vec<cri::PortMapping> {
    let all = running(manifest).flat_map(|container| container.ports.iter().flatten());
    let mapping = |port: &ContainerPort| cri::PortMapping {
        protocol: match protocol(port) {
            "UDP" => cri::Protocol::Udp,
            "SCTP" => cri::Protocol::Sctp,
            _ => cri::Protocol::Tcp,
        }
        .into(),
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    };
    all.map(mapping).collect()
}

/// App containers and sidecars: those that may serve. Init containers' ports are nobody's, as
/// for the kubelet.
fn running(manifest: &Manifest) -> impl Iterator<Item = &Container> {
    let is_sidecar = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    manifest
        .containers()
        .filter(move |(path, container)| {
            !path.starts_with("spec.initContainers") || is_sidecar(container)
        })
        .map(|(_, container)| container)
}

fn protocol(port: &ContainerPort) -> &str {
    port.protocol.as_deref().unwrap_or(TCP)
}

/// `127.0.0.1:8080/tcp`, `8080/udp`: the host's side.
pub fn host_side(port: &PublishedPort) -> String {
    match port.host_ip.parse() {
        Ok(ip) => {
            let number = u16::try_from(port.host_port).unwrap_or(0);
            format!("{}/{}", SocketAddr::new(ip, number), port.protocol)
        }
        Err(_) => format!("{}/{}", port.host_port, port.protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(spec: &str) -> Manifest {
        let text =
            format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{{spec}}}}}");
        Manifest::parse(&text).unwrap()
    }

    fn wanted(host_port: u32, container_port: u32, protocol: &str) -> PublishedPort {
        let (protocol, host_ip) = (protocol.to_owned(), String::new());
        PublishedPort { protocol, host_ip, host_port, container_port }
    }

    #[test]
    fn a_wish_becomes_the_host_port_of_the_port_that_it_means_or_a_new_one() {
        let mut manifest = manifest(
            "containers: [{name: a, image: x}, {name: b, image: x, ports: [{containerPort: 80}]}]",
        );
        let wishes = [wanted(8080, 80, "tcp"), wanted(8081, 80, "tcp"), wanted(8080, 80, "udp")];
        publish(&mut manifest, &wishes).unwrap();
        let ports = |name: &str| {
            let ports = manifest.container(name).unwrap().ports.clone().unwrap_or_default();
            ports.iter().map(|p| (p.host_port.unwrap(), protocol(p).to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(ports("b"), [(8080, "TCP".to_owned())]);
        assert_eq!(ports("a"), [(8081, "TCP".to_owned()), (8080, "UDP".to_owned())]);
        let sides: Vec<_> = published(&manifest).iter().map(host_side).collect();
        assert_eq!(sides, ["8081/tcp", "8080/udp", "8080/tcp"]);
    }

    #[test]
    fn a_port_is_found_where_none_is_named_and_on_the_hosts_network_it_is_the_pods() {
        let mut own = manifest("containers: [{name: a, image: x}]");
        publish(&mut own, &[wanted(0, 80, "tcp"), wanted(0, 81, "udp")]).unwrap();
        let found = published(&own);
        assert!(found.iter().all(|port| port.host_port > 0), "{found:?}");
        let mut host = manifest("hostNetwork: true, containers: [{name: a, image: x}]");
        publish(&mut host, &[wanted(0, 80, "tcp")]).unwrap();
        assert_eq!(published(&host)[0].host_port, 80);
    }
}
