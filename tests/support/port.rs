//! A port of this machine that nobody else is given meanwhile.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

/// A bound socket that does not listen: the kernel lends its port to nobody who asks for any, and
/// a server that reuses addresses may have it.
pub struct Port {
    pub number: u16,
    _held: OwnedFd,
}

impl Port {
    pub fn new() -> Self {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&held, true).unwrap();
        bind(&held, &SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
        let at: SocketAddr = getsockname(&held).unwrap().try_into().unwrap();
        Self { number: at.port(), _held: held }
    }

    pub fn at(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.number))
    }
}
