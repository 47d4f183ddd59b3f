//! Ports of the host that lead to ports of a pod.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::sockets::Protocol;

/// One that the shim's proxy serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub protocol: Protocol,
    /// `None`: every address of the host, of both families.
    pub ip: Option<IpAddr>,
    pub host: u16,
    pub container: u16,
}

/// As people write the host's side: `8080/tcp`, `127.0.0.1:8080/udp`.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => write!(f, "{}", SocketAddr::new(ip, self.host))?,
            None => write!(f, "{}", self.host)?,
        }
        write!(f, "/{}", self.protocol)
    }
}
