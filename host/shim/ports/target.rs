//! Where in the pod a port leads: the first of its addresses at which somebody answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::ports::HostPort;
use crate::model::sockets::Protocol;
use crate::shim::sandbox::Sandbox;

/// How long a server with a full queue is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Target {
    protocol: Protocol,
    addresses: Vec<SocketAddr>,
    /// Knows where those are.
    sandbox: Arc<Sandbox>,
}

impl Target {
    pub fn new(sandbox: Arc<Sandbox>, port: &HostPort) -> Self {
        let first = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let given = sandbox.spec.ports.addresses.iter().copied();
        let all = first.into_iter().chain(given);
        Self {
            protocol: port.protocol,
            addresses: all.map(|ip| SocketAddr::new(ip, port.container)).collect(),
            sandbox,
        }
    }

    /// As they are now: where a pod's server listens is found out when it begins to.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().filter_map(|address| self.sandbox.server(self.protocol, *address))
    }

    /// From the calling thread's network namespace; `None`: nobody listens.
    pub async fn connect(&self) -> Option<TcpStream> {
        for address in self.addresses() {
            if let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(address)).await {
                return Some(stream);
            }
        }
        None
    }
}
