//! What one run of a program may do with its pod's network, and the questions that its sockets
//! ask. Opens nothing itself.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use wasmtime_wasi::sockets::SocketAddrUse;

use super::lock;
use super::loopback::Loopback;
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

/// Why a guest's socket is bound nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbound {
    Denied,
    /// The pod has no such address.
    Nowhere,
}

/// Peers that a UDP server may answer although it may not send to them by rule.
const MOST_PEERS: usize = 1024;

/// A container's policy with what its sockets have seen. Shared by its main program and execs.
#[derive(Debug)]
pub struct Guard {
    policy: SocketPolicy,
    /// Of a pod without a network namespace.
    loopback: Option<Arc<Loopback>>,
    /// Who has sent a datagram to a port that may be bound, the latest last.
    peers: Mutex<VecDeque<SocketAddr>>,
}

impl Guard {
    pub fn new(policy: SocketPolicy, loopback: Option<Arc<Loopback>>) -> Self {
        Self { policy, loopback, peers: Mutex::default() }
    }

    pub fn policy(&self) -> &SocketPolicy {
        &self.policy
    }

    pub fn has_loopback(&self) -> bool {
        self.loopback.is_some()
    }

    /// Where to bind a guest's socket that it binds at `address`. With a loopback of the pod's own
    /// the policy is asked here, for [`Guard::allows`] sees no port of the guest's.
    pub fn binds(&self, protocol: Protocol, address: SocketAddr) -> Result<SocketAddr, Unbound> {
        if self.has_loopback() && !self.policy.may_bind(protocol, address) {
            return Err(Unbound::Denied);
        }
        self.place(protocol, address).ok_or(Unbound::Nowhere)
    }

    /// See [`Loopback::place`]; without one, where the guest says. So do the next ones.
    pub fn place(&self, protocol: Protocol, address: SocketAddr) -> Option<SocketAddr> {
        self.loopback.as_ref().map_or(Some(address), |own| own.place(protocol, address))
    }

    pub fn bound(&self, protocol: Protocol, asked: SocketAddr, real: SocketAddr) {
        if let Some(own) = &self.loopback {
            own.bound(protocol, asked, real);
        }
    }

    pub fn meant(&self, protocol: Protocol, address: SocketAddr) -> Option<SocketAddr> {
        self.loopback.as_ref().map_or(Some(address), |own| own.meant(protocol, address))
    }

    pub fn told(&self, protocol: Protocol, address: SocketAddr) -> SocketAddr {
        self.loopback.as_ref().map_or(address, |own| own.told(protocol, address))
    }

    pub fn heard(&self, sender: SocketAddr) -> SocketAddr {
        self.loopback.as_ref().map_or(sender, |own| own.heard(sender))
    }

    /// Whether a socket may do that with an address of the host.
    pub fn allows(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        let Some(own) = &self.loopback else { return self.permits(address, purpose) };
        let (is_own, protocol) = match purpose {
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => return own.may_bind(address),
            SocketAddrUse::TcpListen => (own.may_listen(address), Protocol::Tcp),
            SocketAddrUse::TcpConnect => (own.may_reach(Protocol::Tcp, address), Protocol::Tcp),
            SocketAddrUse::UdpSend => (own.may_reach(Protocol::Udp, address), Protocol::Udp),
            SocketAddrUse::TcpAccept => (true, Protocol::Tcp),
            SocketAddrUse::UdpReceive => (true, Protocol::Udp),
        };
        is_own && self.permits(own.told(protocol, address), purpose)
    }

    /// The policy's part, of an address as the guest knows it.
    fn permits(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
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
        let guard = Guard::new(policy, None);
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
        let guard = Guard::new(policy, None);
        assert!(guard.allows(at("0.0.0.0:0"), SocketAddrUse::TcpBind));
        assert!(!guard.allows(at("0.0.0.0:40000"), SocketAddrUse::TcpListen));
        assert!(guard.allows(at("0.0.0.0:80"), SocketAddrUse::TcpListen));
        assert!(!guard.allows(at("10.0.0.1:80"), SocketAddrUse::TcpConnect));
    }
}
