//! A pod's names: hostname, /etc/hosts and resolver settings, as the kubelet makes them. Pure.

use k8s_openapi::api::core::v1::{HostAlias, PodSpec};

use crate::proto::cri::DnsConfig;

/// What the kubelet lets resolv.conf hold.
const MAX_SERVERS: usize = 3;

/// The pod's hostname: its own wish, else its name cut to 63 letters.
pub fn hostname(name: &str, spec: &PodSpec) -> String {
    let wish = spec.hostname.as_deref().filter(|hostname| !hostname.is_empty());
    let text: String = wish.unwrap_or(name).chars().take(63).collect();
    text.trim_end_matches(['-', '.']).to_owned()
}

/// The full name, for a pod with a subdomain.
fn domain_name(hostname: &str, namespace: &str, spec: &PodSpec) -> Option<String> {
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())?;
    Some(format!("{hostname}.{subdomain}.{namespace}.svc.cluster.local"))
}

/// /etc/hosts of a pod in `namespace` with a network of its own: the hostname means the pod's
/// addresses, and without one the loopback.
pub fn etc_hosts(namespace: &str, name: &str, spec: &PodSpec, addresses: &[String]) -> String {
    let hostname = &hostname(name, spec);
    let names = match domain_name(hostname, namespace, spec) {
        Some(full) => format!("{full}\t{hostname}"),
        None => hostname.to_owned(),
    };
    let own = match addresses {
        [] => format!("127.0.0.1\t{names}\n"),
        addresses => addresses.iter().map(|address| format!("{address}\t{names}\n")).collect(),
    };
    format!(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost \
         ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n{own}{}",
        aliases(spec.host_aliases.as_deref().unwrap_or_default())
    )
}

/// /etc/hosts of a pod on the host's network: the host's own, then the aliases.
pub fn host_network_etc_hosts(host: &str, spec: &PodSpec) -> String {
    format!(
        "# Kubernetes-managed hosts file (host network).\n{host}{}",
        aliases(spec.host_aliases.as_deref().unwrap_or_default())
    )
}

fn aliases(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let lines = aliases.iter().map(|alias| {
        format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"))
    });
    format!("\n# Entries added by HostAliases.\n{}", lines.collect::<String>())
}

/// The resolver settings that a pod asks for over `host` (the host's resolv.conf). `None` leaves
/// the host's as they are. There is no cluster, so ClusterFirst means the host's as well.
pub fn dns(spec: &PodSpec, host: &str) -> Option<DnsConfig> {
    let wish = spec.dns_config.as_ref();
    let alone = spec.dns_policy.as_deref() == Some("None");
    if wish.is_none() && !alone {
        return None;
    }
    let mut dns = if alone { DnsConfig::default() } else { parse(host) };
    if let Some(wish) = wish {
        extend(&mut dns.servers, wish.nameservers.iter().flatten().cloned());
        extend(&mut dns.searches, wish.searches.iter().flatten().cloned());
        for option in wish.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            dns.options.retain(|known| known.split(':').next() != Some(name));
            dns.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.to_owned(),
            });
        }
    }
    dns.servers.truncate(MAX_SERVERS);
    Some(dns)
}

/// Adds what is not there yet.
fn extend(list: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// resolv.conf(5), as far as CRI can carry it.
fn parse(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => dns.searches = words.map(str::to_owned).collect(),
            Some("options") => dns.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let spec = spec(serde_json::json!({"containers": [], "subdomain": "db", "hostAliases":
            [{"ip": "10.0.0.1", "hostnames": ["a", "b"]}]}));
        let hosts = etc_hosts("ns", "web", &spec, &[]);
        assert!(hosts.contains("127.0.0.1\tweb.db.ns.svc.cluster.local\tweb\n"), "{hosts}");
        let own = ["10.1.0.2".to_owned(), "fd00::2".to_owned()];
        let own = etc_hosts("ns", "web", &spec, &own);
        let names = "web.db.ns.svc.cluster.local\tweb\n";
        assert!(own.contains(&format!("\n10.1.0.2\t{names}fd00::2\t{names}")), "{own}");
        assert!(!own.contains(&format!("127.0.0.1\t{names}")), "{own}");
        assert!(hosts.ends_with("# Entries added by HostAliases.\n10.0.0.1\ta\tb\n"), "{hosts}");
        assert!(host_network_etc_hosts("1.1.1.1 x\n", &spec).contains("\n1.1.1.1 x\n\n# Entries"));
    }

    #[test]
    fn long_names_are_cut_to_a_hostname() {
        let name = format!("{}.tail", "a".repeat(62));
        assert_eq!(hostname(&name, &spec(serde_json::json!({"containers": []}))), "a".repeat(62));
    }

    #[test]
    fn dns_settings_are_the_hosts_with_the_pods_over_them() {
        let host = "search h\nnameserver 1.1.1.1\noptions ndots:1 edns0\n";
        assert_eq!(dns(&spec(serde_json::json!({"containers": []})), host), None);
        let wish = serde_json::json!({"nameservers": ["2.2.2.2"], "searches": ["p"],
            "options": [{"name": "ndots", "value": "5"}]});
        let merged = spec(serde_json::json!({"containers": [], "dnsConfig": wish}));
        let merged = dns(&merged, host).unwrap();
        assert_eq!(merged.servers, ["1.1.1.1", "2.2.2.2"]);
        assert_eq!(
            (merged.searches, merged.options),
            (vec!["h".to_owned(), "p".to_owned()], vec!["edns0".to_owned(), "ndots:5".to_owned()])
        );
        let alone =
            spec(serde_json::json!({"containers": [], "dnsPolicy": "None", "dnsConfig": wish}));
        assert_eq!(dns(&alone, host).unwrap().servers, ["2.2.2.2"]);
    }
}
