//! A sandbox's own layer of files, below every container's root and above its image:
//! `<state>/sandboxes/<id>/etc-layer/` with etc/hosts, etc/resolv.conf, etc/hostname and /tmp.
//! Knows nothing of shims or records.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::model::sandbox::{Dns, SandboxConfig};

/// The longest host name Linux takes.
const HOSTNAME_MAX: usize = 63;

/// The name that the pod's guests see: the one asked for, the node's in its network, else the
/// pod's.
pub fn hostname(config: &SandboxConfig) -> Result<String> {
    let name = match config.hostname.as_str() {
        "" if config.wants_host_network() => node_name()?,
        "" => config.name.name.chars().take(HOSTNAME_MAX).collect(),
        asked => asked.to_owned(),
    };
    let word = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    if !word || name.len() > HOSTNAME_MAX || name.contains('/') {
        return Err(Error::Invalid(format!(
            "{name:?} is no host name: it must be one word of at most {HOSTNAME_MAX} bytes"
        )));
    }
    Ok(name)
}

fn node_name() -> Result<String> {
    let file = "/proc/sys/kernel/hostname";
    let name = fs::read_to_string(file).map_err(Error::io(format!("reading {file}")))?;
    Ok(name.trim_end().to_owned())
}

/// Refuses what could not be written into resolv.conf as one word.
pub fn check_dns(dns: &Dns) -> Result<()> {
    let words = dns.servers.iter().chain(&dns.searches).chain(&dns.options);
    for word in words {
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::Invalid(format!("DNS configuration: {word:?} is not one word")));
        }
    }
    Ok(())
}

/// Makes the layer in `folder`, which must not be there yet.
pub fn make(folder: &Path, hostname: &str, dns: Option<&Dns>) -> Result<()> {
    let doing = || Error::io(format!("making {}", folder.display()));
    let etc = folder.join("etc");
    fs::create_dir_all(&etc).map_err(doing())?;
    for path in [folder, &etc] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(doing())?;
    }
    let tmp = folder.join("tmp");
    fs::create_dir(&tmp).map_err(doing())?;
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).map_err(doing())?;

    let file = |name: &str, text: String| {
        let path = etc.join(name);
        fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(doing())
    };
    file("hostname", format!("{hostname}\n"))?;
    file("hosts", hosts(hostname))?;
    file("resolv.conf", resolv_conf(dns))
}

fn hosts(hostname: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         127.0.1.1\t{hostname}\n"
    )
}

/// The asked-for configuration, or the node's where none is asked for.
fn resolv_conf(dns: Option<&Dns>) -> String {
    let Some(dns) = dns.filter(|dns| **dns != Dns::default()) else {
        return fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    };
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sandbox::{NamespaceMode, Namespaces, SandboxName};

    #[test]
    fn the_layer_holds_hosts_resolv_conf_hostname_and_a_sticky_tmp() {
        let folder = tempfile::tempdir().unwrap();
        let layer = folder.path().join("etc-layer");
        let dns = Dns {
            servers: vec!["10.0.0.10".to_owned(), "10.0.0.11".to_owned()],
            searches: vec!["ns.svc".to_owned(), "svc".to_owned()],
            options: vec!["ndots:5".to_owned()],
        };
        make(&layer, "web-0", Some(&dns)).unwrap();
        let read = |name: &str| fs::read_to_string(layer.join("etc").join(name)).unwrap();
        assert_eq!(read("hostname"), "web-0\n");
        assert!(read("hosts").contains("127.0.0.1\tlocalhost\n"));
        assert!(read("hosts").contains("\tweb-0\n"));
        assert_eq!(
            read("resolv.conf"),
            "search ns.svc svc\nnameserver 10.0.0.10\nnameserver 10.0.0.11\noptions ndots:5\n"
        );
        let mode = fs::metadata(layer.join("tmp")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
    }

    #[test]
    fn an_empty_dns_configuration_means_the_nodes() {
        let node = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        assert_eq!(resolv_conf(Some(&Dns::default())), node);
        assert_eq!(resolv_conf(None), node);
    }

    #[test]
    fn the_host_name_is_the_asked_the_nodes_or_the_pods() {
        let mut config = SandboxConfig {
            name: SandboxName { name: "pod".to_owned(), ..SandboxName::default() },
            ..SandboxConfig::default()
        };
        assert_eq!(hostname(&config).unwrap(), "pod");
        let node = NamespaceMode::Node;
        config.namespaces = Some(Namespaces { network: node, ..Namespaces::default() });
        assert_eq!(hostname(&config).unwrap(), node_name().unwrap());
        config.hostname = "web".to_owned();
        assert_eq!(hostname(&config).unwrap(), "web");
        for bad in ["a b", "a\nb", "a/b", &"x".repeat(64)] {
            config.hostname = bad.to_owned();
            assert!(hostname(&config).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_dns_word_cannot_smuggle_in_a_line() {
        let dns = Dns { servers: vec!["1.1.1.1\nnameserver 6.6.6.6".to_owned()], ..Dns::default() };
        assert!(check_dns(&dns).is_err());
    }
}
