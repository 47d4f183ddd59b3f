//! What plugins reach of the node: state, CPUs, events; and what survives the daemon.

use wasmpod::proto::cri;

use super::kit::{Plugin, hooks, pod, probe, shows, start, told};
use crate::support::{container, eventually};

#[tokio::test]
async fn a_daemon_that_is_killed_shows_its_plugins_what_lives_and_their_state_is_there() {
    let mut daemon = start(&[probe("probe", 1, "kv = true")]).await;
    let image = daemon.import("probe").await;
    let main = shows(&pod(&daemon).await, &image, &["say", "here", "--", "idle"]).await;
    main.says("here").await;
    daemon.kill();
    daemon.restart().await;
    let seen = || hooks(&daemon, "1 pods, 1 containers").len();
    eventually("it is shown", || (seen() == 1).then_some(())).await;
    assert!(daemon.root().join("plugins/probe.redb").is_file());
}

#[tokio::test]
async fn cpus_that_are_taken_are_the_containers_until_it_ends() {
    let daemon = start(&[probe("probe", 1, "do = { pre-create-container = \"take 0\" }")]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let first = shows(&pod, &image, &["say", "here", "--", "idle"]).await;
    first.says("here").await;
    let status = first.status().await.unwrap();
    assert_eq!(status.resources.unwrap().linux.unwrap().cpuset_cpus, "0");
    let error = pod.try_create(container("second", &image)).await.unwrap_err();
    let wanted = format!("CPU 0 was allocated to container {} by plugin probe", first.id);
    assert!(error.message().contains(&wanted), "{error}");
    first.stop(0).await;
    crate::support::eventually_async("they are free again", || async {
        pod.try_create(container("second", &image)).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn claims_outlive_the_daemon() {
    let mut daemon =
        start(&[probe("probe", 1, "do = { pre-create-container = \"take 0\" }")]).await;
    let image = daemon.import("probe").await;
    let first = shows(&pod(&daemon).await, &image, &["idle"]).await;
    daemon.kill();
    daemon.restart().await;
    let pod = crate::support::Pod { client: daemon.runtime(), ..first.pod };
    let error = pod.try_create(container("second", &image)).await.unwrap_err();
    assert!(error.message().contains("CPU 0 was allocated to container"), "{error}");
}

#[tokio::test]
async fn an_event_reaches_cris_stream_with_its_words() {
    let daemon =
        start(&[probe("probe", 1, "do = { post-start-container = \"tell Warmed\" }")]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let request = cri::GetEventsRequest {};
    let mut events = daemon.runtime().get_container_events(request).await.unwrap().into_inner();
    let main = shows(&pod, &image, &["idle"]).await;
    let told = async {
        loop {
            let event = events.message().await.unwrap().unwrap();
            let annotations = event.pod_sandbox_status.unwrap().annotations;
            if let Some(reason) = annotations.get("event.wasmpod.dev/reason") {
                break (event.container_id, reason.clone(), annotations.clone());
            }
        }
    };
    let told = tokio::time::timeout(crate::support::DEADLINE, told).await.unwrap();
    assert_eq!((told.0.as_str(), told.1.as_str()), (main.id.as_str(), "Warmed"));
    assert_eq!(told.2["event.wasmpod.dev/severity"], "Warning");
    assert_eq!(told.2["event.wasmpod.dev/plugin"], "probe");
}

#[tokio::test]
async fn ids_that_are_no_containers_are_told_apart_from_those_that_are() {
    let settings = "do = { pre-create-container = \"other-container nobody\" }";
    let daemon = start(&[probe("probe", 1, settings)]).await;
    let image = daemon.import("probe").await;
    let error = pod(&daemon).await.try_create(container("main", &image)).await.unwrap_err();
    assert!(error.message().contains("container \"nobody\" not found"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_ends_in_order_says_goodbye() {
    let mut daemon = start(&[Plugin::default()]).await;
    pod(&daemon).await;
    assert!(daemon.terminate().await.success());
    assert_eq!(told(&daemon).last().unwrap(), "shutdown");
}
