//! A pod's own address in the host's loopback network, for pods that share the host's network
//! namespace because they may have none of their own. Their guests see 127.0.0.1 and mean that
//! address, so that two pods may listen on the same port and neither reaches the other's, nor
//! what the host keeps on its loopback. Translates addresses; opens no socket of a guest's.
//!
//! A guest's socket has another port there than the one that it names, one that is free and that
//! its pod alone knows: who listens on every address of the host, as the proxy of a pod's port
//! does, has the port on the pod's address as well, and who listens on a pod's address keeps
//! others from every address.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use super::lock;
use crate::error::{Error, Result};
use crate::model::sockets::Protocol;

/// The upper half of 127.0.0.0/8, where hardly anybody else picks addresses.
const FIRST: u32 = 0x7f80_0000;
const COUNT: u32 = 1 << 23;

/// Addresses that are tried before the half of it seems taken.
const TRIES: usize = 64;

/// Senders on the host's own loopback addresses that a pod may answer.
const MOST_SENDERS: usize = 1024;

#[derive(Debug)]
pub struct Loopback {
    /// IPv6 has but one address, whose ports do as well.
    address: Ipv4Addr,
    /// Has the address as its name, which the kernel gives once in a network namespace and has
    /// back when the shim ends, however it does.
    _claim: OwnedFd,
    /// Where guests' sockets are, by what the guests know: 127.0.0.1 or ::1 and their port.
    places: Mutex<HashMap<(Protocol, SocketAddr), SocketAddr>>,
    /// Sockets of 127.0.0.1 and ::1 themselves from which datagrams came: those without an
    /// address of their own send from there.
    senders: Mutex<VecDeque<SocketAddr>>,
}

impl Loopback {
    /// An address that no other pod of this machine has, as long as the value lives.
    pub fn claim() -> Result<Self> {
        for _ in 0..TRIES {
            let mut random = [0; 4];
            getrandom::fill(&mut random)
                .map_err(|error| Error::Internal(format!("no random numbers: {error}")))?;
            // The network's own address and its last one are nobody's.
            let index = 1 + u32::from_ne_bytes(random) % (COUNT - 2);
            let address = Ipv4Addr::from(FIRST + index);
            if let Some(_claim) = name(address)? {
                let (places, senders) = Default::default();
                return Ok(Self { address, _claim, places, senders });
            }
        }
        Err(Error::Exhausted("no loopback address is left for a pod".to_owned()))
    }

    /// Where to bind a socket that the guest binds at `address`; `None`: the pod has no such
    /// address. Who binds one says so to [`Loopback::bound`].
    pub fn place(&self, protocol: Protocol, address: SocketAddr) -> Option<SocketAddr> {
        // A client's socket, which may send anywhere. One of TCP needs no bind.
        let is_clients = address.ip().is_unspecified() && address.port() == 0;
        if is_clients && protocol == Protocol::Udp {
            return Some(address);
        }
        let known = as_known(address)?;
        // The same again for one that was bound before: it is in use as long as that is.
        let again = lock(&self.places).get(&(protocol, known)).copied();
        again.or(match known.ip() {
            IpAddr::V4(_) => Some(SocketAddr::new(self.address.into(), 0)),
            IpAddr::V6(ip) => Some(SocketAddr::new(ip.into(), 0)),
        })
    }

    /// A socket that the guest binds at `asked` has been bound at `real`.
    pub fn bound(&self, protocol: Protocol, asked: SocketAddr, real: SocketAddr) {
        let Some(mut known) = as_known(asked).filter(|_| real.ip().is_loopback()) else { return };
        if known.port() == 0 {
            known.set_port(real.port());
        }
        lock(&self.places).insert((protocol, known), real);
    }

    /// The address on the host that a guest means; `None`: nobody of the pod is there.
    pub fn meant(&self, protocol: Protocol, address: SocketAddr) -> Option<SocketAddr> {
        let Some(known) = as_known(address) else { return Some(address) };
        let is_sender = protocol == Protocol::Udp && lock(&self.senders).contains(&known);
        self.server(protocol, known).or(is_sender.then_some(known))
    }

    /// Where a guest's server is that is told to be at `known`, 127.0.0.1 or ::1.
    pub fn server(&self, protocol: Protocol, known: SocketAddr) -> Option<SocketAddr> {
        lock(&self.places).get(&(protocol, known)).copied()
    }

    /// An address of the host as the guest knows it.
    pub fn told(&self, protocol: Protocol, address: SocketAddr) -> SocketAddr {
        let places = lock(&self.places);
        let mut found =
            places.iter().filter(|((of, _), real)| (*of, **real) == (protocol, address));
        found.next().map_or(address, |((_, known), _)| *known)
    }

    /// As [`Loopback::told`], of who sent a datagram: it may be answered.
    pub fn heard(&self, sender: SocketAddr) -> SocketAddr {
        let told = self.told(Protocol::Udp, sender);
        if told == sender && as_known(sender) == Some(sender) {
            let mut senders = lock(&self.senders);
            if !senders.contains(&sender) {
                if senders.len() == MOST_SENDERS {
                    senders.pop_front();
                }
                senders.push_back(sender);
            }
        }
        told
    }

    /// Whether a socket may be bound at `address` of the host: the rule behind the translation,
    /// for whatever comes without one. So are the next two.
    pub fn may_bind(&self, address: SocketAddr) -> bool {
        match address.ip() {
            ip if ip.is_unspecified() => address.port() == 0,
            IpAddr::V4(ip) => ip == self.address,
            IpAddr::V6(ip) => ip.is_loopback(),
        }
    }

