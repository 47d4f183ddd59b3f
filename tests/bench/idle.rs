//! What pods that do nothing cost, and what lists of many cost.

use std::fs;
use std::time::Instant;

use wasmpod::proto::cri::{self, NamespaceMode};

use crate::support::{self, Daemon, container};
use crate::table::{Table, Times};
use crate::target::Target;

const LISTS: usize = 20;

pub async fn measure(table: &mut Table) {
    for pods in [250, 2000] {
        many(table, crate::scaled(pods)).await;
    }
}

async fn many(table: &mut Table, count: usize) {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let mut target = Target::own(&daemon);
    let own_network = support::root_for("a network namespace of the pod's own");
    let network = if own_network { NamespaceMode::Pod } else { NamespaceMode::Node };

    // One pod first: what every pod shares is there before anything is weighed.
    idle(&mut target, &image, network).await;
    let (pss, own, available) = (shims(&daemon), kib_of(daemon.pid(), "Pss:"), available());
    let begun = Instant::now();
    for _ in 0..count {
        idle(&mut target, &image, network).await;
    }
    let took = begun.elapsed().as_secs_f64();
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / count as f64;
    table.add(format!("{count} idle pods, started one by one"), format!("{took:.1} s"));
    table.at_most(
        format!("{count} idle pods, PSS of shims each"),
        each(shims(&daemon), pss),
        150.0,
        "KiB",
    );
    table.at_most(
        format!("{count} idle pods, MemAvailable each"),
        each(available, self::available()),
        400.0,
        "KiB",
    );
    let own_after = kib_of(daemon.pid(), "Pss:");
    table.add(
        format!("{count} idle pods, PSS of the daemon each"),
        format!("{:.2} KiB", each(own_after, own)),
    );
    table.add(format!("{count} idle pods, shims"), daemon.shims().len().to_string());
    cpu(table, &daemon, count).await;
    lists(table, &mut target, count).await;
}

/// A pod with a container that does nothing.
pub async fn idle(target: &mut Target, image: &str, network: NamespaceMode) {
    let sandbox = target.sandbox(network);
    let pod = target.run(&sandbox).await;
    let mut config = container("idle", image);
    config.args = vec!["idle".to_owned()];
    let id = target.create(&pod, &config, &sandbox).await;
    target.start(&id).await;
}

/// CPU that daemon and shims use while nothing is asked of them, in percent of one core.
async fn cpu(table: &mut Table, daemon: &Daemon, count: usize) {
    const SECONDS: f64 = 5.0;
    let before = ticks(daemon);
    tokio::time::sleep(std::time::Duration::from_secs_f64(SECONDS)).await;
    let used = (ticks(daemon) - before) as f64 / 100.0 / SECONDS * 100.0;
    table.at_most(format!("{count} idle pods, CPU of daemon and shims"), used, 0.5, "%");
}

async fn lists(table: &mut Table, target: &mut Target, count: usize) {
    let mut times: [Times; 4] = Default::default();
    for _ in 0..LISTS {
        let mut begun = Instant::now();
        let pods = target.client.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await;
        assert!(pods.unwrap().into_inner().items.len() > count);
        times[0].add(begun.elapsed());
        begun = Instant::now();
        target.client.list_containers(cri::ListContainersRequest::default()).await.unwrap();
        times[1].add(begun.elapsed());
        begun = Instant::now();
        target
            .client
            .list_container_stats(cri::ListContainerStatsRequest::default())
            .await
            .unwrap();
        times[2].add(begun.elapsed());
        begun = Instant::now();
        target
            .client
            .list_pod_sandbox_stats(cri::ListPodSandboxStatsRequest::default())
            .await
            .unwrap();
        times[3].add(begun.elapsed());
    }
    let names = ["ListPodSandbox", "ListContainers", "ListContainerStats", "ListPodSandboxStats"];
    for (name, times) in names.iter().zip(&times) {
        table.at_most(format!("{name} of {count} pods, p50"), times.percentile(50), 20.0, "ms");
    }
}

pub fn shims(daemon: &Daemon) -> u64 {
    daemon.shims().into_iter().map(|pid| kib_of(pid, "Pss:")).sum()
}

fn kib_of(pid: u32, key: &str) -> u64 {
    value(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(), key)
}

fn available() -> u64 {
    value(&fs::read_to_string("/proc/meminfo").unwrap(), "MemAvailable:")
}

fn value(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// Hundredths of a second of CPU time, of a daemon and its shims.
pub fn ticks(daemon: &Daemon) -> u64 {
    let mut pids = daemon.shims();
    pids.push(daemon.pid());
    pids.into_iter().map(ticks_of).sum()
}

/// Hundredths of a second of CPU time, its threads' included.
fn ticks_of(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    [11, 12].iter().map(|place| fields.get(*place).map_or(0, |text| text.parse().unwrap())).sum()
}
