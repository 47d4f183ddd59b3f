//! Which sandboxes and containers this shim holds, and what is done with them by name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use tokio::sync::watch;

use super::container::{Container, on_thread};
use super::hooks::Hooks;
use super::host::Host;
use super::sandbox::{Sandbox, SandboxSpec};
use super::spec::{ContainerSpec, Stop, Update};
use super::{cpu, life, lock};
use crate::error::{Error, Result};
use crate::model::container::Exit;
use crate::model::ids::{ContainerId, SandboxId};

pub struct Registry {
    pub host: Arc<Host>,
    held: Mutex<Held>,
    /// How many sandboxes there are.
    sandboxes: watch::Sender<usize>,
}

#[derive(Default)]
struct Held {
    sandboxes: HashMap<SandboxId, Arc<Sandbox>>,
    containers: HashMap<ContainerId, Arc<Container>>,
}

impl Registry {
    pub fn new(host: Arc<Host>) -> Self {
        Self { host, held: Mutex::default(), sandboxes: watch::Sender::new(0) }
    }

    /// Follows how many sandboxes there are.
    pub fn sandbox_count(&self) -> watch::Receiver<usize> {
        self.sandboxes.subscribe()
    }

    pub fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        lock(&self.held).sandboxes.values().cloned().collect()
    }

    pub fn containers(&self) -> Vec<Arc<Container>> {
        lock(&self.held).containers.values().cloned().collect()
    }

    pub fn container(&self, id: &ContainerId) -> Result<Arc<Container>> {
        let held = lock(&self.held);
        held.containers.get(id).cloned().ok_or_else(|| Error::not_found("container", id.as_str()))
    }

    pub fn sandbox(&self, id: &SandboxId) -> Result<Arc<Sandbox>> {
        let held = lock(&self.held);
        held.sandboxes.get(id).cloned().ok_or_else(|| Error::not_found("sandbox", id.as_str()))
    }

    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Arc<Sandbox>> {
        let id = spec.id.clone();
        let taken = || Error::Precondition(format!("sandbox {id} is there already"));
        if lock(&self.held).sandboxes.contains_key(&id) {
            return Err(taken());
        }
        let hooks = match spec.hooks.clone() {
            None => None,
            Some(asked) => {
                let host = self.host.clone();
                Some(on_thread("w-hooks", move || Hooks::load(&host, asked)).await??)
            }
        };
        let sandbox = Sandbox::start(&self.host.engines.mapped, spec, hooks).await?;
        let (is_new, count) = {
            let mut held = lock(&self.held);
            let is_new = !held.sandboxes.contains_key(&id);
            if is_new {
                held.sandboxes.insert(id.clone(), sandbox.clone());
            }
            (is_new, held.sandboxes.len())
        };
        if !is_new {
            sandbox.end().await;
            return Err(taken());
        }
        self.sandboxes.send_replace(count);
        Ok(sandbox)
    }

    /// Replaces the sandbox's limits, for running threads too; on an error nothing has changed.
    pub fn update_sandbox(&self, id: &SandboxId, update: &Update) -> Result<()> {
        let sandbox = self.sandbox(id)?;
        let containers = lock(&self.held).of(id);
        sandbox.cpus.change_pods(update.processor.cpus.clone(), |cpus, follows| {
            let following = containers.iter().filter(|container| follows(container.id()));
            let threads = following.flat_map(|container| container.control.threads.ids());
            let threads: Vec<i32> = sandbox.threads.ids().into_iter().chain(threads).collect();
            cpu::pin(&threads, cpus.unwrap_or(&cpu::allowed()))
        })?;
        sandbox.memory.set_limit(update.memory);
        Ok(())
    }

    /// Ends every container of the sandbox, then its thread and network namespace.
    pub async fn stop_sandbox(&self, id: &SandboxId) {
        let (sandbox, containers) = {
            let held = lock(&self.held);
            let Some(sandbox) = held.sandboxes.get(id).cloned() else { return };
            // Under the lock: a container is either seen here or refused when it comes.
            sandbox.close();
            (sandbox, held.of(id))
        };
        join_all(containers.iter().map(|container| container.stop(Stop::KILL))).await;
        sandbox.end().await;
    }

    pub async fn remove_sandbox(&self, id: &SandboxId) {
        self.stop_sandbox(id).await;
        let (containers, count) = {
            let mut held = lock(&self.held);
            let containers = held.of(id);
            for container in &containers {
                held.containers.remove(container.id());
            }
            held.sandboxes.remove(id);
            (containers, held.sandboxes.len())
        };
        self.host.exits.acknowledge(containers.iter().map(|container| container.id().as_str()));
        self.sandboxes.send_replace(count);
    }

    /// Builds a container; on an error nothing of it is left.
    pub async fn create_container(&self, spec: ContainerSpec) -> Result<()> {
        let id = spec.id.clone();
        let (container, orders) = {
            let mut held = lock(&self.held);
            let sandbox = held
                .sandboxes
                .get(&spec.sandbox)
                .cloned()
                .ok_or_else(|| Error::not_found("sandbox", spec.sandbox.as_str()))?;
            if sandbox.is_closed() {
                return Err(Error::Precondition(format!("sandbox {} is stopped", spec.sandbox)));
            }
            sandbox.allows(spec.limits.processor.cpus.as_ref())?;
            if held.containers.contains_key(&id) {
                return Err(Error::Precondition(format!("container {id} is there already")));
            }
            let (container, orders) = Container::new(self.host.clone(), sandbox, spec);
            held.containers.insert(id.clone(), container.clone());
            (container, orders)
        };
        let built = life::begin(&container, orders).await;
        if built.is_err() {
            lock(&self.held).containers.remove(&id);
            container.sandbox.cpus.forget(&id);
        }
        built
    }

    /// `None` when there is no such container.
    pub async fn stop_container(&self, id: &ContainerId, stop: Stop) -> Option<(Exit, u32)> {
        let container = self.container(id).ok()?;
        let exit = container.stop(stop).await;
        Some((exit, container.stuck.count()))
    }

    pub async fn remove_container(&self, id: &ContainerId) {
        let Ok(container) = self.container(id) else { return };
        container.stop(Stop::KILL).await;
        if lock(&self.held).containers.remove(id).is_some() {
            container.sandbox.threads.inherit(&container.control.threads);
            container.sandbox.cpus.forget(id);
        }
        self.host.exits.acknowledge(std::iter::once(id.as_str()));
    }
}

impl Held {
    fn of(&self, sandbox: &SandboxId) -> Vec<Arc<Container>> {
        let all = self.containers.values();
        all.filter(|container| container.spec.sandbox == *sandbox).cloned().collect()
    }
}
