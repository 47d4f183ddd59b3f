//! What a pod's own hooks ask for, answered as a plugin's calls are.

use serde::Serialize;

use super::bindings::{config, containers, cpu, events, kv, log, memory, pods};
use super::functions::View;
use crate::error::{Error, Result};
use crate::interface::Ask;

impl View {
    /// The reply to a question, both as JSON.
    pub async fn reply(&mut self, question: &[u8]) -> Result<Vec<u8>> {
        let ask = serde_json::from_slice(question).map_err(|error| {
            Error::Internal(format!("a question of hooks cannot be read: {error}"))
        })?;
        let replied = self.answer(ask).await;
        replied.map_err(|error| Error::Internal(format!("answering hooks: {error:#}")))
    }

    async fn answer(&mut self, ask: Ask) -> wasmtime::Result<Vec<u8>> {
        match ask {
            Ask::CpuTopology => json(cpu::Host::topology(self).await),
            Ask::CpuSharedPool => json(cpu::Host::shared_pool(self).await),
            Ask::CpuAllocate(id, cpus) => json(cpu::Host::allocate(self, id, cpus).await),
            Ask::CpuRelease(id) => json(cpu::Host::release(self, id).await),
            Ask::CpuAllocations => json(cpu::Host::allocations(self).await),
            Ask::CpuPin(id, cpus) => json(cpu::Host::pin(self, id, cpus).await),
            Ask::CpuRanOn(id) => json(cpu::Host::ran_on(self, id).await),
            Ask::MemoryNodes => json(memory::Host::nodes(self).await),
            Ask::MemorySetMems(id, mems) => json(memory::Host::set_mems(self, id, mems).await),
            Ask::PodsList => json(pods::Host::list(self).await),
            Ask::PodsGet(id) => json(pods::Host::get(self, id).await),
            Ask::ContainersList(pod) => json(containers::Host::list(self, pod).await),
            Ask::ContainersGet(id) => json(containers::Host::get(self, id).await),
            Ask::ContainersUpdate(all) => json(containers::Host::update(self, all).await),
            Ask::ContainersStats(id) => json(containers::Host::stats(self, id).await),
            Ask::EventsEmit(id, severity, reason, message) => {
                json(events::Host::emit(self, id, severity, reason, message).await)
            }
            Ask::LogWrite(level, text) => json(log::Host::write(self, level, text).await),
            Ask::ConfigAll => json(config::Host::all(self).await),
            Ask::ConfigGet(key) => json(config::Host::get(self, key).await),
            Ask::KvGet(key) => json(kv::Host::get(self, key).await),
            Ask::KvSet(key, value) => json(kv::Host::set(self, key, value).await),
            Ask::KvDelete(key) => json(kv::Host::delete(self, key).await),
            Ask::KvKeys(prefix) => json(kv::Host::keys(self, prefix).await),
        }
    }
}

fn json<T: Serialize>(outcome: wasmtime::Result<T>) -> wasmtime::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&outcome?)?)
}
