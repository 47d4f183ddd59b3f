//! This machine as its pods are told of it.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// The addresses by which others reach this machine, IPv4's first: those that it would send to
/// the world from, as a kubelet finds them. Without a network its loopback, for there is always
/// one.
pub fn addresses() -> Vec<String> {
    // Of the documentation's networks, so nobody's; nothing is sent.
    let world = [
        (IpAddr::from([0; 4]), IpAddr::from([192, 0, 2, 1])),
        (IpAddr::from([0u16; 8]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
    ];
    let source = |(any, to): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(SocketAddr::new(to, 9)).ok()?;
        let own = socket.local_addr().ok()?.ip();
        (!own.is_loopback() && !own.is_unspecified()).then(|| own.to_string())
    };
    let found: Vec<_> = world.into_iter().filter_map(source).collect();
    if found.is_empty() { vec!["127.0.0.1".to_owned()] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_an_address_and_each_is_one() {
        let found = addresses();
        assert!(!found.is_empty());
        assert!(found.iter().all(|text| text.parse::<IpAddr>().is_ok()), "{found:?}");
    }
}
