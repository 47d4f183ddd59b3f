//! Name look-ups for guests: the container's own /etc/hosts and /etc/resolv.conf, read anew each
//! time as a C library does that watches them, and the name servers asked from the calling
//! thread's network namespace. The system's getaddrinfo would read the host's files.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
    ServerOrderingStrategy,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{Hosts, TokioResolver};

use super::ledger::{DescriptorPermit, Ledger};
use super::network::Guard;
use super::wasi::fs::{self, Node, OpenOptions, Root};

/// Bytes of a file that are read: a guest may write them itself.
const MOST_FILE: usize = 64 << 10;

/// Name servers and search domains that are used: glibc's three, and Kubernetes' limit.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 32;

/// Seconds and tries that `options` can ask for, as glibc has it.
const LONGEST: u32 = 30;
const MOST_ATTEMPTS: u32 = 5;

/// Descriptors that one look-up may need at a time: IPv4's and IPv6's question.
const SOCKETS: usize = 2;

/// Bytes of a name (RFC 1035), a closing dot included.
const MOST_NAME: usize = 254;

/// Why there are no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The container may not connect anywhere.
    Denied,
    /// It is no name.
    Invalid,
    /// There is no such name, or it has no address.
    Unresolvable,
    /// No name server answered, or none could be asked now.
    Temporary,
    /// The name servers refuse.
    Permanent,
}

/// Looks names up for one run of a program.
#[derive(Clone)]
pub struct Resolver {
    root: Arc<Root>,
    guard: Arc<Guard>,
    ledger: Arc<Ledger>,
}

impl Resolver {
    pub fn new(root: Arc<Root>, guard: Arc<Guard>, ledger: Arc<Ledger>) -> Self {
        Self { root, guard, ledger }
    }

    /// The addresses of a name, or the address that it is itself. Files are read before this
    /// returns, on the calling thread; the rest needs a tokio runtime that watches descriptors.
    pub fn look_up(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Vec<IpAddr>, Failure>> + Send + use<> {
        let begun = self.begin(name);
        async move {
            match begun? {
                Begun::Address(ip) => Ok(vec![ip]),
                Begun::Question(question) => {
                    let Question { name, resolver, _permits } = *question;
                    let found = resolver.lookup_ip(name).await.map_err(|error| fault(&error))?;
                    let addresses: Vec<_> = found.iter().collect();
                    if addresses.is_empty() { Err(Failure::Unresolvable) } else { Ok(addresses) }
                }
            }
        }
    }

    fn begin(&self, name: &str) -> Result<Begun, Failure> {
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        if let Ok(ip) = literal.unwrap_or(name).parse() {
            return Ok(Begun::Address(ip));
        }
        if name.is_empty() || name.len() > MOST_NAME {
            return Err(Failure::Invalid);
        }
        let name = Name::from_utf8(name).map_err(|_| Failure::Invalid)?;
        if !self.guard.policy().may_look_up() {
            return Err(Failure::Denied);
        }
        let permits: Option<Vec<_>> = (0..SOCKETS).map(|_| self.ledger.socket()).collect();
        let permits = permits.ok_or(Failure::Temporary)?;
        let (config, options) = configuration(&self.read_file(b"etc/resolv.conf", MOST_FILE));
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let mut resolver = builder.build().map_err(|_| Failure::Permanent)?;
        let mut hosts = Hosts::default();
        // Lines that are none are passed over; bytes that are no text end the reading.
        let _ = hosts.read_hosts_conf(self.read_file(b"etc/hosts", MOST_FILE).as_slice());
        resolver.set_hosts(Arc::new(hosts));
        Ok(Begun::Question(Box::new(Question { name, resolver, _permits: permits })))
    }

    /// The beginning of a file in the root; empty when it cannot be read.
    pub fn read_file(&self, path: &[u8], most: usize) -> Vec<u8> {
        let read = || -> fs::Result<Vec<u8>> {
            let options = OpenOptions { read: true, ..OpenOptions::default() };
            let Node::File(file) = self.root.open(&self.root.top()?, path, &options)? else {
                return Ok(Vec::new());
            };
            let mut bytes = vec![0; most];
            let mut filled = 0;
            while let Some(left) = bytes.get_mut(filled..).filter(|left| !left.is_empty()) {
                match file.read_at(left, filled as u64)? {
                    0 => break,
                    read => filled += read,
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        };
        read().unwrap_or_default()
    }
}

enum Begun {
    Address(IpAddr),
    Question(Box<Question>),
}

struct Question {
    name: Name,
    resolver: TokioResolver,
    _permits: Vec<DescriptorPermit>,
}

/// What resolv.conf(5) says, its unknown lines and options passed over; without a name server
/// the one on this very machine is asked, as it says too.
fn configuration(text: &[u8]) -> (ResolverConfig, ResolverOpts) {
    let (parsed, _) = resolv_conf::Config::parse_with_errors(text);
    let servers = parsed.get_nameservers_or_local().into_iter().take(MOST_SERVERS).map(|ip| {
        match parsed.use_vc {
            true => NameServerConfig::tcp(ip.into()),
            false => NameServerConfig::udp_and_tcp(ip.into()),
        }
    });
    let domains = parsed.get_last_search_or_domain().take(MOST_DOMAINS);
    let search = domains.filter_map(|domain| Name::from_str_relaxed(domain).ok()).collect();
    let mut options = ResolverOpts::default();
    options.ndots = parsed.ndots as usize;
    options.timeout = Duration::from_secs(u64::from(parsed.timeout.clamp(1, LONGEST)));
    options.attempts = parsed.attempts.clamp(1, MOST_ATTEMPTS) as usize;
    options.edns0 = parsed.edns0;
    options.ip_strategy = match parsed.no_aaaa {
        true => LookupIpStrategy::Ipv4Only,
        false => LookupIpStrategy::Ipv4AndIpv6,
    };
    options.server_ordering_strategy = match parsed.rotate {
        true => ServerOrderingStrategy::RoundRobin,
        false => ServerOrderingStrategy::UserProvidedOrder,
    };
    options.num_concurrent_reqs = 1;
    options.cache_size = 0;
    // Not the host's.
    options.use_hosts_file = ResolveHosts::Never;
    (ResolverConfig::from_parts(None, search, servers.collect()), options)
}

fn fault(error: &NetError) -> Failure {
    use hickory_resolver::net::DnsError;
    use hickory_resolver::proto::op::ResponseCode;
    if error.is_nx_domain() {
        return Failure::Unresolvable;
    }
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::ServFail => Failure::Temporary,
            ResponseCode::Refused | ResponseCode::NotImp | ResponseCode::FormErr => {
                Failure::Permanent
            }
            _ => Failure::Unresolvable,
        },
        NetError::Dns(DnsError::ResponseCode(code)) => match code {
            ResponseCode::ServFail => Failure::Temporary,
            _ => Failure::Permanent,
        },
        _ => Failure::Temporary,
    }
}
