//! What plugins call: pods, containers, events, log, settings and state. Each sees only what its
//! namespaces let it see.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::bindings::types as wit;
use super::bindings::{self, config, containers, events, kv, log, pods};
use super::claims::Claims;
use super::kv::Keys;
use super::load::shown;
use super::lock;
use super::manifest::Grants;
use super::node::{Node, Told};
use crate::config::{CpusConfig, PluginConfig};
use crate::error::{Error, Result, cut};
use crate::model::container::Container;
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::sandbox::{Realm, Sandbox};

/// Bytes of one log line.
const LONGEST_LINE: usize = 4 << 10;
const LONGEST_REASON: usize = 128;
const LONGEST_MESSAGE: usize = 1024;

/// Updates of containers in one wish.
const MOST_UPDATES: usize = 10_000;

/// Events that a plugin may tell in [`MINUTE`].
const MOST_EVENTS: u32 = 100;
const MINUTE: Duration = Duration::from_secs(60);

/// What all instances of a plugin have in common.
pub struct Shared {
    pub name: String,
    pub config: PluginConfig,
    pub cpus: CpusConfig,
    pub node: Arc<dyn Node>,
    pub claims: Arc<Claims>,
    pub keys: Keys,
    /// The daemon's runtime, in which what the node does is done.
    pub handle: tokio::runtime::Handle,
    pub told: Mutex<Option<(Instant, u32)>>,
}

/// The node as one instance sees it.
#[derive(Clone)]
pub struct View {
    pub shared: Arc<Shared>,
    grants: Grants,
    /// The one pod that it reaches; `None`: those of its namespaces.
    pub only: Option<SandboxId>,
    /// Of the pod that it is being asked about.
    pub realm: Option<Realm>,
}

/// What a host function gives its guest.
pub type Answer<T> = wasmtime::Result<Result<T, String>>;

impl View {
    pub fn new(shared: Arc<Shared>, grants: Grants) -> Self {
        Self { shared, grants, only: None, realm: None }
    }

    /// For a pod's own hooks.
    pub fn of_pod(shared: Arc<Shared>, grants: Grants, pod: &Sandbox) -> Self {
        Self { shared, grants, only: Some(pod.id.clone()), realm: Some(pod.realm) }
    }

    /// Whether it reaches what is of a pod.
    pub fn reaches(&self, pod: &SandboxId, namespace: &str) -> bool {
        match &self.only {
            Some(only) => only == pod,
            None => self.shared.config.sees(namespace) && self.grants.sees(namespace),
        }
    }

    pub fn sees(&self, sandbox: &Sandbox) -> bool {
        self.reaches(&sandbox.id, &sandbox.config.name.namespace)
    }

    pub fn pods(&self) -> Vec<wit::Pod> {
        let all = self.shared.node.sandboxes();
        all.iter().filter(|found| self.sees(found)).map(|found| bindings::pod(found)).collect()
    }

    pub fn containers(&self, pod: Option<&SandboxId>) -> Vec<wit::Container> {
        let pods = self.shared.node.sandboxes();
        let is_seen = |container: &Arc<Container>| {
            pods.iter().any(|pod| pod.id == container.sandbox && self.sees(pod))
        };
        let all = self.shared.node.containers(pod);
        all.iter().filter(|c| is_seen(c)).map(|c| shown(&self.shared, c)).collect()
    }

    /// A container that the plugin may see, by its whole id.
    pub fn container(&self, id: &str) -> Result<(Arc<Sandbox>, Arc<Container>)> {
        let none = || Error::not_found("container", id);
        let found = self.shared.node.containers(None);
        let found = found.into_iter().find(|found| found.id.as_str() == id).ok_or_else(none)?;
        let pods = self.shared.node.sandboxes();
        let pod = pods.into_iter().find(|pod| pod.id == found.sandbox && self.sees(pod));
        Ok((pod.ok_or_else(none)?, found))
    }

    /// Runs `work` in the daemon's runtime.
    pub async fn node<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let done = self.shared.handle.spawn(work).await;
        done.unwrap_or_else(|_| Err(Error::Internal("a plugin's wish broke off".to_owned())))
    }

    /// One change after the other, up to the first failure that counts.
    pub async fn apply(&self, updates: Vec<wit::ContainerUpdate>) -> Result<()> {
        if updates.len() > MOST_UPDATES {
            return Err(Error::Exhausted(format!(
                "{} updates at once: at most {MOST_UPDATES} are taken",
                updates.len()
            )));
        }
        for update in updates {
            // Whoever has a deadline comes to it.
            tokio::task::yield_now().await;
            if let Err(error) = self.update(&update).await {
                if !update.ignore_failure {
                    return Err(error);
                }
                tracing::warn!(plugin = self.shared.name, %error, "an update failed");
            }
        }
        Ok(())
    }

    async fn update(&self, update: &wit::ContainerUpdate) -> Result<()> {
        let (_, container) = self.container(&update.container_id)?;
        let fields = super::adjust::fields(&update.change);
        if let Some(field) = fields.iter().find(|field| !self.grants.field(field)) {
            return Err(Error::Denied(format!(
                "{field} is none of the fields that it asked for and was granted"
            )));
        }
        super::adjust::check(&update.change, &container.resources).map_err(Error::Invalid)?;
        let owners = &container.config.adjusted.owners;
        let other = fields.iter().find_map(|field| {
            owners.get(*field).filter(|owner| **owner != self.shared.name).map(|o| (field, o))
        });
        if let Some((field, owner)) = other {
            return Err(Error::Precondition(format!(
                "{field} of container {} was set by plugin {owner}",
                container.config.name.name
            )));
        }
        let (shared, change) = (self.shared.clone(), update.change.clone());
        let id = container.id.clone();
        self.node(async move { shared.node.update(&shared.name, &id, &change).await }).await
    }
}

