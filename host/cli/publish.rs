//! `-p` of `wasmpod run`: which port of the host leads to which port of the pod, as people
//! write it.

use std::net::IpAddr;
use std::str::FromStr;

use crate::agent::ports::host_side;
use crate::proto::pod::PublishedPort;

/// `[[IP:]HOST:]CONTAINER[/udp]`; without HOST, or with an empty one, any free port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    protocol: &'static str,
    ip: Option<IpAddr>,
    host: Option<u16>,
    container: u16,
}

impl FromStr for Publish {
    type Err = String;

    /// The error is one clause that says what is wrong.
    fn from_str(text: &str) -> Result<Self, String> {
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), "tcp"),
            Some((ports, "udp")) => (ports, "udp"),
            Some((_, other)) => {
                return Err(format!("{other:?} is neither \"tcp\" nor \"udp\""));
            }
        };
        let port = |digits: &str| {
            digits
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("{digits:?} is no port from 1 to 65535"))
        };
        let (rest, container) = match ports.rsplit_once(':') {
            Some((rest, container)) => (Some(rest), port(container)?),
            None => (None, port(ports)?),
        };
        let (ip, host) = match rest.map(|rest| rest.rsplit_once(':').unwrap_or(("", rest))) {
            None => (None, None),
            Some((ip, host)) => {
                let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
                let is_bracketed = bare.len() != ip.len();
                let parsed = match bare {
                    "" => None,
                    bare => Some(
                        bare.parse()
                            .ok()
                            .filter(|ip: &IpAddr| ip.is_ipv6() == is_bracketed)
                            .ok_or_else(|| {
                                format!(
                                    "{ip:?} is no IP address; an IPv6 one stands in brackets, as \
                                     in [::1]:8080:80"
                                )
                            })?,
                    ),
                };
                let host =
                    if host.is_empty() && parsed.is_some() { None } else { Some(port(host)?) };
                (parsed, host)
            }
        };
        Ok(Self { protocol, ip, host, container })
    }
}

impl From<&Publish> for PublishedPort {
    fn from(publish: &Publish) -> Self {
        Self {
            protocol: publish.protocol.to_owned(),
            host_ip: publish.ip.map_or(String::new(), |ip| ip.to_string()),
            host_port: publish.host.unwrap_or(0).into(),
            container_port: publish.container.into(),
        }
    }
}

/// `8080->80/tcp`, `127.0.0.1:8080->80/udp`.
pub fn arrow(port: &PublishedPort) -> String {
    let side = host_side(port);
    let host = side.rsplit_once('/').map_or(side.as_str(), |(host, _)| host);
    format!("{host}->{}/{}", port.container_port, port.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_may_be_left_out_from_the_left() {
        for (text, shown) in [
            ("80", "0->80/tcp"),
            ("8080:80", "8080->80/tcp"),
            ("8080:80/tcp", "8080->80/tcp"),
            ("53:5353/udp", "53->5353/udp"),
            ("53/udp", "0->53/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080->80/tcp"),
            ("127.0.0.1::80", "127.0.0.1:0->80/tcp"),
            ("[::1]:8080:80", "[::1]:8080->80/tcp"),
            ("[::]::80/udp", "[::]:0->80/udp"),
        ] {
            let publish: Publish = text.parse().unwrap();
            assert_eq!(arrow(&PublishedPort::from(&publish)), shown, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_told() {
        for (text, says) in [
            ("", "\"\" is no port"),
            ("http", "\"http\" is no port"),
            ("80:", "\"\" is no port"),
            (":80", "\"\" is no port"),
            ("0:80", "\"0\" is no port"),
            ("8080:70000", "\"70000\" is no port"),
            ("8080:80/sctp", "\"sctp\" is neither"),
            ("localhost:8080:80", "\"localhost\" is no IP address"),
            ("::1:8080:80", "in brackets"),
            ("[127.0.0.1]:8080:80", "is no IP address"),
        ] {
            let error = text.parse::<Publish>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
