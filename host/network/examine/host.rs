//! What a configuration's plugins need of the host: forwarding, and programs that make rules.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::super::conf::{NetworkList, PluginConf};
use super::is_program;
use crate::model::finding::Finding;

/// A family of addresses, and what of the host is about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// Below /proc/sys.
    fn forwarding(self) -> &'static str {
        match self {
            Self::V4 => "net/ipv4/ip_forward",
            Self::V6 => "net/ipv6/conf/all/forwarding",
        }
    }

    fn tables(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }
}

/// What makes a plugin's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Iptables,
    Nftables,
    /// iptables where it is there, else nft: plugins from 1.6 on.
    Either,
}

/// Where the host is looked at.
pub struct Host {
    /// "/proc/sys".
    settings: PathBuf,
    /// PATH, which plugins inherit.
    path: OsString,
}

impl Host {
    pub fn own() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self { settings: "/proc/sys".into(), path }
    }

    pub fn examine(&self, network: &NetworkList) -> Vec<Finding> {
        let families = families(network);
        let mut findings = Vec::new();
        if let Some(plugin) = network.plugins.iter().find(|plugin| routes(plugin)) {
            findings.extend(families.iter().map(|family| self.forwarding(*family, &plugin.kind)));
        }
        if families.contains(&Family::V6) {
            findings.extend(self.ipv6());
        }
        for plugin in &network.plugins {
            if let Some(rules) = rules(plugin) {
                let missing =
                    families.iter().filter_map(|family| self.missing(rules, *family, &plugin.kind));
                findings.extend(missing);
            }
        }
        findings
    }

    fn setting(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.settings.join(name)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The bridge and ptp plugins switch it on themselves, where they can.
    fn forwarding(&self, family: Family, kind: &str) -> Finding {
        let name = family.forwarding();
        let key = name.replace('/', ".");
        let mend = format!("sysctl -w {key}=1, and the same in /etc/sysctl.d");
        match self.setting(name).as_deref() {
            Some("0") => {
                let file = self.settings.join(name);
                let writable = rustix::fs::access(&file, rustix::fs::Access::WRITE_OK).is_ok();
                if writable {
                    let what = format!("is off until plugin {kind} switches it on for a pod");
                    Finding::warning(key, what).mend(mend)
                } else {
                    let what = "is off, and cannot be switched on from here: pods reach nothing \
                                beyond this node";
                    Finding::error(key, what).mend(mend)
                }
            }
            Some(_) => Finding::fine(key, "is on"),
            None => Finding::error(key, "is not there: this kernel does not forward these packets")
                .mend("use a kernel that has it, or take the family's range out of the network"),
        }
    }

    fn ipv6(&self) -> Option<Finding> {
        let name = "net/ipv6/conf/all/disable_ipv6";
        let key = name.replace('/', ".");
        (self.setting(name).as_deref() == Some("1")).then(|| {
            Finding::error(&key, "IPv6 is switched off, and the network has an IPv6 range")
                .mend(format!("sysctl -w {key}=0, or take the range out of the network"))
        })
    }

    fn missing(&self, rules: Rules, family: Family, kind: &str) -> Option<Finding> {
        let (tables, nft) = (self.has(family.tables()), self.has("nft"));
        let name = match rules {
            Rules::Iptables if !tables => family.tables(),
            Rules::Nftables if !nft => "nft",
            Rules::Either if !tables && !nft => family.tables(),
            _ => return None,
        };
        let package = if name == "nft" { "nftables" } else { "iptables" };
        let what = format!("is in no folder of the daemon's PATH, and plugin {kind} runs it");
        Some(Finding::error(name, what).mend(format!(
            "install it (Debian: apt-get install {package}), or give the daemon a PATH with \
             /usr/sbin"
        )))
    }

    fn has(&self, program: &str) -> bool {
        std::env::split_paths(&self.path).any(|folder| is_program(&folder.join(program)))
    }
}

fn is_true(plugin: &PluginConf, key: &str) -> bool {
    plugin.keys.get(key) == Some(&Value::Bool(true))
}

/// Whether pods' packets go through this host's routing by it.
fn routes(plugin: &PluginConf) -> bool {
    match plugin.kind.as_str() {
        "ptp" => true,
        "bridge" => ["isGateway", "isDefaultGateway", "ipMasq"].iter().any(|k| is_true(plugin, k)),
        _ => false,
    }
}

fn rules(plugin: &PluginConf) -> Option<Rules> {
    let text = |key: &str| plugin.keys.get(key).and_then(Value::as_str);
    let chosen = match plugin.kind.as_str() {
        "portmap" => text("backend"),
        "bridge" | "ptp" if is_true(plugin, "ipMasq") => text("ipMasqBackend"),
        // Without a backend it asks firewalld, and takes iptables where that does not run.
        "firewall" if text("backend") == Some("firewalld") => return None,
        "firewall" => return Some(Rules::Iptables),
        _ => return None,
    };
    Some(match chosen {
        Some("iptables") => Rules::Iptables,
        Some("nftables") => Rules::Nftables,
        _ => Rules::Either,
    })
}

