//! Where in the pod a port leads: the first of its addresses at which somebody answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a server with a full queue is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Target {
    addresses: Vec<SocketAddr>,
}

impl Target {
    pub fn new(given: &[IpAddr], port: u16) -> Self {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let all = loopback.iter().chain(given);
        Self { addresses: all.map(|ip| SocketAddr::new(*ip, port)).collect() }
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// From the calling thread's network namespace; `None`: nobody listens.
    pub async fn connect(&self) -> Option<TcpStream> {
        for address in &self.addresses {
            if let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(address)).await {
                return Some(stream);
            }
        }
        None
    }
}
