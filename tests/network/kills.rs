//! kill -9 of the daemon while pods come and go: nothing of their networks is left.

use std::time::Duration;

use serde_json::json;
use wasmpod::proto::cri;

use super::kit::{Net, networked, possible, remains};
use crate::support::{Daemon, Moments, eventually};

/// Holds every call up a little, so that kills meet plugins at work.
const SLOW: &str = r#"
input=$(cat)
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}' ;;
ADD) sleep 0.05; echo "$input" | sed 's/.*"prevResult":\({.*}\),"type".*/\1/' ;;
DEL) sleep 0.05 ;;
esac
"#;

/// WASMPOD_KILLS sets how often (12 unless told).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_the_daemon_leaks_nothing_of_a_network() {
    if !possible() {
        return;
    }
    let kills: u64 =
        std::env::var("WASMPOD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let net = Net::new();
    net.script("slow", SLOW);
    net.write(&[net.bridge_plugin(), json!({"type": "slow"})]);
    let mut daemon = Daemon::start_with(&net.configuration()).await;
    let steady = daemon.run_pod(networked("steady")).await;
    let mut workers: Vec<_> = (0..4)
        .map(|worker| {
            let mut client = daemon.runtime();
            let logs = daemon.logs();
            tokio::spawn(async move {
                for round in 0.. {
                    let mut config = networked(&format!("w{worker}-{round}"));
                    config.log_directory = logs.display().to_string();
                    let request =
                        cri::RunPodSandboxRequest { config: Some(config), ..Default::default() };
                    let Ok(answer) = client.run_pod_sandbox(request).await else {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    };
                    let pod_sandbox_id = answer.into_inner().pod_sandbox_id;
                    let request =
                        cri::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
                    let _ = client.stop_pod_sandbox(request).await;
                    let _ = client
                        .remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id })
                        .await;
                }
            })
        })
        .collect();
    let mut moments = Moments::new(u64::from(std::process::id()));
    for _ in 0..kills {
        moments.pass(Duration::from_millis(400), &mut workers).await;
        daemon.restart().await;
    }
    workers.iter().for_each(tokio::task::JoinHandle::abort);
    daemon.restart().await;
    let listed = daemon
        .runtime()
        .list_pod_sandbox(cri::ListPodSandboxRequest::default())
        .await
        .unwrap()
        .into_inner()
        .items;
    for pod in listed.iter().filter(|pod| pod.id != steady.id) {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        daemon.runtime().remove_pod_sandbox(request).await.unwrap();
    }
    // The steady pod's alone: a namespace, an entry and its result; two addresses; one link.
    eventually("what was left is given back", || {
        let left = remains(&daemon);
        let others = left.iter().filter(|path| !path.display().to_string().contains(&steady.id));
        (others.count() == 0 && left.len() == 3).then_some(())
    })
    .await;
    assert_eq!(net.reserved().len(), 2, "{:?}", net.reserved());
    eventually("the links are gone", || (net.ports().len() == 1).then_some(())).await;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = daemon.state().join("netns").join("");
    let bound = mounts.lines().filter(|line| line.contains(&own.display().to_string())).count();
    assert_eq!(bound, 1);
    steady.remove().await;
    assert!(net.reserved().is_empty());
}
