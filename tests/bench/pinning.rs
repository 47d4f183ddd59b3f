//! How exactly quotas are held, by cgroups and by the epoch. On a busy machine a guest gets less.

use std::time::{Duration, Instant};

use wasmpod::proto::cri::{self, NamespaceMode};

use crate::support::{Daemon, container};
use crate::table::Table;
use crate::target::Target;

const WINDOW: Duration = Duration::from_secs(3);

pub async fn measure(table: &mut Table) {
    for way in ["cgroup", "epoch"] {
        let daemon = Daemon::start_with(&format!("[shim]\ncpu_control = {way:?}\n")).await;
        let image = daemon.import("probe").await;
        for percent in [10, 25, 50, 80] {
            let mut target = Target::own(&daemon);
            let sandbox = target.sandbox(NamespaceMode::Node);
            let pod = target.run(&sandbox).await;
            let mut config = container("spinner", &image);
            config.args = vec!["spin".to_owned()];
            let resources = cri::LinuxContainerResources {
                cpu_quota: percent * 1000,
                cpu_period: 100_000,
                ..Default::default()
            };
            config.linux = Some(cri::LinuxContainerConfig {
                resources: Some(resources),
                ..Default::default()
            });
            let id = target.create(&pod, &config, &sandbox).await;
            target.start(&id).await;
            let reached = reached(&mut target, &id).await;
            table.add(format!("CPU of a quota of {percent} %, {way}"), format!("{reached:.1} %"));
            target.remove(&pod).await;
        }
    }
}

async fn reached(target: &mut Target, id: &str) -> f64 {
    let (begun, before) = ran(target, id).await;
    tokio::time::sleep_until((begun + WINDOW).into()).await;
    let (ended, after) = ran(target, id).await;
    100.0 * (after - before).as_secs_f64() / (ended - begun).as_secs_f64()
}

async fn ran(target: &mut Target, id: &str) -> (Instant, Duration) {
    let request = cri::ContainerStatsRequest { container_id: id.to_owned() };
    let stats = target.client.container_stats(request).await.unwrap().into_inner().stats.unwrap();
    let nanos = stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value;
    (Instant::now(), Duration::from_nanos(nanos))
}
