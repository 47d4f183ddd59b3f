//! The configuration's folder, and what Status says of it.

use serde_json::json;
use wasmpod::proto::cri;
use wasmpod::proto::cri::runtime_service_client::RuntimeServiceClient;

use super::kit::{Net, addresses, networked, plugins, possible};
use crate::support::{Daemon, Pod, eventually_async};

async fn condition(
    mut client: RuntimeServiceClient<tonic::transport::Channel>,
) -> cri::RuntimeCondition {
    let answer = client.status(cri::StatusRequest::default()).await.unwrap().into_inner();
    let conditions = answer.status.unwrap().conditions;
    conditions.into_iter().find(|c| c.r#type == "NetworkReady").unwrap()
}

#[tokio::test]
async fn the_kubelet_waits_for_a_network_and_changes_are_seen() {
    if !possible() {
        return;
    }
    let net = Net::new();
    let daemon = Daemon::start_with(&net.configuration()).await;
    let none = condition(daemon.runtime()).await;
    assert!(!none.status && none.reason == "NetworkPluginNotReady", "{none:?}");
    assert!(none.message.contains("cni plugin not initialized"), "{none:?}");
    assert!(condition(daemon.agent_runtime()).await.status);
    // Loopback until then.
    let early = daemon.run_pod(networked("early")).await;
    assert_eq!(early.status().await.unwrap().network, None);

    net.write(&[json!({"type": "not-there"})]);
    let missing = condition(daemon.runtime()).await;
    assert!(!missing.status && missing.message.contains("not-there of network"), "{missing:?}");
    net.write(&[net.bridge_plugin()]);
    let ready = condition(daemon.runtime()).await;
    assert!(ready.status && ready.message.contains(net.name()), "{ready:?}");
    let pod = daemon.run_pod(networked("late")).await;
    addresses(&pod).await;

    // Another configuration is for new pods; the old ones go by what they came with.
    net.write(&[json!({"type": "not-there"})]);
    let error = daemon.try_run_pod(networked("broken"), "").await.unwrap_err();
    assert!(error.message().contains("not-there of network"), "{}", error.message());
    pod.remove().await;
    assert!(net.reserved().is_empty());

    std::fs::remove_file(net.conf_dir().join("10-test.conflist")).unwrap();
    let removed = condition(daemon.runtime()).await;
    assert!(!removed.status && removed.message.contains("was removed"), "{removed:?}");
    let error = daemon.try_run_pod(networked("none"), "").await.unwrap_err();
    assert!(error.message().contains("was removed"), "{}", error.message());
    early.remove().await;
}

/// A plugin that speaks 1.1.0 and writes down what it is asked.
const RECORDER: &str = r#"
input=$(cat)
here=$(dirname "$0")
echo "$CNI_COMMAND $input" >> "$here/asked"
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}' ;;
STATUS) [ ! -e "$here/down" ] || { echo '{"code": 50, "msg": "no route server"}'; exit 1; } ;;
ADD) echo "$input" | sed 's/.*"prevResult":\({.*}\),"runtimeConfig".*/\1/' ;;
esac
"#;

