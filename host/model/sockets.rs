//! What a container's sockets may do: rules in text form, as annotations and the shim's protocol
//! carry them, and the questions that are asked of them. Knows no socket.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// Everything, in text form.
const EVERYTHING: &str = "*";
/// Nothing, in text form.
const NOTHING: &str = "none";

/// Rules that one text may hold: each is looked at for every connection.
const MOST_RULES: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Addresses and ports of one protocol, written `tcp:10.0.0.0/8:5432`, `udp:*:53`,
/// `tcp:[fd00::/8]:8000-8080` or, for any address, `tcp:8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    protocol: Protocol,
    /// `None`: any.
    addresses: Option<IpNet>,
    ports: RangeInclusive<u16>,
}

impl Rule {
    /// The error is one clause that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{text:?} {what}; a rule reads tcp:10.0.0.0/8:5432");
        let (protocol, rest) =
            text.split_once(':').ok_or_else(|| wrong("has no protocol and port"))?;
        let protocol = Protocol::parse(protocol)
            .ok_or_else(|| wrong("begins with neither \"tcp:\" nor \"udp:\""))?;
        let (address, ports) = rest.rsplit_once(':').unwrap_or((EVERYTHING, rest));
        let address =
            address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        let addresses = match address {
            EVERYTHING => None,
            network => Some(
                network
                    .parse()
                    .or_else(|_| network.parse::<IpAddr>().map(IpNet::from))
                    .map_err(|_| wrong("names no IP address or network"))?,
            ),
        };
        let port =
            |digits: &str| digits.parse::<u16>().map_err(|_| wrong("has no port from 0 to 65535"));
        let ports = match ports.split_once('-') {
            _ if ports == EVERYTHING => 0..=u16::MAX,
            Some((first, last)) => port(first)?..=port(last)?,
            None => port(ports)?..=port(ports)?,
        };
        if ports.is_empty() {
            return Err(wrong("has a range of ports that runs backwards"));
        }
        Ok(Self { protocol, addresses, ports })
    }

    fn covers(&self, protocol: Protocol, address: SocketAddr) -> bool {
        self.protocol == protocol
            && self.ports.contains(&address.port())
            && self.addresses.is_none_or(|net| net.contains(&address.ip().to_canonical()))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.protocol)?;
        match self.addresses {
            None => f.write_str(EVERYTHING)?,
            Some(IpNet::V6(net)) => write!(f, "[{net}]")?,
            Some(IpNet::V4(net)) => write!(f, "{net}")?,
        }
        match (*self.ports.start(), *self.ports.end()) {
            (0, u16::MAX) => f.write_str(":*"),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

/// Which addresses may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    Everything,
    Only(Vec<Rule>),
}

impl Allowed {
    pub const NOTHING: Self = Self::Only(Vec::new());

