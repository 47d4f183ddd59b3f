//! Plugins that hang, lie, print garbage or fail: each is its pod's matter alone.

use std::time::Instant;

use serde_json::json;

use super::kit::{Net, addresses, networked, possible, remains};
use crate::support::{Daemon, eventually};

/// Speaks 1.0.0, and does what the pod's name says at ADD.
pub const FAULTY: &str = r#"
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}'; exit ;;
DEL)
    [ ! -e "$(dirname "$0")/hangs" ] || sleep 1000
    [ ! -e "$(dirname "$0")/stuck" ] || { echo '{"code": 11, "msg": "try again later"}'; exit 1; }
    exit ;;
ADD) ;;
*) exit ;;
esac
case $CNI_ARGS in
*K8S_POD_NAME=hangs\;*) sleep 1000 ;;
*K8S_POD_NAME=fails\;*) exit 1 ;;
*K8S_POD_NAME=tells\;*) echo '{"cniVersion": "1.0.0", "code": 100, "msg": "no more veths"}'; exit 1 ;;
*K8S_POD_NAME=babbles\;*) echo 'Hello from the plugin!' ;;
*K8S_POD_NAME=silent\;*) ;;
*K8S_POD_NAME=floods\;*) cat /dev/zero ;;
*K8S_POD_NAME=lies\;*)
    echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "'$CNI_NETNS'"}],
           "ips": [{"address": "203.0.113.9/24", "interface": 0}]}' ;;
*K8S_POD_NAME=gives-none\;*) echo '{"cniVersion": "1.0.0"}' ;;
*) sed 's/.*"prevResult":\({.*}\),"type".*/\1/' ;;
esac
"#;

#[tokio::test]
async fn each_fault_has_its_sentence_and_leaves_nothing() {
    if !possible() {
        return;
    }
    let net = Net::new();
    net.script("faulty", FAULTY);
    net.write(&[net.bridge_plugin(), json!({"type": "faulty"})]);
    let configuration = net.configuration().replace("plugin_seconds = 20", "plugin_seconds = 3");
    let daemon = Daemon::start_with(&configuration).await;
    let plugin = format!("CNI plugin faulty of network {}: ADD ", net.name());
    let network = format!("network {} ", net.name());
    let hanging = daemon.try_run_pod(networked("hangs"), "");
    let others = async {
        let begun = Instant::now();
        for (name, says) in [
            ("fails", format!("{plugin}failed: ended with exit status: 1")),
            ("tells", format!("{plugin}failed: no more veths (code 100)")),
            ("babbles", format!("{plugin}printed what is no result")),
            ("silent", format!("{plugin}printed no result")),
            ("floods", format!("{plugin}printed more than")),
            (
                "lies",
                format!("{network}says that the pod has 203.0.113.9, and its namespace has not"),
            ),
            ("gives-none", format!("{network}gave the pod no address at eth0")),
        ] {
            let error = daemon.try_run_pod(networked(name), "").await.unwrap_err();
            assert!(error.message().contains(&says), "{name}: {}", error.message());
            assert!(!error.message().contains('\n'));
        }
        let pod = daemon.run_pod(networked("fine")).await;
        addresses(&pod).await;
        pod.remove().await;
        begun
    };
    let (hung, _) = tokio::join!(hanging, others);
    let error = hung.unwrap_err();
    assert!(error.message().contains(&format!("{plugin}took longer than 3 s")), "{error}");
    assert_eq!(net.reserved(), Vec::<std::net::IpAddr>::new());
    assert_eq!(remains(&daemon), Vec::<std::path::PathBuf>::new());
    eventually("the links are gone", || net.ports().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_hanging_plugin_delays_no_other_pod() {
    if !possible() {
        return;
    }
    let net = Net::new();
    net.script("faulty", FAULTY);
    net.write(&[net.bridge_plugin(), json!({"type": "faulty"})]);
    let daemon = Daemon::start_with(&net.configuration()).await;
    let hanging = async { daemon.try_run_pod(networked("hangs"), "").await.map(|pod| pod.id) };
    let others = async {
        for number in 0..10 {
            daemon.run_pod(networked(&format!("pod-{number}"))).await.remove().await;
        }
    };
    tokio::select! {
        biased;
        outcome = hanging => panic!("the others were not through before: {outcome:?}"),
        () = others => {}
    }
}

#[tokio::test]
async fn del_is_repeated_until_it_works_over_restarts_and_reboots() {
    if !possible() {
        return;
    }
    let net = Net::new();
    net.script("faulty", FAULTY);
    net.write(&[net.bridge_plugin(), json!({"type": "faulty"})]);
    let mut daemon = Daemon::start_with(&net.configuration()).await;
    let stuck = net.bin().join("stuck");
    std::fs::write(&stuck, "").unwrap();
    // The client is told, the pod is stopped all the same, and can be removed.
    let pod = daemon.run_pod(networked("stays")).await;
    let request = wasmpod::proto::cri::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
    let error = daemon.runtime().stop_pod_sandbox(request).await.unwrap_err();
    assert!(error.message().contains("DEL failed: try again later (code 11)"), "{error}");
    let state = pod.status().await.unwrap().state();
    assert_eq!(state, wasmpod::proto::cri::PodSandboxState::SandboxNotready);
    pod.remove().await;
    assert!(!remains(&daemon).is_empty());
    daemon.restart().await;
    assert!(remains(&daemon).iter().any(|path| path.display().to_string().contains(&pod.id)));
    std::fs::remove_file(&stuck).unwrap();
    eventually("DEL works at last", || remains(&daemon).is_empty().then_some(())).await;
    assert_eq!(net.reserved(), Vec::<std::net::IpAddr>::new());

    // A reboot: what was under the state folder is no more, nor is any process.
    let pod = daemon.run_pod(networked("reboots")).await;
    assert_eq!(net.reserved().len(), 2);
    daemon.reboot().await;
    eventually("the addresses are given back", || remains(&daemon).is_empty().then_some(())).await;
    assert_eq!(net.reserved(), Vec::<std::net::IpAddr>::new());
    assert_eq!(pod.status().await.unwrap_err().code(), tonic::Code::NotFound);
}
