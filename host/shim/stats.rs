//! What containers and sandboxes use, as their clocks, ledgers and networks say it now.

use std::collections::HashMap;
use std::sync::Arc;

use super::clock;
use super::container::{Container, on_thread};
use super::registry::Registry;
use super::sandbox::Sandbox;
use super::traffic::{Flow, Interface};
use crate::error::Result;
use crate::model::ids::SandboxId;
use crate::proto::shim as wire;

pub async fn answer(registry: &Registry, asked: wire::StatsRequest) -> Result<wire::StatsResponse> {
    let containers = registry.containers();
    if asked.sandboxes {
        let sandboxes = registry.sandboxes();
        // A file of the kernel is read for each sandbox with a network.
        return on_thread("w-stats", move || everything(&sandboxes, &containers)).await;
    }
    let is_wanted = |container: &&Arc<Container>| match asked.container_ids.as_slice() {
        [] => container.is_running(),
        named => named.iter().any(|id| id == container.id().as_str()),
    };
    let counted = containers.iter().filter(is_wanted);
    Ok(wire::StatsResponse {
        containers: counted.map(|container| of_container(container)).collect(),
        sandboxes: Vec::new(),
    })
}

fn of_container(container: &Container) -> wire::ContainerStats {
    let ledger = &container.ledger;
    let limit = ledger.memory.limit();
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    wire::ContainerStats {
        id: container.id().as_str().to_owned(),
        timestamp: clock::now(),
        cpu_nanos: container.control.threads.cpu_nanos(),
        memory: ledger.memory.used(),
        memory_peak: ledger.memory.peak(),
        memory_limit: if limit == u64::MAX { 0 } else { limit },
        memory_refusals: ledger.refusals(),
        threads: u32::try_from(container.control.threads.count()).unwrap_or(u32::MAX),
        descriptors: number(ledger.descriptors.used()),
        descriptors_limit: number(ledger.descriptors.limit()),
        stuck_threads: container.stuck.count(),
    }
}

/// Running containers, and sandboxes with the CPU time of all their containers.
fn everything(sandboxes: &[Arc<Sandbox>], containers: &[Arc<Container>]) -> wire::StatsResponse {
    let mut cpu_nanos: HashMap<&SandboxId, u64> = HashMap::with_capacity(sandboxes.len());
    let mut counted = Vec::with_capacity(containers.len());
    for container in containers {
        let nanos = cpu_nanos.entry(&container.spec.sandbox).or_default();
        if container.is_running() {
            let stats = of_container(container);
            *nanos += stats.cpu_nanos;
            counted.push(stats);
        } else {
            *nanos += container.control.threads.cpu_nanos();
        }
    }
    let of_sandbox = |sandbox: &Arc<Sandbox>| wire::SandboxStats {
        id: sandbox.spec.id.as_str().to_owned(),
        timestamp: clock::now(),
        cpu_nanos: sandbox.threads.cpu_nanos()
            + cpu_nanos.get(&sandbox.spec.id).copied().unwrap_or_default(),
        memory: sandbox.memory.used(),
        interfaces: sandbox.traffic().into_iter().map(interface).collect(),
    };
    let sandboxes = sandboxes.iter().map(of_sandbox).collect();
    wire::StatsResponse { containers: counted, sandboxes }
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