/// Those that the network's ranges and addresses are of; IPv4 where it names none.
fn families(network: &NetworkList) -> Vec<Family> {
    let mut found = (false, false);
    for plugin in &network.plugins {
        if let Some(ipam) = plugin.keys.get("ipam") {
            ranges(ipam, &mut found);
        }
    }
    match found {
        (true, true) => vec![Family::V4, Family::V6],
        (false, true) => vec![Family::V6],
        _ => vec![Family::V4],
    }
}

/// Whether a value has a prefix of IPv4, and of IPv6, anywhere below "subnet" or "address".
fn ranges(value: &Value, found: &mut (bool, bool)) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| ranges(value, found)),
        Value::Object(keys) => {
            for (key, value) in keys {
                match value.as_str().filter(|_| ["subnet", "address"].contains(&key.as_str())) {
                    Some(text) => match text.split('/').next().map(str::parse) {
                        Some(Ok(IpAddr::V4(_))) => found.0 = true,
                        Some(Ok(IpAddr::V6(_))) => found.1 = true,
                        _ => {}
                    },
                    None => ranges(value, found),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::Severity;
    use crate::network::journal::tests::attachment;
    use serde_json::json;
    use std::fs;
    use std::path::Path;

    fn host(folder: &Path, settings: &[(&str, &str)], programs: &[&str]) -> Host {
        use std::os::unix::fs::PermissionsExt;
        for (name, value) in settings {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, value).unwrap();
        }
        for name in programs {
            fs::write(folder.join(name), "").unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Host { settings: folder.into(), path: folder.into() }
    }

    fn found(host: &Host, plugins: &[Value]) -> Vec<(Severity, String)> {
        let findings = host.examine(&attachment(plugins).network);
        assert!(findings.iter().all(|f| f.severity == Severity::Fine || !f.mend.is_empty()));
        findings.into_iter().map(|finding| (finding.severity, finding.subject)).collect()
    }

    #[test]
    fn forwarding_is_looked_at_for_the_families_of_a_network_that_routes() {
        use Severity::{Error, Fine, Warning};
        let folder = tempfile::tempdir().unwrap();
        let (v4, v6) = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding");
        let off = "net/ipv6/conf/all/disable_ipv6";
        let host = host(folder.path(), &[(v4, "1\n"), (v6, "0\n"), (off, "0\n")], &[]);
        let ipam = json!({"type": "host-local", "dataDir": "/a/b", "ranges": [[{"subnet": "fd00::/64"}]],
            "subnet": "10.1.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]});
        let bridge = json!({"type": "bridge", "isGateway": true, "ipam": ipam});
        let name = |path: &str| path.replace('/', ".");
        assert_eq!(
            found(&host, std::slice::from_ref(&bridge)),
            [(Fine, name(v4)), (Warning, name(v6))]
        );
        let quiet = json!({"type": "bridge", "ipam": ipam});
        assert_eq!(found(&host, &[quiet]), []);
        let only_v4 = json!({"type": "ptp", "ipam": {"type": "dhcp"}});
        assert_eq!(found(&host, &[only_v4]), [(Fine, name(v4))]);
        fs::write(folder.path().join(off), "1\n").unwrap();
        fs::remove_file(folder.path().join(v6)).unwrap();
        let expected = [(Fine, name(v4)), (Error, name(v6)), (Error, name(off))];
        assert_eq!(found(&host, &[bridge]), expected);
    }

    #[test]
    fn programs_that_make_rules_are_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let none = host(folder.path(), &[], &[]);
        let names = |host: &Host, plugin: Value| -> Vec<String> {
            found(host, &[plugin]).into_iter().map(|(_, subject)| subject).collect()
        };
        let portmap = json!({"type": "portmap"});
        let firewall = json!({"type": "firewall"});
        assert_eq!(names(&none, portmap.clone()), ["iptables"]);
        assert_eq!(names(&none, json!({"type": "portmap", "backend": "nftables"})), ["nft"]);
        assert_eq!(names(&none, json!({"type": "firewall", "backend": "firewalld"})), [""; 0]);
        assert_eq!(names(&none, json!({"type": "bridge", "ipMasq": false})), [""; 0]);
        let nft = host(folder.path(), &[], &["nft"]);
        assert_eq!(names(&nft, portmap), [""; 0]);
        assert_eq!(names(&nft, firewall.clone()), ["iptables"]);
        let both = host(folder.path(), &[], &["iptables"]);
        assert_eq!(names(&both, firewall), [""; 0]);
        let v6 = json!({"type": "firewall", "ipam": {"addresses": [{"address": "fd00::2/64"}]}});
        assert_eq!(names(&both, v6), ["ip6tables"]);
    }
}