#[tokio::test]
async fn status_check_and_gc_are_asked_where_the_plugins_have_them() {
    if !possible() {
        return;
    }
    let net = Net::new();
    net.script("recorder", RECORDER);
    net.script(
        "first",
        r#"
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}' ;;
ADD) echo '{"cniVersion": "1.1.0", "ips": [{"address": "192.0.2.7/24"}]}' ;;
esac"#,
    );
    let plugins =
        [json!({"type": "first"}), json!({"type": "recorder", "capabilities": {"dns": true}})];
    let configuration = format!("{}garbage = \"at-start\"\n", net.configuration());
    let list = json!({"cniVersion": "1.0.0", "cniVersions": ["1.1.0"], "name": net.name(), "plugins": plugins});
    std::fs::write(net.conf_dir().join("1.conflist"), list.to_string()).unwrap();
    let mut daemon = Daemon::start_with(&configuration).await;
    let asked = || std::fs::read_to_string(net.bin().join("asked")).unwrap_or_default();
    assert!(condition(daemon.runtime()).await.status);
    assert!(asked().contains("STATUS {"), "{}", asked());
    std::fs::write(net.bin().join("down"), "").unwrap();
    let down = eventually_async("an old answer is asked anew", || async {
        Some(condition(daemon.runtime()).await).filter(|condition| !condition.status)
    })
    .await;
    assert!(
        down.message.contains("recorder of network")
            && down.message.contains("no route server (code 50)"),
        "{down:?}"
    );
    let mut config = networked("kept");
    config.dns_config =
        Some(cri::DnsConfig { servers: vec!["192.0.2.1".into()], ..Default::default() });
    let pod = daemon.run_pod(config).await;
    assert_eq!(addresses(&pod).await, ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
    let add = asked().lines().find(|line| line.starts_with("ADD")).unwrap().to_owned();
    for says in ["\"cniVersion\":\"1.1.0\"", "\"runtimeConfig\":{\"dns\":{", "\"prevResult\":{"] {
        assert!(add.contains(says), "{says}: {add}");
    }
    daemon.restart().await;
    eventually_async("the pod's network is looked at", || async {
        asked()
            .lines()
            .any(|line| line.starts_with("CHECK") && line.contains("192.0.2.7"))
            .then_some(())
    })
    .await;
    let gc = asked().lines().rfind(|line| line.starts_with("GC")).unwrap().to_owned();
    assert!(gc.contains(&format!("\"containerID\":\"{}\"", pod.id)), "{gc}");
    pod.remove().await;
    let del = asked().lines().find(|line| line.starts_with("DEL")).unwrap().to_owned();
    assert!(del.contains("\"prevResult\":{") && del.contains("192.0.2.7"), "{del}");
}

/// host-local, which notes what it is asked.
const IPAM: &str = r#"
input=$(cat)
echo "$CNI_COMMAND $input" >> "$(dirname "$0")/asked"
[ "$CNI_COMMAND" = STATUS ] || echo "$input" | "#;

#[tokio::test]
async fn real_plugins_are_asked_in_the_highest_version_that_they_know() {
    if !possible() {
        return;
    }
    let version = std::process::Command::new(plugins().join("bridge"))
        .env("CNI_COMMAND", "VERSION")
        .output()
        .unwrap();
    // Debian's know 1.0.0, current ones 1.1.0.
    let is_current = String::from_utf8(version.stdout).unwrap().contains("\"1.1.0\"");
    let net = Net::new();
    net.script("noting-ipam", &format!("{IPAM}{}", plugins().join("host-local").display()));
    let mut bridge = net.bridge_plugin();
    bridge["ipam"]["type"] = json!("noting-ipam");
    let list = json!({
        "cniVersion": "0.4.0", "cniVersions": ["1.0.0", "1.1.0"], "name": net.name(),
        "plugins": [bridge],
    });
    std::fs::write(net.conf_dir().join("1.conflist"), list.to_string()).unwrap();
    let configuration = format!("{}garbage = \"at-start\"\n", net.configuration());
    let mut daemon = Daemon::start_with(&configuration).await;
    assert!(condition(daemon.runtime()).await.status);
    let asked = || std::fs::read_to_string(net.bin().join("asked")).unwrap_or_default();
    assert_eq!(asked().contains("STATUS {"), is_current, "{}", asked());
    let pod = daemon.run_pod(networked("kept")).await;
    let add = asked().lines().find(|line| line.starts_with("ADD")).unwrap().to_owned();
    let version = if is_current { "1.1.0" } else { "1.0.0" };
    assert!(add.contains(&format!("\"cniVersion\":\"{version}\"")), "{add}");
    // GC, of those that know it, takes nothing from a pod that is there.
    let reserved = net.reserved();
    daemon.restart().await;
    let pod = Pod { client: daemon.runtime(), ..pod };
    assert_eq!(net.reserved(), reserved);
    assert_eq!(reserved.len(), 2);
    pod.remove().await;
    assert_eq!(net.reserved(), Vec::<std::net::IpAddr>::new());
}