    pub fn may_listen(&self, address: SocketAddr) -> bool {
        !address.ip().is_unspecified() && self.may_bind(address)
    }

    pub fn may_reach(&self, protocol: Protocol, address: SocketAddr) -> bool {
        if as_known(address).is_none() {
            return true;
        }
        let is_own = |((of, _), real): (&(Protocol, SocketAddr), &SocketAddr)| {
            (*of, *real) == (protocol, address)
        };
        lock(&self.places).iter().any(is_own)
            || (protocol == Protocol::Udp && lock(&self.senders).contains(&address))
    }
}

/// What a guest's address of its loopback is told as: all of 127.0.0.0/8 and 0.0.0.0 as
/// 127.0.0.1, :: as ::1. `None`: it is none.
fn as_known(address: SocketAddr) -> Option<SocketAddr> {
    let ip = match address.ip() {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(IpAddr::V6(six), IpAddr::V4),
        four => four,
    };
    let known: IpAddr = match ip {
        _ if !ip.is_loopback() && !ip.is_unspecified() => return None,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    Some(SocketAddr::new(known, address.port()))
}

/// Takes the address' name; `None`: another pod has it.
fn name(address: Ipv4Addr) -> Result<Option<OwnedFd>> {
    let doing = || Error::sys("taking a loopback address for a pod");
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(doing())?;
    let name = format!("wasmpod/loopback/{address}");
    let name = SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(doing())?;
    match bind(&socket, &name) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::ADDRINUSE) => Ok(None),
        Err(errno) => Err(doing()(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_one_pods_until_it_lets_it_go() {
        let (one, two) = (Loopback::claim().unwrap(), Loopback::claim().unwrap());
        assert_ne!(one.address, two.address);
        assert!(one.address.is_loopback() && one.address.octets()[1] >= 128);
        assert!(name(one.address).unwrap().is_none());
        let address = one.address;
        drop(one);
        assert!(name(address).unwrap().is_some());
    }

    #[test]
    fn what_a_guest_names_is_its_own_address_and_told_back_as_it_named_it() {
        let own = Loopback::claim().unwrap();
        let four = SocketAddr::new(own.address.into(), 40000);
        let six = at("[::1]:40001");
        for (real, told, names) in [
            (four, "127.0.0.1:80", ["127.0.0.1:80", "0.0.0.0:80", "127.9.9.9:80"]),
            (six, "[::1]:80", ["[::1]:80", "[::]:80", "[::1]:80"]),
        ] {
            let names = names.map(at);
            for name in names {
                assert_eq!(own.place(Protocol::Tcp, name), Some(SocketAddr::new(real.ip(), 0)));
                assert_eq!(own.meant(Protocol::Tcp, name), None, "{name}");
            }
            own.bound(Protocol::Tcp, names[1], real);
            for name in names {
                assert_eq!(own.place(Protocol::Tcp, name), Some(real), "{name}");
                assert_eq!(own.meant(Protocol::Tcp, name), Some(real), "{name}");
            }
            assert_eq!(own.told(Protocol::Tcp, real), at(told));
            assert_eq!(own.meant(Protocol::Udp, names[0]), None);
        }
        assert_eq!(own.meant(Protocol::Tcp, at("[::ffff:127.0.0.1]:80")), Some(four));
        let chosen = SocketAddr::new(own.address.into(), 40002);
        own.bound(Protocol::Tcp, at("0.0.0.0:0"), chosen);
        assert_eq!(own.meant(Protocol::Tcp, at("127.0.0.1:40002")), Some(chosen));
        assert_eq!(own.place(Protocol::Tcp, at("192.0.2.1:80")), None);
        for name in ["192.0.2.1:80", "[2001:db8::1]:80"] {
            assert_eq!(own.meant(Protocol::Tcp, at(name)), Some(at(name)));
            assert_eq!(own.told(Protocol::Tcp, at(name)), at(name));
        }
    }

    #[test]
    fn a_datagrams_client_is_bound_as_it_says_for_it_may_send_anywhere() {
        let own = Loopback::claim().unwrap();
        let any = at("0.0.0.0:0");
        assert_eq!(own.place(Protocol::Udp, any), Some(any));
        own.bound(Protocol::Udp, any, at("0.0.0.0:50000"));
        assert_eq!(own.server(Protocol::Udp, at("127.0.0.1:50000")), None);
        assert_eq!(own.place(Protocol::Tcp, any).unwrap().ip(), own.address);
    }

    #[test]
    fn another_pods_address_and_the_hosts_loopback_are_out_of_reach_but_for_an_answer() {
        let own = Loopback::claim().unwrap();
        let host = at("127.0.0.1:5000");
        assert!(!own.may_reach(Protocol::Tcp, host) && !own.may_reach(Protocol::Udp, host));
        assert!(!own.may_reach(Protocol::Tcp, at("127.200.1.1:80")));
        assert!(!own.may_reach(Protocol::Tcp, at("[::1]:80")));
        assert!(own.may_reach(Protocol::Tcp, at("192.0.2.1:80")));
        let server = SocketAddr::new(own.address.into(), 40000);
        assert!(!own.may_reach(Protocol::Tcp, server));
        own.bound(Protocol::Tcp, at("127.0.0.1:80"), server);
        assert!(own.may_reach(Protocol::Tcp, server));
        assert!(!own.may_bind(at("0.0.0.0:80")) && !own.may_listen(at("0.0.0.0:0")));
        assert_eq!(own.heard(host), host);
        assert_eq!(own.meant(Protocol::Udp, host), Some(host));
        assert!(own.may_reach(Protocol::Udp, host) && !own.may_reach(Protocol::Tcp, host));
    }
}
