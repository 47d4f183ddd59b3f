//! What containers and sandboxes use, as their clocks, ledgers and networks say it now.

use std::collections::HashMap;
use std::sync::Arc;

use super::clock;
use super::container::{Container, on_thread};
use super::cpu::Threads;
use super::registry::Registry;
use super::sandbox::Sandbox;
use super::traffic::{Flow, Interface};
use crate::error::Result;
use crate::model::ids::SandboxId;
use crate::model::work::Work;
use crate::proto::shim as wire;

/// How much is counted.
#[derive(Clone, Copy)]
enum Depth {
    /// What costs nothing to ask.
    Use,
    /// What threads have done as well, which files of the kernel tell.
    Work,
}

impl Depth {
    fn work_of(self, threads: &Threads) -> Option<Work> {
        match self {
            Self::Use => None,
            Self::Work => Some(threads.work()),
        }
    }
}

pub async fn answer(registry: &Registry, asked: wire::StatsRequest) -> Result<wire::StatsResponse> {
    let containers = registry.containers();
    let depth = if asked.work { Depth::Work } else { Depth::Use };
    if asked.sandboxes {
        let sandboxes = registry.sandboxes();
        // A file of the kernel is read for each sandbox with a network.
        return on_thread("w-stats", move || everything(&sandboxes, &containers, depth)).await;
    }
    let is_wanted = |container: &&Arc<Container>| match asked.container_ids.as_slice() {
        [] => container.is_running(),
        named => named.iter().any(|id| id == container.id().as_str()),
    };
    let counted = containers.iter().filter(is_wanted);
    Ok(wire::StatsResponse {
        containers: counted.map(|container| of_container(container, None)).collect(),
        sandboxes: Vec::new(),
    })
}

fn of_container(container: &Container, done: Option<Work>) -> wire::ContainerStats {
    let ledger = &container.ledger;
    let limit = ledger.memory.limit();
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let threads = &container.control.threads;
    wire::ContainerStats {
        id: container.id().as_str().to_owned(),
        timestamp: clock::now(),
        cpu_nanos: threads.cpu_nanos(),
        memory: ledger.memory.used(),
        memory_peak: ledger.memory.peak(),
        memory_limit: if limit == u64::MAX { 0 } else { limit },
        memory_refusals: ledger.refusals(),
        threads: number(threads.count() as u64),
        descriptors: number(ledger.descriptors.used()),
        descriptors_limit: number(ledger.descriptors.limit()),
        stuck_threads: container.stuck.count(),
        processes: number(container.sandbox.processes.count(container) as u64),
        sockets: number(ledger.sockets.used()),
        memory_kills: ledger.memory.kills(),
        work: done.as_ref().map(work),
    }
}

/// Running containers, and sandboxes with what all their containers' threads took and did.
fn everything(
    sandboxes: &[Arc<Sandbox>],
    containers: &[Arc<Container>],
    depth: Depth,
) -> wire::StatsResponse {
    let mut taken: HashMap<&SandboxId, (u64, Work)> = HashMap::with_capacity(sandboxes.len());
    let mut counted = Vec::with_capacity(containers.len());
    for container in containers {
        let threads = &container.control.threads;
        let (nanos, work) = taken.entry(&container.spec.sandbox).or_default();
        let done = depth.work_of(threads);
        *work += done.unwrap_or_default();
        if container.is_running() {
            let stats = of_container(container, done);
            *nanos += stats.cpu_nanos;
            counted.push(stats);
        } else {
            *nanos += threads.cpu_nanos();
        }
    }
    let of_sandbox = |sandbox: &Arc<Sandbox>| {
        let (nanos, of_containers) = taken.get(&sandbox.spec.id).copied().unwrap_or_default();
        let own = depth.work_of(&sandbox.threads);
        wire::SandboxStats {
            id: sandbox.spec.id.as_str().to_owned(),
            timestamp: clock::now(),
            cpu_nanos: sandbox.threads.cpu_nanos() + nanos,
            memory: sandbox.memory.used(),
            interfaces: sandbox.traffic().into_iter().map(interface).collect(),
            memory_kills: sandbox.memory.kills(),
            work: own.map(|own| work(&[own, of_containers].into_iter().sum())),
        }
    };
    let sandboxes = sandboxes.iter().map(of_sandbox).collect();
    wire::StatsResponse { containers: counted, sandboxes }
}

fn work(done: &Work) -> wire::Work {
    wire::Work {
        user_nanos: done.user_nanos,
        system_nanos: done.system_nanos,
        faults: done.faults,
        major_faults: done.major_faults,
        reads: done.reads,
        writes: done.writes,
        read_bytes: done.read_bytes,
        written_bytes: done.written_bytes,
    }
}

fn interface(counted: Interface) -> wire::Interface {
    let traffic = |flow: Flow| wire::Traffic {
        bytes: flow.bytes,
        packets: flow.packets,
        errors: flow.errors,
        dropped: flow.dropped,
    };
    wire::Interface {
        name: counted.name,
        received: Some(traffic(counted.received)),
        sent: Some(traffic(counted.sent)),
    }
}
