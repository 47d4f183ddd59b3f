//! What hooks ask for, passed on to whoever called them: a shim knows nothing of the node.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tonic::codegen::Bytes;

use crate::interface::types::{Container, ContainerUpdate, Pod};
use crate::interface::{
    Ask, Holder, config, containers, cpu, events, kv, log, memory, pods, types,
};
use crate::shim::sandbox::Sandbox;

/// The way to who called the hook that runs.
pub struct Talk {
    pub asks: mpsc::Sender<Bytes>,
    pub replies: mpsc::Receiver<Bytes>,
}

/// What the hooks' host functions see.
pub struct Line {
    sandbox: Arc<Sandbox>,
    /// Bytes of the pod's budget.
    taken: u64,
    /// While a hook runs.
    pub talk: Option<Talk>,
}

impl Line {
    pub fn new(sandbox: Arc<Sandbox>) -> Self {
        Self { sandbox, taken: 0, talk: None }
    }

    /// Takes some of the pod's memory until this goes.
    pub fn take(&mut self, bytes: u64) -> bool {
        let is_taken = self.sandbox.memory.take(bytes);
        self.taken += if is_taken { bytes } else { 0 };
        is_taken
    }

    async fn ask<T: DeserializeOwned>(&mut self, ask: Ask) -> wasmtime::Result<T> {
        let gone = || wasmtime::Error::msg("nobody waits for the hook any more");
        let Some(talk) = &mut self.talk else {
            return Err(wasmtime::Error::msg("nothing can be asked for outside of a hook"));
        };
        let text = serde_json::to_vec(&ask)?;
        talk.asks.send(text.into()).await.map_err(|_| gone())?;
        let reply = talk.replies.recv().await.ok_or_else(gone)?;
        Ok(serde_json::from_slice(&reply)?)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.sandbox.memory.give_back(self.taken);
    }
}

impl Holder for Line {
    fn takes(&mut self, bytes: u64) -> bool {
        self.take(bytes)
    }

    fn is_awaited(&self) -> bool {
        !self.sandbox.is_closed() && self.talk.as_ref().is_none_or(|talk| !talk.asks.is_closed())
    }
}

type Answer<T> = wasmtime::Result<Result<T, String>>;

impl types::Host for Line {}

impl cpu::Host for Line {
    async fn topology(&mut self) -> wasmtime::Result<cpu::Layout> {
        self.ask(Ask::CpuTopology).await
    }

    async fn shared_pool(&mut self) -> Answer<String> {
        self.ask(Ask::CpuSharedPool).await
    }

    async fn allocate(&mut self, id: String, cpus: String) -> Answer<()> {
        self.ask(Ask::CpuAllocate(id, cpus)).await
    }

    async fn release(&mut self, id: String) -> Answer<()> {
        self.ask(Ask::CpuRelease(id)).await
    }

    async fn allocations(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        self.ask(Ask::CpuAllocations).await
    }

    async fn pin(&mut self, id: String, cpus: String) -> Answer<()> {
        self.ask(Ask::CpuPin(id, cpus)).await
    }

    async fn ran_on(&mut self, id: String) -> Answer<cpu::Placement> {
        self.ask(Ask::CpuRanOn(id)).await
    }
}

impl memory::Host for Line {
    async fn nodes(&mut self) -> wasmtime::Result<Vec<memory::Node>> {
        self.ask(Ask::MemoryNodes).await
    }

    async fn set_mems(&mut self, id: String, mems: String) -> Answer<()> {
        self.ask(Ask::MemorySetMems(id, mems)).await
    }
}

impl pods::Host for Line {
    async fn list(&mut self) -> wasmtime::Result<Vec<Pod>> {
        self.ask(Ask::PodsList).await
    }

    async fn get(&mut self, id: String) -> wasmtime::Result<Option<Pod>> {
        self.ask(Ask::PodsGet(id)).await
    }
}

impl containers::Host for Line {
    async fn list(&mut self, pod: Option<String>) -> wasmtime::Result<Vec<Container>> {
        self.ask(Ask::ContainersList(pod)).await
    }

    async fn get(&mut self, id: String) -> wasmtime::Result<Option<Container>> {
        self.ask(Ask::ContainersGet(id)).await
    }

    async fn update(&mut self, updates: Vec<ContainerUpdate>) -> Answer<()> {
        self.ask(Ask::ContainersUpdate(updates)).await
    }

    async fn stats(&mut self, id: String) -> Answer<containers::Usage> {
        self.ask(Ask::ContainersStats(id)).await
    }
}

impl events::Host for Line {
    async fn emit(
        &mut self,
        id: String,
        severity: events::Severity,
        reason: String,
        message: String,
    ) -> Answer<()> {
        self.ask(Ask::EventsEmit(id, severity, reason, message)).await
    }
}

impl log::Host for Line {
    async fn write(&mut self, level: log::Level, text: String) -> wasmtime::Result<()> {
        self.ask(Ask::LogWrite(level, text)).await
    }
}

impl config::Host for Line {
    async fn all(&mut self) -> wasmtime::Result<String> {
        self.ask(Ask::ConfigAll).await
    }

    async fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.ask(Ask::ConfigGet(key)).await
    }
}

impl kv::Host for Line {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        self.ask(Ask::KvGet(key)).await
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Answer<()> {
        self.ask(Ask::KvSet(key, value)).await
    }

    async fn delete(&mut self, key: String) -> Answer<()> {
        self.ask(Ask::KvDelete(key)).await
    }

    async fn keys(&mut self, prefix: String) -> Answer<Vec<String>> {
        self.ask(Ask::KvKeys(prefix)).await
    }
}
