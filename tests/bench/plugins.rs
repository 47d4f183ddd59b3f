//! What plugins add to CreateContainer: three that each take part in it, three that do not see the
//! pod, and none.

use std::time::Instant;

use wasmpod::proto::cri::NamespaceMode;

use crate::idle;
use crate::support::{self, Daemon, container};
use crate::table::{Table, Times};
use crate::target::Target;

const ROUNDS: usize = 4;
const CONTAINERS: usize = 500;

const PLUGINS: [&str; 3] = ["env-inject", "exclusive-cpus", "image-allowlist"];

/// A node, and what its containers' creation took.
struct Node {
    daemon: Daemon,
    target: Target,
    image: String,
    times: Times,
    /// Hundredths of a second of the daemon's CPU time.
    ticks: u64,
    created: usize,
}

impl Node {
    async fn start(configuration: &str) -> Self {
        let daemon = Daemon::start_with(configuration).await;
        let (image, target) = (daemon.import("probe").await, Target::own(&daemon));
        Self { daemon, target, image, times: Times::default(), ticks: 0, created: 0 }
    }

    async fn round(&mut self, count: usize) {
        let sandbox = self.target.sandbox(NamespaceMode::Node);
        let pod = self.target.run(&sandbox).await;
        let before = idle::ticks_of(self.daemon.pid());
        for number in 0..count {
            let config = container(&format!("c{number}"), &self.image);
            let begun = Instant::now();
            self.target.create(&pod, &config, &sandbox).await;
            self.times.add(begun.elapsed());
        }
        self.ticks += idle::ticks_of(self.daemon.pid()) - before;
        self.created += count;
        self.target.remove(&pod).await;
    }

    /// Microseconds of one container.
    fn p50(&self) -> f64 {
        self.times.percentile(50) * 1e3
    }

    fn cpu(&self) -> f64 {
        self.ticks as f64 * 1e4 / self.created as f64
    }
}

fn configuration(namespace: &str) -> String {
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
    PLUGINS.iter().map(table).collect()
}

pub async fn measure(table: &mut Table) {
    let mut none = Node::start("").await;
    let mut blind = Node::start(&configuration("elsewhere")).await;
    let mut three = Node::start(&configuration("*")).await;
    // The first of each compiles and fills caches.
    for node in [&mut none, &mut blind, &mut three] {
        node.round(10).await;
        (node.times, node.ticks, node.created) = (Times::default(), 0, 0);
    }
    // In turn, so that what the machine does besides meets all.
    for _ in 0..ROUNDS {
        for node in [&mut none, &mut blind, &mut three] {
            node.round(crate::scaled(CONTAINERS)).await;
        }
    }
    table.add("CreateContainer without plugins, p50", format!("{:.0} us", none.p50()));
    table.add("CreateContainer without plugins, CPU", format!("{:.0} us", none.cpu()));
    let added = |node: &Node| (node.p50() - none.p50(), node.cpu() - none.cpu());
    let (p50, cpu) = added(&blind);
    table.add("three plugins that do not see the pod add, p50", format!("{p50:.0} us"));
    table.add("three plugins that do not see the pod add, CPU", format!("{cpu:.0} us"));
    let (p50, cpu) = added(&three);
    table.at_most("three plugins add to CreateContainer, p50", p50, 300.0, "us");
    table.at_most("three plugins add to CreateContainer, CPU", cpu, 100.0, "us");
}