    /// `*`, `none`, or rules with commas between them. The error is one clause.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            EVERYTHING => return Ok(Self::Everything),
            NOTHING => return Ok(Self::NOTHING),
            _ => {}
        }
        let rules: Vec<_> =
            text.split(',').map(|rule| Rule::parse(rule.trim())).collect::<Result<_, _>>()?;
        if rules.len() > MOST_RULES {
            return Err(format!("{} rules are too many, {MOST_RULES} are allowed", rules.len()));
        }
        Ok(Self::Only(rules))
    }

    pub fn covers(&self, protocol: Protocol, address: SocketAddr) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(rules) => rules.iter().any(|rule| rule.covers(protocol, address)),
        }
    }

    /// Whether any address of `protocol` may be used.
    pub fn names(&self, protocol: Protocol) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(rules) => rules.iter().any(|rule| rule.protocol == protocol),
        }
    }

    pub fn is_nothing(&self) -> bool {
        *self == Self::NOTHING
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str(EVERYTHING),
            Self::Only(rules) if rules.is_empty() => f.write_str(NOTHING),
            Self::Only(rules) => {
                for (index, rule) in rules.iter().enumerate() {
                    write!(f, "{}{rule}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

/// What a container may bind and connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPolicy {
    pub bind: Allowed,
    pub connect: Allowed,
}

impl SocketPolicy {
    pub const EVERYTHING: Self = Self { bind: Allowed::Everything, connect: Allowed::Everything };
    pub const NOTHING: Self = Self { bind: Allowed::NOTHING, connect: Allowed::NOTHING };

    /// Binding alone exposes nothing: the port that the kernel picks for a client's socket, on
    /// no address in particular, is anyone's; listening there is a bind by rule.
    pub fn may_bind(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let is_clients = address.port() == 0 && address.ip().to_canonical().is_unspecified();
        is_clients || self.bind.covers(protocol, address)
    }

    /// Names are looked up to connect somewhere.
    pub fn may_look_up(&self) -> bool {
        !self.connect.is_nothing()
    }
}

/// A listening socket that a p1 module begins with, written `tcp:8080`, `tcp:127.0.0.1:8080` or
/// `tcp:[::1]:8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `None`: every address of the pod, IPv6 and IPv4.
    pub ip: Option<IpAddr>,
    pub port: u16,
}

/// Listening sockets of one container.
const MOST_LISTENS: usize = 64;

impl Listen {
    /// The error is one clause that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{text:?} {what}; a listening socket reads tcp:8080");
        let rest = match text.split_once(':') {
            Some(("tcp", rest)) => rest,
            Some(("udp", _)) => {
                return Err(wrong("is UDP, whose senders WASI 0.1 has no way to tell"));
            }
            _ => return Err(wrong("does not begin with \"tcp:\"")),
        };
        let parsed = match rest.parse::<u16>() {
            Ok(port) => Self { ip: None, port },
            Err(_) => rest
                .parse::<SocketAddr>()
                .map(|at| Self { ip: Some(at.ip()), port: at.port() })
                .map_err(|_| wrong("has no port, or no address and port"))?,
        };
        match parsed.port {
            0 => Err(wrong("has no port from 1 to 65535")),
            _ => Ok(parsed),
        }
    }

    /// Several, with commas between them. The error is one clause.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let list: Vec<_> =
            text.split(',').map(|one| Self::parse(one.trim())).collect::<Result<_, _>>()?;
        if list.len() > MOST_LISTENS {
            return Err(format!("{} sockets are too many, {MOST_LISTENS} are allowed", list.len()));
        }
        Ok(list)
    }

    /// Where to bind, the first that works.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self.ip {
            Some(ip) => vec![SocketAddr::new(ip, self.port)],
            // One IPv6 socket takes both; a kernel without IPv6 has the other.
            None => [IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from([0; 4])]
                .map(|ip| SocketAddr::new(ip, self.port))
                .to_vec(),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            None => write!(f, "tcp:{}", self.port),
            Some(ip) => write!(f, "tcp:{}", SocketAddr::new(ip, self.port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn rules_cover_their_protocol_network_and_ports() {
        let allowed =
            Allowed::parse("tcp:10.0.0.0/8:5432, udp:53,tcp:[fd00::/8]:8000-8080,tcp:1.2.3.4:*")
                .unwrap();
        for (protocol, address, expected) in [
            (Protocol::Tcp, "10.1.2.3:5432", true),
            (Protocol::Tcp, "[::ffff:10.1.2.3]:5432", true),
            (Protocol::Tcp, "10.1.2.3:5433", false),
            (Protocol::Tcp, "11.1.2.3:5432", false),
            (Protocol::Udp, "10.1.2.3:5432", false),
            (Protocol::Udp, "[2001:db8::1]:53", true),
            (Protocol::Tcp, "[fd12::1]:8080", true),
            (Protocol::Tcp, "[fe12::1]:8080", false),
            (Protocol::Tcp, "1.2.3.4:1", true),
        ] {
            assert_eq!(allowed.covers(protocol, at(address)), expected, "{address}");
        }
    }

    #[test]
    fn a_client_s_own_port_needs_no_rule_and_a_chosen_one_does() {
        let policy = SocketPolicy::NOTHING;
        assert!(policy.may_bind(Protocol::Tcp, at("0.0.0.0:0")));
        assert!(policy.may_bind(Protocol::Udp, at("[::]:0")));
        assert!(!policy.may_bind(Protocol::Tcp, at("0.0.0.0:80")));
        assert!(!policy.may_bind(Protocol::Tcp, at("127.0.0.1:0")));
        assert!(!policy.may_look_up());
    }

    #[test]
    fn bad_texts_are_refused_with_what_is_wrong() {
        for (text, says) in [
            ("", "no protocol"),
            ("sctp:80", "neither"),
            ("tcp:http", "no port"),
            ("tcp:70000", "no port"),
            ("tcp:db.example:80", "no IP address"),
            ("tcp:10.0.0.0/33:80", "no IP address"),
            ("tcp:90-80", "backwards"),
            ("tcp:80,", "no protocol"),
        ] {
            let error = Allowed::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        for (text, says) in [
            ("", "does not begin"),
            ("8080", "does not begin"),
            ("udp:53", "is UDP"),
            ("tcp:0", "from 1"),
            ("tcp:localhost:80", "no address"),
        ] {
            let error = Listen::parse_list(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(Allowed::parse(&vec!["tcp:1"; MOST_RULES + 1].join(",")).is_err());
    }

    #[test]
    fn listening_sockets_are_read_with_and_without_an_address() {
        let list = Listen::parse_list("tcp:8080, tcp:127.0.0.1:81,tcp:[::1]:82").unwrap();
        let texts: Vec<_> = list.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["tcp:8080", "tcp:127.0.0.1:81", "tcp:[::1]:82"]);
        assert_eq!(list[0].addresses(), [at("[::]:8080"), at("0.0.0.0:8080")]);
        assert_eq!(list[1].addresses(), [at("127.0.0.1:81")]);
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same_rules(
            rules in proptest::collection::vec(
                (any::<bool>(), proptest::option::of((any::<IpAddr>(), 0u8..=32)), any::<(u16, u16)>()),
                0..8,
            )
        ) {
            let rules = rules.into_iter().map(|(tcp, net, (one, other))| Rule {
                protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
                addresses: net.map(|(ip, prefix)| IpNet::new(ip, prefix).unwrap()),
                ports: one.min(other)..=one.max(other),
            });
            let allowed = Allowed::Only(rules.collect());
            prop_assert_eq!(Allowed::parse(&allowed.to_string()), Ok(allowed));
        }
    }
}
