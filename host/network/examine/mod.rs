//! Whether this node can give pods a network, for people: which configuration is taken and why
//! not another, its plugins, and what they need of the host. Looks, and changes nothing.

mod host;
mod plugins;

use std::path::{Path, PathBuf};

use host::Host;

use super::conf::{self, NetworkList};
use super::namespace;
use super::orphans::Owner;
use super::plugin::Plugins;
use crate::config::{Config, Isolation, WithoutPlugins};
use crate::model::finding::Finding;

/// Takes as long as the plugins do, at most `network.status_seconds` for each.
pub async fn examine(config: &Config) -> Vec<Finding> {
    if config.network.isolation == Isolation::Virtual {
        return vec![Finding::fine(
            "pods",
            "share the host's network, each with a loopback address of its own: network.isolation \
             is \"virtual\"",
        )];
    }
    if !rustix::process::geteuid().is_root() {
        return vec![Finding::fine(
            "pods",
            "have loopback of their own and host ports by a proxy: only root can run CNI plugins",
        )];
    }
    let mut findings = vec![namespaces().await];
    let (more, taken) = configuration(config);
    findings.extend(more);
    if let Some(network) = taken {
        let owner = Owner::new(config.root.join("network"));
        let asked = Plugins::new(&config.network, owner);
        findings.extend(plugins::examine(&asked, &network).await);
        findings.extend(Host::own().examine(&network));
    }
    findings
}

async fn namespaces() -> Finding {
    let subject = "network namespaces";
    let tried = tokio::task::spawn_blocking(namespace::try_one).await;
    let outcome = tried.map_err(|error| error.to_string());
    match outcome.and_then(|tried| tried.map_err(|error| error.to_string())) {
        Ok(()) => Finding::fine(subject, "can be made"),
        Err(why) => Finding::error(subject, format!("cannot be made: {why}")).mend(
            "give the daemon CAP_SYS_ADMIN (in a container: privileged), and look at \
             /proc/sys/user/max_net_namespaces",
        ),
    }
}

/// What the folder says, and the network that pods get by it.
fn configuration(config: &Config) -> (Vec<Finding>, Option<NetworkList>) {
    let folder = &config.network.conf_dir;
    let shown = folder.display().to_string();
    let files = match conf::files(folder) {
        Ok(files) => files,
        Err(error) => {
            let finding = Finding::error(shown, format!("cannot be read: {error}"))
                .mend("make it a folder that root reads, or set network.conf_dir");
            return (vec![finding], None);
        }
    };
    if files.is_empty() {
        return (vec![none(shown, config.network.without_plugins)], None);
    }
    let taken = files.iter().position(|(_, content)| content.is_ok());
    let findings = files.iter().enumerate().map(|(place, (file, content))| {
        let file = file.display().to_string();
        match content {
            Ok(network) if taken == Some(place) => Finding::fine(file, told(network)),
            Ok(network) => {
                let name = &network.name;
                Finding::fine(file, format!("network {name} is not used: a file before it is"))
            }
            Err(why) => {
                let finding = match taken {
                    Some(_) => Finding::warning(file, format!("is passed over: {why}")),
                    None => Finding::error(file, format!("pods get no network: {why}")),
                };
                finding.mend("correct it, or move it away")
            }
        }
    });
    let findings = findings.collect();
    let taken = files.into_iter().find_map(|(_, content)| content.ok());
    (findings, taken)
}

fn told(network: &NetworkList) -> String {
    let kinds: Vec<_> = network.plugins.iter().map(|plugin| plugin.kind.as_str()).collect();
    format!("pods are attached to network {}: {}", network.name, kinds.join(", "))
}

fn none(folder: String, without: WithoutPlugins) -> Finding {
    let has_none = "has no network configuration: pods of `wasmpod run` have the host's network \
                    or loopback";
    match without {
        WithoutPlugins::Loopback => {
            Finding::fine(folder, format!("{has_none}, and so have a kubelet's, as configured"))
        }
        WithoutPlugins::NotReady => Finding::warning(
            folder,
            format!("{has_none}; a kubelet is told that the node's network is not ready"),
        )
        .mend(
            "for a kubelet install the cluster's network plugin, or write a .conflist there; where \
             loopback is enough, set network.without_plugins = \"loopback\"",
        ),
    }
}

/// A file that may be run.
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn joined(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::Severity;

    const GOOD: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "type": "ptp"}"#;

    fn config(files: &[(&str, &str)]) -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut config = Config::default();
        config.network.conf_dir = folder.path().into();
        (folder, config)
    }

    fn severities(findings: &[Finding]) -> Vec<Severity> {
        findings.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn each_file_has_its_line_and_the_first_valid_one_is_taken() {
        use Severity::{Error, Fine, Warning};
        let (_folder, config) = config(&[("1.conf", "{"), ("2.conf", GOOD), ("3.conf", GOOD)]);
        let (found, taken) = configuration(&config);
        assert_eq!(severities(&found), [Warning, Fine, Fine]);
        assert!(found[0].what.starts_with("is passed over: no JSON"), "{found:?}");
        assert!(found[1].what.contains("attached to network pods: ptp"), "{found:?}");
        assert!(found[2].what.contains("not used"), "{found:?}");
        assert_eq!(taken.unwrap().name, "pods");

        let (_folder, config) = super::tests::config(&[("1.conf", "{"), ("2.conf", "[]")]);
        let (found, taken) = configuration(&config);
        assert_eq!(severities(&found), [Error, Error]);
        assert!(taken.is_none());
    }

    #[test]
    fn no_configuration_means_something_else_to_each() {
        let (_folder, mut config) = config(&[("README", "")]);
        let (found, _) = configuration(&config);
        assert_eq!(severities(&found), [Severity::Warning]);
        assert!(found[0].what.contains("wasmpod run") && found[0].what.contains("kubelet"));
        config.network.without_plugins = WithoutPlugins::Loopback;
        assert_eq!(severities(&configuration(&config).0), [Severity::Fine]);
        config.network.conf_dir = config.network.conf_dir.join("README");
        assert_eq!(severities(&configuration(&config).0), [Severity::Error]);
    }
}
