//! What one run of a program may do with its pod's network, and the questions that its sockets
//! ask. Opens nothing itself.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;

use wasmtime_wasi::sockets::SocketAddrUse;

use super::lock;
use crate::model::service::ServiceOptions;
use crate::model::sockets::{Listen, Protocol, SocketPolicy};

/// What CreateContainer said of the network.
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    pub policy: SocketPolicy,
    /// For the main program alone.
    pub listen: Vec<Listen>,
    /// `None`: the environment names no port that a service could have.
    pub service: Option<ServiceOptions>,
}

/// Peers that a UDP server may answer although it may not send to them by rule.
const MOST_PEERS: usize = 1024;

/// A container's policy with what its sockets have seen. Shared by its main program and execs.
#[derive(Debug)]
pub struct Guard {
    policy: SocketPolicy,
    /// Who has sent a datagram to a port that may be bound, the latest last.
    peers: Mutex<VecDeque<SocketAddr>>,
}

impl Guard {
    pub fn new(policy: SocketPolicy) -> Self {
        Self { policy, peers: Mutex::default() }
    }

    pub fn policy(&self) -> &SocketPolicy {
        &self.policy
    }

    /// Whether a socket may do that with the address.
    pub fn allows(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        let policy = &self.policy;
        match purpose {
            SocketAddrUse::TcpBind => policy.may_bind(Protocol::Tcp, address),
            SocketAddrUse::TcpListen => policy.bind.covers(Protocol::Tcp, address),
            // Who listens was asked; who calls is nobody's choice.
            SocketAddrUse::TcpAccept => true,
            SocketAddrUse::TcpConnect => policy.connect.covers(Protocol::Tcp, address),
            SocketAddrUse::UdpBind => policy.may_bind(Protocol::Udp, address),
            SocketAddrUse::UdpSend => {
                policy.connect.covers(Protocol::Udp, address)
                    || lock(&self.peers).contains(&address)
            }
            SocketAddrUse::UdpReceive => {
                if policy.connect.covers(Protocol::Udp, address) {
                    return true;
                }
                let serves = policy.bind.names(Protocol::Udp);
                if serves {
                    self.remember(address);
                }
                serves
            }
        }
    }

    fn remember(&self, peer: SocketAddr) {
        let mut peers = lock(&self.peers);
        if !peers.contains(&peer) {
            if peers.len() == MOST_PEERS {
                peers.pop_front();
            }
            peers.push_back(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sockets::Allowed;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_udp_server_may_answer_who_has_asked_and_nobody_else() {
        let policy =
            SocketPolicy { bind: Allowed::parse("udp:53").unwrap(), connect: Allowed::NOTHING };
        let guard = Guard::new(policy);
        let (asker, other) = (at("10.0.0.1:4000"), at("10.0.0.2:4000"));
        assert!(!guard.allows(asker, SocketAddrUse::UdpSend));
        assert!(guard.allows(asker, SocketAddrUse::UdpReceive));
        assert!(guard.allows(asker, SocketAddrUse::UdpSend));
        assert!(!guard.allows(other, SocketAddrUse::UdpSend));
        for port in 0..=MOST_PEERS as u16 {
            guard.allows(SocketAddr::new(other.ip(), port), SocketAddrUse::UdpReceive);
        }
        assert!(!guard.allows(asker, SocketAddrUse::UdpSend), "peers are bounded");
    }

    #[test]
    fn listening_is_asked_of_the_address_that_a_socket_has() {
        let policy =
            SocketPolicy { bind: Allowed::parse("tcp:80").unwrap(), connect: Allowed::NOTHING };
        let guard = Guard::new(policy);
        assert!(guard.allows(at("0.0.0.0:0"), SocketAddrUse::TcpBind));
        assert!(!guard.allows(at("0.0.0.0:40000"), SocketAddrUse::TcpListen));
        assert!(guard.allows(at("0.0.0.0:80"), SocketAddrUse::TcpListen));
        assert!(!guard.allows(at("10.0.0.1:80"), SocketAddrUse::TcpConnect));
    }
}