/// For places that hold lines.
fn one_line(text: &str) -> String {
    text.trim_end().replace(char::is_control, " ")
}

/// A guest's result: what failed is its to hear.
pub fn said<T>(result: Result<T>) -> Answer<T> {
    Ok(result.map_err(|error| error.to_string()))
}

impl crate::interface::Holder for View {}

impl bindings::types::Host for View {}

impl pods::Host for View {
    async fn list(&mut self) -> wasmtime::Result<Vec<wit::Pod>> {
        Ok(self.pods())
    }

    async fn get(&mut self, id: String) -> wasmtime::Result<Option<wit::Pod>> {
        let all = self.shared.node.sandboxes();
        let found = all.iter().find(|pod| pod.id.as_str() == id && self.sees(pod));
        Ok(found.map(|found| bindings::pod(found)))
    }
}

impl containers::Host for View {
    async fn list(&mut self, pod: Option<String>) -> wasmtime::Result<Vec<wit::Container>> {
        let Some(pod) = pod else { return Ok(self.containers(None)) };
        Ok(SandboxId::parse(&pod).map_or(Vec::new(), |id| self.containers(Some(&id))))
    }

    async fn get(&mut self, id: String) -> wasmtime::Result<Option<wit::Container>> {
        Ok(self.container(&id).ok().map(|(_, found)| shown(&self.shared, &found)))
    }

    async fn update(&mut self, updates: Vec<wit::ContainerUpdate>) -> Answer<()> {
        said(self.apply(updates).await)
    }

    async fn stats(&mut self, id: String) -> Answer<containers::Usage> {
        let asked = self.running(&id);
        let usage = match asked {
            Ok(id) => {
                let shared = self.shared.clone();
                self.node(async move { shared.node.usage(&id).await }).await
            }
            Err(error) => Err(error),
        };
        said(usage.map(|usage| containers::Usage {
            cpu_nanoseconds: usage.cpu_nanos,
            memory_bytes: usage.memory_bytes,
            writable_bytes: usage.writable_bytes,
            threads: usage.threads,
        }))
    }
}

impl View {
    /// The id of a running container that the plugin may see.
    pub fn running(&self, id: &str) -> Result<ContainerId> {
        use crate::model::container::ContainerState;
        let (_, found) = self.container(id)?;
        match &found.state {
            ContainerState::Running { .. } => Ok(found.id.clone()),
            state => Err(Error::Precondition(format!("container {id} is {state}, not running"))),
        }
    }

    /// Counts an event; the error says that there were too many.
    fn count_event(&self) -> Result<()> {
        let mut told = lock(&self.shared.told);
        let now = Instant::now();
        let (since, count) =
            told.filter(|(since, _)| now.duration_since(*since) < MINUTE).unwrap_or((now, 0));
        if count >= MOST_EVENTS {
            return Err(Error::Exhausted(format!("more than {MOST_EVENTS} events in a minute")));
        }
        *told = Some((since, count + 1));
        Ok(())
    }

    fn emit_event(&self, id: &str, told: Told) -> Result<()> {
        let is_word = told.reason.chars().all(|c| c.is_ascii_alphanumeric());
        if told.reason.is_empty() || !is_word || told.reason.len() > LONGEST_REASON {
            return Err(Error::Invalid(format!(
                "reason {:?} is not one word of at most {LONGEST_REASON} letters and digits",
                cut(told.reason, LONGEST_REASON)
            )));
        }
        let pods = self.shared.node.sandboxes();
        if !pods.iter().any(|pod| pod.id.as_str() == id && self.sees(pod)) {
            self.container(id)?;
        }
        self.count_event()?;
        let message = cut(one_line(&told.message), LONGEST_MESSAGE);
        self.shared.node.tell(id, Told { message, ..told })
    }
}

impl events::Host for View {
    async fn emit(
        &mut self,
        id: String,
        severity: events::Severity,
        reason: String,
        message: String,
    ) -> Answer<()> {
        let is_warning = severity == events::Severity::Warning;
        let plugin = self.shared.name.clone();
        said(self.emit_event(&id, Told { plugin, is_warning, reason, message }))
    }
}

impl log::Host for View {
    async fn write(&mut self, level: log::Level, text: String) -> wasmtime::Result<()> {
        let line = cut(one_line(&text), LONGEST_LINE);
        let plugin = &self.shared.name;
        match level {
            log::Level::Debug => tracing::debug!(plugin, "{line}"),
            log::Level::Info => tracing::info!(plugin, "{line}"),
            log::Level::Warn => tracing::warn!(plugin, "{line}"),
            log::Level::Error => tracing::error!(plugin, "{line}"),
        }
        Ok(())
    }
}

impl config::Host for View {
    async fn all(&mut self) -> wasmtime::Result<String> {
        Ok(serde_json::to_string(&self.shared.config.settings).unwrap_or_default())
    }

    async fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.shared.config.settings.get(&key).map(|value| match value {
            toml::Value::String(text) => text.clone(),
            other => serde_json::to_string(other).unwrap_or_default(),
        }))
    }
}

impl kv::Host for View {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        said(self.shared.keys.open().and_then(|keys| keys.get(&key)))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Answer<()> {
        said(self.shared.keys.open().and_then(|keys| keys.set(&key, &value)))
    }

    async fn delete(&mut self, key: String) -> Answer<()> {
        said(self.shared.keys.open().and_then(|keys| keys.delete(&key)))
    }

    async fn keys(&mut self, prefix: String) -> Answer<Vec<String>> {
        said(self.shared.keys.open().and_then(|keys| keys.keys(&prefix)))
    }
}
