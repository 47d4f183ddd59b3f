//! What plugins add to CreateContainer: three that each take part in it, one, three that do not see
//! the pod, and none.

use std::time::{Duration, Instant};

use wasmpod::proto::cri::{NamespaceMode, PodSandboxConfig};

use crate::support::{self, Daemon, container};
use crate::table::{Table, Times};
use crate::target::Target;

const ROUNDS: usize = 4;
const CONTAINERS: usize = 500;

/// Containers on one node before the next has its turn.
const BLOCK: usize = 25;

const PLUGINS: [&str; 3] = ["env-inject", "exclusive-cpus", "image-allowlist"];

/// A node, and what its containers' creation took.
struct Node {
    daemon: Daemon,
    target: Target,
    image: String,
    times: Times,
    /// Of the daemon.
    cpu: Duration,
}

impl Node {
    async fn start(configuration: &str) -> Self {
        let daemon = Daemon::start_with(configuration).await;
        let (image, target) = (daemon.import("probe").await, Target::own(&daemon));
        Self { daemon, target, image, times: Times::default(), cpu: Duration::ZERO }
    }

    async fn create(&mut self, (pod, sandbox): (&str, &PodSandboxConfig), number: usize) {
        let config = container(&format!("c{number}"), &self.image);
        let begun = Instant::now();
        self.target.create(pod, &config, sandbox).await;
        self.times.add(begun.elapsed());
    }

    /// Microseconds of one container.
    fn p50(&self) -> f64 {
        self.times.percentile(50) * 1e3
    }

    fn cpu(&self, created: usize) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / created as f64
    }
}

/// Some containers on each node in turn, so that what the machine does besides meets all of them, and
/// its caches are each node's for a while.
async fn round(nodes: &mut [Node], count: usize) {
    let mut pods = Vec::new();
    for node in &mut *nodes {
        let sandbox = node.target.sandbox(NamespaceMode::Node);
        pods.push((node.target.run(&sandbox).await, sandbox));
    }
    for first in (0..count).step_by(BLOCK) {
        for (node, (pod, sandbox)) in nodes.iter_mut().zip(&pods) {
            let before = cpu_time(node.daemon.pid());
            for number in first..count.min(first + BLOCK) {
                node.create((pod, sandbox), number).await;
            }
            node.cpu += cpu_time(node.daemon.pid()) - before;
        }
    }
    for (node, (pod, _)) in nodes.iter_mut().zip(&pods) {
        node.target.remove(pod).await;
    }
}

/// A process's CPU time, by its own clock (clock_getcpuclockid(3)): /proc counts hundredths of a
/// second.
#[allow(unsafe_code)]
fn cpu_time(pid: u32) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let clock = (!i32::try_from(pid).unwrap() << 3) | 2;
    // SAFETY: it writes one timespec.
    assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec.try_into().unwrap())
}

fn configuration(plugins: &[&str], namespace: &str) -> String {
    let table = |name: &&str| {
        let path = support::guest(name);
        let settings = match *name {
            "env-inject" => "env = { REGION = \"north\" }",
            "image-allowlist" => "prefixes = [\"tests/\"]",
            _ => "",
        };
        format!(
            "[plugins.{name}]\npath = {path:?}\nfunctions = [\"*\"]\nfields = [\"*\"]\n\
             namespaces = [{namespace:?}]\n[plugins.{name}.settings]\n{settings}\n"
        )
    };
    plugins.iter().map(table).collect()
}

pub async fn measure(table: &mut Table) {
    let mut nodes = [
        Node::start("").await,
        Node::start(&configuration(&PLUGINS, "elsewhere")).await,
        Node::start(&configuration(&PLUGINS[..1], "*")).await,
        Node::start(&configuration(&PLUGINS, "*")).await,
    ];
    // The first of each compiles and fills caches.
    round(&mut nodes, 10).await;
    for node in &mut nodes {
        (node.times, node.cpu) = (Times::default(), Duration::ZERO);
    }
    let count = crate::scaled(CONTAINERS);
    for _ in 0..ROUNDS {
        round(&mut nodes, count).await;
    }
    let measured = |node: &Node| (node.p50(), node.cpu(count * ROUNDS));
    let (p50, cpu) = measured(&nodes[0]);
    table.add("CreateContainer without plugins, p50 and CPU", format!("{p50:.0} us, {cpu:.0} us"));
    for (node, what) in nodes[1..].iter().zip(["three plugins that do not see the pod", "one"]) {
        let added = (measured(node).0 - p50, measured(node).1 - cpu);
        let value = format!("{:.0} us, {:.0} us", added.0, added.1);
        table.add(format!("{what} to CreateContainer, added p50 and CPU"), value);
    }
    let added = (measured(&nodes[3]).0 - p50, measured(&nodes[3]).1 - cpu);
    table.at_most("three plugins add to CreateContainer, p50", added.0, 300.0, "us");
    table.at_most("three plugins add to CreateContainer, CPU", added.1, 100.0, "us");
}
