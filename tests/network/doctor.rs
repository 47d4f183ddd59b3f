//! What `wasmpod doctor` says of the pods' network.

use serde_json::{Value, json};

use super::kit::{Net, possible};
use crate::support::Daemon;

/// What it found of the network, and whether it is content.
async fn examined(daemon: &Daemon) -> (Vec<Value>, bool) {
    let output = daemon.try_cli(&["doctor", "-o", "json"]).await;
    let mut found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    found.retain(|item| item["check"] == "network");
    (found, output.status.success())
}

/// The severity and the sentence of what was found about `subject`.
fn about<'a>(found: &'a [Value], subject: &str) -> (&'a str, &'a str) {
    let item = found.iter().find(|item| item["subject"] == subject);
    let item = item.unwrap_or_else(|| panic!("nothing about {subject}: {found:#?}"));
    let mend = item["mend"].as_str().unwrap();
    assert!(item["severity"] == "fine" || !mend.is_empty(), "{item}");
    (item["severity"].as_str().unwrap(), item["what"].as_str().unwrap())
}

#[tokio::test]
async fn the_doctor_finds_what_keeps_pods_from_a_network() {
    if !possible() {
        return;
    }
    let net = Net::new();
    let daemon = Daemon::start_with(&net.configuration()).await;
    let folder = net.conf_dir().display().to_string();
    let (found, content) = examined(&daemon).await;
    let (severity, what) = about(&found, &folder);
    assert!(content && severity == "warning", "{found:#?}");
    assert!(what.contains("a kubelet is told") && what.contains("`wasmpod run`"), "{what}");
    assert_eq!(about(&found, "network namespaces").0, "fine");

    net.write(&[net.bridge_plugin()]);
    let file = net.conf_dir().join("10-test.conflist").display().to_string();
    let (found, content) = examined(&daemon).await;
    assert!(content, "{found:#?}");
    let (severity, what) = about(&found, &file);
    assert!(severity == "fine" && what.contains(&format!("network {}: bridge", net.name())));
    for plugin in ["plugin bridge", "plugin host-local"] {
        let (severity, what) = about(&found, plugin);
        assert!(severity == "fine" && what.contains("0.4.0"), "{what}");
    }
    about(&found, "net.ipv4.ip_forward");
    about(&found, "net.ipv6.conf.all.forwarding");

    // A fault of each kind, each with its cure.
    std::fs::write(net.conf_dir().join("1-odd.conf"), "{").unwrap();
    net.script("old", r#"echo '{"cniVersion": "0.3.1", "supportedVersions": ["0.3.1"]}'"#);
    net.script("mute", "exit 1");
    std::fs::write(net.bin().join("plain"), "").unwrap();
    let kinds = ["absent", "old", "mute", "plain", "portmap"];
    net.write(&kinds.map(|kind| json!({"type": kind})));
    let (found, content) = examined(&daemon).await;
    assert!(!content, "{found:#?}");
    let odd = net.conf_dir().join("1-odd.conf").display().to_string();
    let (severity, what) = about(&found, &odd);
    assert!(severity == "warning" && what.contains("no JSON"), "{what}");
    for (plugin, says) in [
        ("plugin absent", "is in none of"),
        ("plugin old", "speaks 0.3.1, the configuration wants 1.0.0"),
        ("plugin mute", "VERSION failed"),
        ("plugin plain", "is not executable"),
    ] {
        let (severity, what) = about(&found, plugin);
        assert!(severity == "error" && what.contains(says), "{what}");
    }
    let untold = found.iter().any(|item| {
        item["severity"] == "warning" && item["what"].as_str().unwrap().contains("portMappings")
    });
    assert!(untold, "{found:#?}");

    std::fs::remove_file(&file).unwrap();
    let (found, content) = examined(&daemon).await;
    assert!(!content && about(&found, &odd).0 == "error", "{found:#?}");
}
