//! Plugins that hang while their daemon ends, however it does: none stays, nothing is lost.

use std::net::IpAddr;

use serde_json::json;
use wasmpod::proto::cri;

use super::faults::FAULTY;
use super::kit::{Net, addresses, networked, possible, remains};
use crate::support::{Daemon, eventually, plugins_of};

/// A network whose second plugin is [`FAULTY`], and a daemon that gives plugins `seconds`.
async fn start(seconds: u32) -> (Net, Daemon) {
    let net = Net::new();
    net.script("faulty", FAULTY);
    net.write(&[net.bridge_plugin(), json!({"type": "faulty"})]);
    let limit = format!("plugin_seconds = {seconds}");
    let daemon =
        Daemon::start_with(&net.configuration().replace("plugin_seconds = 20", &limit)).await;
    (net, daemon)
}

/// Plugins of this network, and what they began, that are this program.
fn running(net: &Net, program: &str) -> Vec<u32> {
    let is = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim() == program)
    };
    plugins_of(net.folder.path()).into_iter().filter(is).collect()
}

/// Begins a pod whose plugin hangs, and gives its call up.
async fn hang(net: &Net, daemon: &Daemon) {
    tokio::select! {
        outcome = daemon.try_run_pod(networked("hangs"), "") => {
            panic!("it hangs: {:?}", outcome.map(|pod| pod.id))
        }
        () = eventually("the plugin hangs", || (!running(net, "sleep").is_empty()).then_some(())) => {}
    }
}

async fn no_plugin_is_left(net: &Net) {
    let left = || plugins_of(net.folder.path()).is_empty().then_some(());
    eventually("no plugin is left", left).await;
}

async fn all_is_given_back(net: &Net, daemon: &Daemon) {
    eventually("all is given back", || remains(daemon).is_empty().then_some(())).await;
    assert_eq!(net.reserved(), Vec::<IpAddr>::new());
    eventually("the links are gone", || net.ports().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_daemon_that_ends_in_order_takes_its_plugins_along() {
    if !possible() {
        return;
    }
    let (net, mut daemon) = start(600).await;
    hang(&net, &daemon).await;
    assert_eq!(net.reserved().len(), 2);
    daemon.terminate().await;
    no_plugin_is_left(&net).await;
    assert!(!remains(&daemon).is_empty(), "the journal has the pod that was cut short");
    daemon.restart().await;
    all_is_given_back(&net, &daemon).await;
}

#[tokio::test]
async fn the_next_daemon_ends_what_outlived_a_killed_one() {
    if !possible() {
        return;
    }
    let (net, mut daemon) = start(2).await;
    hang(&net, &daemon).await;
    let hung = running(&net, "sleep");
    daemon.kill();
    assert_eq!(running(&net, "sleep"), hung);
    daemon.restart().await;
    no_plugin_is_left(&net).await;
    all_is_given_back(&net, &daemon).await;

    // One that works for no pod.
    net.script("mute", "[ \"$CNI_COMMAND\" != VERSION ] || sleep 1000");
    net.write(&[json!({"type": "mute"})]);
    hang(&net, &daemon).await;
    daemon.restart().await;
    no_plugin_is_left(&net).await;
}

#[tokio::test]
async fn a_del_that_outlived_its_daemon_is_repeated_when_it_has_ended() {
    if !possible() {
        return;
    }
    let (net, mut daemon) = start(2).await;
    let pod = daemon.run_pod(networked("goes")).await;
    assert_eq!(addresses(&pod).await.len(), 2);
    let hangs = net.bin().join("hangs");
    std::fs::write(&hangs, "").unwrap();
    let mut client = daemon.runtime();
    let request = cri::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
    tokio::select! {
        outcome = client.stop_pod_sandbox(request) => panic!("it hangs: {outcome:?}"),
        () = eventually("DEL hangs", || (!running(&net, "sleep").is_empty()).then_some(())) => {}
    }
    daemon.kill();
    std::fs::remove_file(&hangs).unwrap();
    daemon.restart().await;
    pod.stop().await;
    assert_eq!(plugins_of(net.folder.path()), Vec::<u32>::new());
    all_is_given_back(&net, &daemon).await;
}

#[tokio::test]
async fn a_tests_end_leaves_no_plugin() {
    if !possible() {
        return;
    }
    let (net, daemon) = start(600).await;
    hang(&net, &daemon).await;
    drop(daemon);
    assert_eq!(plugins_of(net.folder.path()), Vec::<u32>::new());
}
