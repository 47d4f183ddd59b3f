//! The node of a trial: a fixture's pods and containers in memory, and what a plugin did to them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use super::fixture::{Machine, Things};
use super::own::Hooks;
use super::pods::Resources;
use crate::error::{Error, Result};
use crate::interface::{Answer, Call};
use crate::lifecycle::adjust::{change_resources, fields};
use crate::lifecycle::bindings::types as wit;
use crate::lifecycle::bindings::{cpu, memory};
use crate::lifecycle::{Node, Placement, Told, Usage, View, lock, topology};
use crate::model::container::Container;
use crate::model::cpuset::CpuSet;
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::sandbox::Sandbox;

/// An event that the plugin told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// "pod NAMESPACE/NAME" or "container NAME of pod NAMESPACE/NAME".
    pub subject: String,
    /// Normal or Warning.
    pub severity: &'static str,
    pub reason: String,
    pub message: String,
}

/// A container's resources, changed by the plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// "container NAME of pod NAMESPACE/NAME".
    pub subject: String,
    pub before: Resources,
    pub after: Resources,
}

#[derive(Default)]
struct State {
    pods: Vec<Arc<Sandbox>>,
    containers: Vec<Arc<Container>>,
    events: Vec<Event>,
    updates: Vec<Update>,
    fault: Option<String>,
}

pub struct Fake {
    machine: Option<Machine>,
    folder: PathBuf,
    hooks: Option<Hooks>,
    state: Mutex<State>,
}

impl Fake {
    /// With what is there besides the event's own pod and container. Pods' files are in `folder`,
    /// `hooks` are the event's pod's own.
    pub fn new(
        things: &Things,
        machine: Option<Machine>,
        (folder, hooks): (&Path, Option<Hooks>),
    ) -> Self {
        let state = State {
            pods: things.pods.iter().cloned().map(Arc::new).collect(),
            containers: things.containers.iter().cloned().map(Arc::new).collect(),
            ..State::default()
        };
        Self { machine, folder: folder.to_path_buf(), hooks, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub fn add_pod(&self, pod: &Sandbox) {
        self.lock().pods.push(Arc::new(pod.clone()));
    }

    pub fn add_container(&self, container: &Container) {
        self.lock().containers.push(Arc::new(container.clone()));
    }

    /// Why the pod's own hooks gave no answer.
    pub fn fault(&self) -> Option<String> {
        self.lock().fault.take()
    }

    /// What the plugin told of and changed.
    pub fn done(&self) -> (Vec<Event>, Vec<Update>) {
        let mut state = self.lock();
        (std::mem::take(&mut state.events), std::mem::take(&mut state.updates))
    }
}

impl State {
    fn subject(&self, id: &str) -> Result<String> {
        if let Some(pod) = self.pods.iter().find(|pod| pod.id.as_str() == id) {
            return Ok(pod_name(pod));
        }
        let container = self.containers.iter().find(|found| found.id.as_str() == id);
        let container = container.ok_or_else(|| Error::not_found("container", id))?;
        let pod = self.pods.iter().find(|pod| pod.id == container.sandbox);
        let pod = pod.ok_or_else(|| Error::not_found("pod", container.sandbox.as_str()))?;
        Ok(container_name(container, pod))
    }
}

pub fn pod_name(pod: &Sandbox) -> String {
    format!("pod {}/{}", pod.config.name.namespace, pod.config.name.name)
}

pub fn container_name(container: &Container, pod: &Sandbox) -> String {
    format!("container {} of {}", container.config.name.name, pod_name(pod))
}

#[async_trait]
impl Node for Fake {
    fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.lock().pods.clone()
    }

    fn containers(&self, sandbox: Option<&SandboxId>) -> Vec<Arc<Container>> {
        let state = self.lock();
        let is_meant = |found: &&Arc<Container>| sandbox.is_none_or(|id| found.sandbox == *id);
        state.containers.iter().filter(is_meant).cloned().collect()
    }

    fn command(&self, container: &Container) -> (Vec<String>, Vec<String>) {
        command(container)
    }

    async fn update(
        &self,
        plugin: &str,
        id: &ContainerId,
        change: &wit::ResourceChange,
    ) -> Result<()> {
        let mut state = self.lock();
        let subject = state.subject(id.as_str())?;
        let found = state.containers.iter_mut().find(|found| found.id == *id);
        let found = found.ok_or_else(|| Error::not_found("container", id.as_str()))?;
        let mut changed = (**found).clone();
        let before = Resources::of(&changed.resources);
        change_resources(&mut changed.resources, change);
        let owned = fields(change).into_iter().map(|f| (f.to_owned(), plugin.to_owned()));
        changed.config.adjusted.owners.extend(owned);
        let after = Resources::of(&changed.resources);
        *found = Arc::new(changed);
        state.updates.push(Update { subject, before, after });
        Ok(())
    }

    async fn usage(&self, _: &ContainerId) -> Result<Usage> {
        Ok(Usage::default())
    }

    /// Wherever it may be.
    async fn placement(&self, id: &ContainerId) -> Result<Placement> {
        let containers = self.containers(None);
        let found = containers.iter().find(|found| found.id == *id);
        let found = found.ok_or_else(|| Error::not_found("container", id.as_str()))?;
        let allowed = match found.resources.cpuset_cpus.as_str() {
            "" => self.online(),
            cpus => CpuSet::parse(cpus).map_err(Error::Invalid)?,
        };
        Ok(Placement { seen: allowed.clone(), allowed })
    }

    fn folder(&self, _: &SandboxId) -> PathBuf {
        self.folder.clone()
    }

    async fn call_hooks(
        &self,
        _: &SandboxId,
        call: &Call,
        (view, within): (&mut View, Duration),
    ) -> Result<Result<Answer, String>> {
        let Some(hooks) = &self.hooks else { return Ok(Err("is not there".to_owned())) };
        let answer = hooks.call(call.clone(), view.clone(), within).await;
        if let Err(why) = &answer {
            self.lock().fault = Some(format!("{} of the pod's own hooks {why}", call.hook.name()));
        }
        Ok(answer)
    }

    fn tell(&self, id: &str, told: Told) -> Result<()> {
        let mut state = self.lock();
        let subject = state.subject(id)?;
        let severity = if told.is_warning { "Warning" } else { "Normal" };
        let Told { reason, message, .. } = told;
        state.events.push(Event { subject, severity, reason, message });
        Ok(())
    }

    fn online(&self) -> CpuSet {
        match &self.machine {
            Some(machine) => machine.online(),
            None => topology::online(),
        }
    }

    fn layout(&self) -> cpu::Layout {
        self.machine.map_or_else(topology::layout, |machine| machine.layout())
    }

    fn memory_nodes(&self) -> Vec<memory::Node> {
        self.machine.map_or_else(topology::nodes, |machine| machine.memory())
    }
}

/// A container's program and its environment, as its fixture has them.
pub fn command(container: &Container) -> (Vec<String>, Vec<String>) {
    let config = &container.config;
    let env = config.env.iter().map(|(name, value)| format!("{name}={value}"));
    (config.command.iter().chain(&config.args).cloned().collect(), env.collect())
}
