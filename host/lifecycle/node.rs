//! What plugins reach of the node: implemented by the daemon's core, so that no call goes back up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::bindings::{cpu, memory, types as wit};
use super::functions::View;
use super::topology;
use crate::error::Result;
use crate::interface::{Answer, Call};
use crate::model::container::Container;
use crate::model::cpuset::CpuSet;
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::sandbox::Sandbox;

/// What a running container takes now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
    pub writable_bytes: u64,
    pub threads: u32,
}

/// Where a container's threads are.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// They may be on these CPUs.
    pub allowed: CpuSet,
    /// They are on these now.
    pub seen: CpuSet,
}

/// An event that a plugin tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub plugin: String,
    pub is_warning: bool,
    pub reason: String,
    pub message: String,
}

#[async_trait]
pub trait Node: Send + Sync {
    /// Ready ones, or not; none that is being made or removed.
    fn sandboxes(&self) -> Vec<Arc<Sandbox>>;

    /// Of all sandboxes, or of one.
    fn containers(&self, sandbox: Option<&SandboxId>) -> Vec<Arc<Container>>;

    /// The program's arguments and environment, as far as they are known still.
    fn command(&self, container: &Container) -> (Vec<String>, Vec<String>);

    /// Applies a change at once and records it, in `plugin`'s name. Asks no plugin.
    async fn update(
        &self,
        plugin: &str,
        id: &ContainerId,
        change: &wit::ResourceChange,
    ) -> Result<()>;

    async fn usage(&self, id: &ContainerId) -> Result<Usage>;

    async fn placement(&self, id: &ContainerId) -> Result<Placement>;

    /// A sandbox's folder, which goes with it.
    fn folder(&self, id: &SandboxId) -> PathBuf;

    /// Calls one of a sandbox's own hooks, which `view` answers meanwhile; within a time. The inner
    /// error says in a clause why it gave no answer.
    async fn call_hooks(
        &self,
        id: &SandboxId,
        call: &Call,
        within: (&mut View, Duration),
    ) -> Result<Result<Answer, String>>;

    /// Tells an event of a sandbox or a container.
    fn tell(&self, id: &str, told: Told) -> Result<()>;

    /// The machine's CPUs that are online.
    fn online(&self) -> CpuSet {
        topology::online()
    }

    fn layout(&self) -> cpu::Layout {
        topology::layout()
    }

    fn memory_nodes(&self) -> Vec<memory::Node> {
        topology::nodes()
    }
}
