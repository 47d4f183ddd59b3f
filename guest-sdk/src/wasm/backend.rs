//! The host functions, as the crate's modules call them.

use super::bindings::container::wasi::io::poll::Pollable;
use super::bindings::container::wasmpod::lifecycle::self_ as own;
use super::bindings::plugin::wasmpod::lifecycle as wire;
use super::convert;
use crate::{CpuSet, Error, Result};

fn sentence<T>(result: Result<T, String>) -> Result<T> {
    result.map_err(Error::new)
}

pub mod cpu {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cpu::{Cache, Cpu, Placement, Topology};

    pub fn topology() -> Topology {
        let told = wire::cpu::topology();
        let cache = |cache: wire::cpu::Cache| Cache {
            level: cache.level,
            kind: cache.kind,
            size: cache.size,
            cpus: convert::cpus(&cache.cpus),
        };
        let cpu = |cpu: wire::cpu::Cpu| Cpu {
            id: cpu.id,
            core: cpu.core,
            socket: cpu.socket,
            node: cpu.node,
        };
        Topology {
            cpus: told.cpus.into_iter().map(cpu).collect(),
            caches: told.caches.into_iter().map(cache).collect(),
            nodes: told.nodes,
        }
    }

    pub fn shared_pool() -> Result<CpuSet> {
        sentence(wire::cpu::shared_pool())?.parse()
    }

    pub fn allocate(container_id: &str, cpus: &CpuSet) -> Result<()> {
        sentence(wire::cpu::allocate(container_id, &cpus.to_string()))
    }

    pub fn release(container_id: &str) -> Result<()> {
        sentence(wire::cpu::release(container_id))
    }

    pub fn allocations() -> BTreeMap<String, CpuSet> {
        let told = wire::cpu::allocations().into_iter();
        told.map(|(id, cpus)| (id, convert::cpus(&cpus))).collect()
    }

    pub fn pin(container_id: &str, cpus: &CpuSet) -> Result<()> {
        sentence(wire::cpu::pin(container_id, &cpus.to_string()))
    }

    pub fn ran_on(container_id: &str) -> Result<Placement> {
        let told = sentence(wire::cpu::ran_on(container_id))?;
        Ok(Placement { allowed: told.allowed.parse()?, seen: told.seen.parse()? })
    }
}

pub mod memory {
    use super::*;
    use crate::memory::Node;

    pub fn nodes() -> Vec<Node> {
        let node = |node: wire::memory::Node| Node {
            id: node.id,
            total: node.total,
            free: node.free,
            distances: node.distances,
        };
        wire::memory::nodes().into_iter().map(node).collect()
    }

    pub fn set_mems(container_id: &str, nodes: &CpuSet) -> Result<()> {
        sentence(wire::memory::set_mems(container_id, &nodes.to_string()))
    }
}

pub mod pods {
    use super::*;
    use crate::Pod;

    pub fn list() -> Vec<Pod> {
        convert::all(wire::pods::list())
    }

    pub fn get(id: &str) -> Option<Pod> {
        wire::pods::get(id).map(Into::into)
    }
}

pub mod containers {
    use super::*;
    use crate::containers::Usage;
    use crate::{Container, Update};

    pub fn list(pod_id: Option<&str>) -> Vec<Container> {
        convert::all(wire::containers::list(pod_id))
    }

    pub fn get(id: &str) -> Option<Container> {
        wire::containers::get(id).map(Into::into)
    }

    pub fn update(updates: &[Update]) -> Result<()> {
        sentence(wire::containers::update(&convert::all(updates.to_vec())))
    }

    pub fn stats(id: &str) -> Result<Usage> {
        let told = sentence(wire::containers::stats(id))?;
        Ok(Usage {
            cpu_nanoseconds: told.cpu_nanoseconds,
            memory_bytes: told.memory_bytes,
            writable_bytes: told.writable_bytes,
            threads: told.threads,
        })
    }
}

pub mod events {
    use super::*;
    use crate::events::Severity;

    pub fn emit(id: &str, severity: Severity, reason: &str, message: &str) -> Result<()> {
        let severity = match severity {
            Severity::Normal => wire::events::Severity::Normal,
            Severity::Warning => wire::events::Severity::Warning,
        };
        sentence(wire::events::emit(id, severity, reason, message))
    }
}

pub mod log {
    use super::wire;
    use crate::log::Level;

    pub fn write(level: Level, text: &str) {
        let level = match level {
            Level::Debug => wire::log::Level::Debug,
            Level::Info => wire::log::Level::Info,
            Level::Warn => wire::log::Level::Warn,
            Level::Error => wire::log::Level::Error,
        };
        wire::log::write(level, text);
    }
}

pub mod config {
    use super::wire;

    pub fn all() -> String {
        wire::config::all()
    }

    pub fn get(key: &str) -> Option<String> {
        wire::config::get(key)
    }
}

pub mod kv {
    use super::*;

    pub fn get(key: &str) -> Result<Option<Vec<u8>>> {
        sentence(wire::kv::get(key))
    }

    pub fn set(key: &str, value: &[u8]) -> Result<()> {
        sentence(wire::kv::set(key, value))
    }

    pub fn delete(key: &str) -> Result<()> {
        sentence(wire::kv::delete(key))
    }

    pub fn keys(prefix: &str) -> Result<Vec<String>> {
        sentence(wire::kv::keys(prefix))
    }
}

pub mod this {
    use super::*;
    use crate::{Container, Pod};

    pub fn pod() -> Pod {
        own::own_pod().into()
    }

    pub fn container() -> Container {
        own::own_container().into()
    }

    pub fn cpuset() -> CpuSet {
        convert::cpus(&own::cpuset())
    }

    pub struct Stop(Pollable);

    impl Stop {
        pub fn ready(&self) -> bool {
            self.0.ready()
        }

        pub fn block(&self) {
            self.0.block();
        }
    }

    pub fn stop_requested() -> Stop {
        Stop(own::stop_requested())
    }

    pub fn exit(code: u8) -> ! {
        own::exit(code);
        // It does not return; the compiler cannot know.
        std::process::abort()
    }
}
