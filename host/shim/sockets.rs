//! Listening sockets that the shim makes for guests, in the calling thread's network namespace.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, listen as listen_on, socket_with,
    sockopt,
};

use super::network::Guard;
use crate::model::sockets::{Listen, Protocol};

/// Connections that wait for the guest to accept them: Go's and nginx' choice.
const BACKLOG: i32 = 511;

/// A socket that never blocks. `Err` is one sentence.
pub fn listen(wanted: &Listen, guard: &Guard) -> Result<OwnedFd, String> {
    let mut failed = Errno::ADDRNOTAVAIL;
    let addresses = match wanted.ip {
        // There no socket takes both families; IPv4's is the one that is asked first.
        None if guard.has_loopback() => vec![SocketAddr::from(([0; 4], wanted.port))],
        _ => wanted.addresses(),
    };
    for address in addresses {
        let Some(place) = guard.place(Protocol::Tcp, address) else { continue };
        match listen_at(place) {
            Ok(socket) => {
                let real = getsockname(&socket).ok().and_then(|at| at.try_into().ok());
                guard.bound(Protocol::Tcp, address, real.unwrap_or(place));
                return Ok(socket);
            }
            Err(errno @ (Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)) => failed = errno,
            Err(errno) => {
                failed = errno;
                break;
            }
        }
    }
    let what = match failed {
        Errno::ADDRINUSE => "the port is taken, by another container of the pod or on its network",
        Errno::ADDRNOTAVAIL => "the pod has no such address",
        Errno::ACCESS | Errno::PERM => "ports below 1024 need root, or another port has to do",
        _ => return Err(format!("cannot listen on {wanted}: {failed}")),
    };
    Err(format!("cannot listen on {wanted}: {what}"))
}

fn listen_at(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // A server that is started anew need not wait for its last one's connections to fade.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    listen_on(&socket, BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sockets::SocketPolicy;

    #[test]
    fn a_port_that_is_taken_and_an_address_that_is_not_there_are_told_apart() {
        let guard = Guard::new(SocketPolicy::NOTHING, None);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let holder = listen(&Listen { ip: Some(taken.ip()), port: taken.port() }, &guard).unwrap();
        let again =
            listen(&Listen { ip: Some(taken.ip()), port: taken.port() }, &guard).unwrap_err();
        assert!(again.contains("is taken"), "{again}");
        drop(holder);
        let nowhere = "192.0.2.1".parse().ok();
        let error = listen(&Listen { ip: nowhere, port: 1234 }, &guard).unwrap_err();
        assert_eq!(error, "cannot listen on tcp:192.0.2.1:1234: the pod has no such address");
    }
}
