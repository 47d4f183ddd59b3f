//! What a kubelet's polling of a full node costs.

use std::time::{Duration, Instant};

use wasmpod::proto::cri::{self, NamespaceMode};

use crate::idle;
use crate::support::Daemon;
use crate::table::{Table, Times};
use crate::target::Target;

const CONTAINERS: usize = 5000;

/// How often they are listed, once in each second (the kubelet's number).
const POLLS: usize = 15;

pub async fn measure(table: &mut Table) {
    let count = crate::scaled(CONTAINERS);
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let mut target = Target::own(&daemon);
    for _ in 0..count {
        idle::idle(&mut target, &image, NamespaceMode::Node).await;
    }
    let mut times: [Times; 2] = Default::default();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    let (begun, before) = (Instant::now(), idle::ticks(&daemon));
    for _ in 0..POLLS {
        let mut asked = Instant::now();
        let list = target.client.list_containers(cri::ListContainersRequest::default()).await;
        assert_eq!(list.unwrap().into_inner().containers.len(), count);
        times[0].add(asked.elapsed());
        asked = Instant::now();
        let list = target.client.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await;
        assert_eq!(list.unwrap().into_inner().items.len(), count);
        times[1].add(asked.elapsed());
        second.tick().await;
    }
    let used = (idle::ticks(&daemon) - before) as f64 / begun.elapsed().as_secs_f64();
    let what = format!("{count} running containers, listed every second");
    table.at_most(format!("{what}, CPU of daemon and shims"), used, 5.0, "%");
    for (name, times) in ["ListContainers", "ListPodSandbox"].iter().zip(&times) {
        table.at_most(format!("{what}, {name}, p50"), times.percentile(50), 20.0, "ms");
    }
}
