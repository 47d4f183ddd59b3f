//! What is said between a pod's own hooks, which live in the pod's sandbox, and whoever asks them
//! and answers what they ask for: texts of JSON.

use serde::{Deserialize, Serialize};

use super::types as wit;
use super::{events, log};

/// What a container is told of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    pub pod: wit::Pod,
    pub container: wit::Container,
}

/// The hooks of the world `pod-hooks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hook {
    PreCreateContainer,
    PostCreateContainer,
    PreStartContainer,
    PostStartContainer,
    /// With what is wanted.
    UpdateContainer,
    PreStopContainer,
    PostStopContainer,
    ContainerExited,
}

impl Hook {
    pub fn name(self) -> &'static str {
        match self {
            Self::PreCreateContainer => "pre-create-container",
            Self::PostCreateContainer => "post-create-container",
            Self::PreStartContainer => "pre-start-container",
            Self::PostStartContainer => "post-start-container",
            Self::UpdateContainer => "update-container",
            Self::PreStopContainer => "pre-stop-container",
            Self::PostStopContainer => "post-stop-container",
            Self::ContainerExited => "container-exited",
        }
    }
}

/// One call of a hook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    pub hook: Hook,
    pub pod: wit::Pod,
    pub container: wit::Container,
    /// Of [`Hook::UpdateContainer`] alone.
    pub wanted: Option<wit::Resources>,
}

impl Call {
    pub fn new(hook: Hook, pod: wit::Pod, container: wit::Container) -> Self {
        Self { hook, pod, container, wanted: None }
    }
}

/// What a hook answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Adjustment(Box<wit::Adjustment>),
    Change(wit::ResourceChange),
    /// Its own words.
    Refused(String),
}

/// What hooks call meanwhile. The reply is the function's result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    CpuTopology,
    CpuSharedPool,
    CpuAllocate(String, String),
    CpuRelease(String),
    CpuAllocations,
    CpuPin(String, String),
    CpuRanOn(String),
    MemoryNodes,
    MemorySetMems(String, String),
    PodsList,
    PodsGet(String),
    ContainersList(Option<String>),
    ContainersGet(String),
    ContainersUpdate(Vec<wit::ContainerUpdate>),
    ContainersStats(String),
    EventsEmit(String, events::Severity, String, String),
    LogWrite(log::Level, String),
    ConfigAll,
    ConfigGet(String),
    KvGet(String),
    KvSet(String, Vec<u8>),
    KvDelete(String),
    KvKeys(String),
}
