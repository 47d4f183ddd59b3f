//! The sockets on the host's side, made in the calling thread's network namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind as bind_socket, listen, socket_with, sockopt,
};

use crate::error::{Error, Result};
use crate::model::ports::HostPort;
use crate::model::sockets::Protocol;

/// Connections that wait to be accepted: Go's and nginx' choice.
const BACKLOG: i32 = 511;

/// A port that nobody else can have as long as this lives.
pub struct Bound {
    pub port: HostPort,
    pub socket: Socket,
}

pub enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Binds all or, on an error, none. The error names the port and is one sentence.
pub fn bind(ports: &[HostPort]) -> Result<Vec<Bound>> {
    let one = |port: &HostPort| match try_bind(port) {
        Ok(socket) => Ok(Bound { port: *port, socket }),
        Err(errno) => Err(refusal(port, errno)),
    };
    ports.iter().map(one).collect()
}

fn refusal(port: &HostPort, errno: Errno) -> Error {
    let why = match errno {
        Errno::ADDRINUSE => {
            "is in use: another pod or program of this machine has it, choose another".to_owned()
        }
        Errno::ADDRNOTAVAIL => "cannot be served: this machine has no such address".to_owned(),
        Errno::ACCESS | Errno::PERM => {
            "needs root, as ports below net.ipv4.ip_unprivileged_port_start do: choose another"
                .to_owned()
        }
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
            return Error::Exhausted(format!("host port {port} cannot be served: {errno}"));
        }
        errno => format!("cannot be served: {errno}"),
    };
    Error::Precondition(format!("host port {port} {why}"))
}

fn try_bind(port: &HostPort) -> rustix::io::Result<Socket> {
    let Some(ip) = port.ip else {
        // One socket for both families; a kernel without IPv6 has the other.
        return match bind_at(port, IpAddr::V6(Ipv6Addr::UNSPECIFIED), Families::Both) {
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                bind_at(port, IpAddr::V4(Ipv4Addr::UNSPECIFIED), Families::Own)
            }
            bound => bound,
        };
    };
    bind_at(port, ip, Families::Own)
}

/// Which families' packets an IPv6 socket takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Families {
    Own,
    Both,
}

fn bind_at(port: &HostPort, ip: IpAddr, families: Families) -> rustix::io::Result<Socket> {
    let kind = match port.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(family, kind, flags, None)?;
    if ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, families == Families::Own)?;
    }
    if port.protocol == Protocol::Tcp {
        // The last pod's connections may still be fading; two that listen exclude each other.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind_socket(&socket, &SocketAddr::new(ip, port.host))?;
    match port.protocol {
        Protocol::Tcp => {
            listen(&socket, BACKLOG)?;
            Ok(Socket::Tcp(socket.into()))
        }
        Protocol::Udp => Ok(Socket::Udp(socket.into())),
    }
}
