//! Lifecycle plugins and the core: what they reach of it, and who hears of ends.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast::error::RecvError;

use super::change::Change;
use super::launch::{self, Launch};
use super::news::{Happening, News, Subject, Word};
use super::records::now;
use super::{Filter, Runtime, etc_layer};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::interface::{Answer, Call};
use crate::lifecycle::{
    Chain, Ended, Node, Placement, PulledImage, ResourceChange, Step, Told, Usage, View,
};
use crate::model::container::{Container, ContainerState};
use crate::model::cpuset::CpuSet;
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::sandbox::Sandbox;
use crate::proto::shim as wire;

/// How long a plugin's wish may wait for a container that a request is changing.
const BUSY: Duration = Duration::from_millis(500);

/// How long after its deadline a shim is waited for.
const UNANSWERED: Duration = Duration::from_millis(100);

/// How long the daemon's start waits for its plugins, which are compiled first where they are new.
/// Who is not ready by then is waited for by the requests that it concerns.
const SETTLING: Duration = Duration::from_secs(10);

/// The core, as plugins reach it: they end before it does.
struct OfRuntime(Weak<Runtime>);

impl Runtime {
    /// Begins the plugins, and tells them of ends from now on.
    pub(super) async fn begin_plugins(self: &Arc<Self>) -> Result<()> {
        let node: Arc<dyn Node> = Arc::new(OfRuntime(Arc::downgrade(self)));
        let chain = Chain::start(&self.config, &self.images, &node)?;
        tokio::spawn(tell_ends(Arc::downgrade(self), self.news()));
        chain.settled(SETTLING).await;
        let _ = self.chain.set(chain);
        Ok(())
    }

    pub(super) fn chain(&self) -> Result<&Chain> {
        self.chain
            .get()
            .ok_or_else(|| Error::Unavailable("the daemon is still starting".to_owned()))
    }

    /// The node's plugins and how they are.
    pub fn plugins(&self) -> Vec<crate::lifecycle::Report> {
        self.chain.get().map(Chain::report).unwrap_or_default()
    }

    /// Tells plugins of an image that came. Nobody waits for what they say.
    pub fn image_pulled(self: &Arc<Self>, image: &Image) {
        if self.chain.get().is_none_or(Chain::is_empty) {
            return;
        }
        let told = PulledImage {
            id: image.id.clone(),
            tags: image.tags.clone(),
            digests: image.digests.clone(),
            size: image.size,
        };
        let runtime = self.clone();
        tokio::spawn(async move {
            if let Some(chain) = runtime.chain.get() {
                chain.image_pulled(told).await;
            }
        });
    }

    /// A step whose failure nothing more comes of.
    pub(super) async fn tell_plugins(&self, step: Step, sandbox: &Sandbox, of: Option<&Container>) {
        let Some(chain) = self.chain.get() else { return };
        let told = match of {
            Some(container) => chain.container(step, sandbox, container).await,
            None => chain.pod(step, sandbox).await,
        };
        if let Err(error) = told {
            tracing::warn!(sandbox = %sandbox.id, %error, "a plugin failed");
        }
    }

    /// Before a container that runs is asked to end.
    pub(super) async fn tell_of_stop(&self, container: &Container) {
        let runs = matches!(container.state, ContainerState::Running { .. });
        if let Some(sandbox) = self.records.sandbox(&container.sandbox).filter(|_| runs) {
            self.tell_plugins(Step::StopContainer, &sandbox, Some(container)).await;
        }
    }

    /// After it has ended by being asked to.
    pub(super) async fn tell_of_stopped(&self, id: &ContainerId) {
        let Some(chain) = self.chain.get() else { return };
        let Some(container) = self.records.container(id) else { return };
        let sandbox = self.records.sandbox(&container.sandbox);
        if let Some(sandbox) = sandbox.filter(|sandbox| chain.concerns(sandbox)) {
            chain.ended(Ended::Stopped, &sandbox, &container).await;
        }
    }

    async fn change_for(
        &self,
        plugin: &str,
        id: &ContainerId,
        change: &ResourceChange,
    ) -> Result<()> {
        let turn = self.records.turn(id.as_str());
        let _turn = tokio::time::timeout(BUSY, turn.operation.write()).await.map_err(|_| {
            Error::Precondition(format!(
                "container {id} is being changed: answer that request's hook instead"
            ))
        })?;
        let gone = || Error::not_found("container", id.as_str());
        let container = self.records.container(id).ok_or_else(gone)?;
        let mut resources = container.resources.clone();
        crate::lifecycle::change_resources(&mut resources, change);
        let resources = launch::applied(&resources)?;
        self.apply_limits(&container, &resources).await?;
        let owned = crate::lifecycle::fields(change).into_iter();
        let owned = owned.map(|field| (field.to_owned(), plugin.to_owned())).collect();
        let changes =
            vec![Change::SetResources(id.clone(), resources), Change::SetOwners(id.clone(), owned)];
        self.records.change(changes).await
    }
}

/// Tells plugins of containers that have ended, whatever ended them.
async fn tell_ends(runtime: Weak<Runtime>, mut news: tokio::sync::broadcast::Receiver<News>) {
    loop {
        let (happening, subject) = match news.recv().await {
            Ok(News { happening, subject, .. }) => (happening, subject),
            // Behind by so many that some are lost: their CPUs are free when they are removed.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let Some(runtime) = runtime.upgrade() else { return };
        let (Subject::Container(container), Some(chain)) = (subject, runtime.chain.get()) else {
            continue;
        };
        match happening {
            // Each by itself: who is slow to hear of one keeps nobody from hearing of others.
            Happening::Stopped => drop(tokio::spawn(tell_end(runtime.clone(), container))),
            Happening::Deleted => chain.deleted(&container.id),
            _ => {}
        }
    }
}

async fn tell_end(runtime: Arc<Runtime>, container: Arc<Container>) {
    let Some(chain) = runtime.chain.get() else { return };
    if let Some(sandbox) = runtime.records.sandbox(&container.sandbox) {
        chain.ended(Ended::Exited, &sandbox, &container).await;
    }
    chain.forget(&container.id);
    if runtime.records.container(&container.id).is_none() {
        // It went while they were told.
        chain.deleted(&container.id);
    }
}

impl OfRuntime {
    fn get(&self) -> Result<Arc<Runtime>> {
        self.0.upgrade().ok_or_else(|| Error::Unavailable("the daemon is ending".to_owned()))
    }
}

#[async_trait]
impl Node for OfRuntime {
    fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.get().map(|runtime| runtime.sandboxes(&Filter::default())).unwrap_or_default()
    }

    fn containers(&self, sandbox: Option<&SandboxId>) -> Vec<Arc<Container>> {
        let sandbox = sandbox.map(ToString::to_string).unwrap_or_default();
        let filter = Filter { sandbox, ..Filter::default() };
        self.get().map(|runtime| runtime.containers(&filter)).unwrap_or_default()
    }

    fn command(&self, container: &Container) -> (Vec<String>, Vec<String>) {
        let config = &container.config;
        let planned = || -> Result<Launch> {
            let runtime = self.get()?;
            let gone = || Error::not_found("image", container.image_id.as_str());
            let image = runtime.images.get(&container.image_id).ok_or_else(gone)?;
            let sandbox = runtime.records.sandbox(&container.sandbox);
            let sandbox =
                sandbox.ok_or_else(|| Error::not_found("sandbox", container.sandbox.as_str()))?;
            let (user, hostname) = (&*container.user, etc_layer::hostname(&sandbox.config)?);
            Launch::plan_as(user.clone(), config, &image, &hostname)
        };
        planned().map(|launch| (launch.argv, launch.env)).unwrap_or_else(|_| {
            let env = config.env.iter().map(|(name, value)| format!("{name}={value}"));
            (config.command.iter().chain(&config.args).cloned().collect(), env.collect())
        })
    }

    async fn update(&self, plugin: &str, id: &ContainerId, change: &ResourceChange) -> Result<()> {
        self.get()?.change_for(plugin, id, change).await
    }

    async fn usage(&self, id: &ContainerId) -> Result<Usage> {
        let filter = Filter { id: id.to_string(), ..Filter::default() };
        let found = self.get()?.container_usage(&filter).await?.into_iter().next();
        let found = found.ok_or_else(|| Error::not_found("container", id.as_str()))?;
        Ok(Usage {
            cpu_nanos: found.cpu_nanos,
            memory_bytes: found.memory,
            writable_bytes: found.writable.map_or(0, |size| size.bytes),
            threads: found.threads,
        })
    }

    async fn placement(&self, id: &ContainerId) -> Result<Placement> {
        let runtime = self.get()?;
        let gone = || Error::not_found("container", id.as_str());
        let container = runtime.records.container(id).ok_or_else(gone)?;
        let shim = runtime.shim_of(&container)?;
        let request = wire::ContainerRequest { id: id.to_string() };
        let placed = shim.wire().placement(request).await;
        let placed = placed.map_err(|status| super::client::failure("asking a shim", &status))?;
        let placed = placed.into_inner();
        let set = |text: &str| CpuSet::parse(text).unwrap_or_default();
        Ok(Placement { allowed: set(&placed.allowed), seen: set(&placed.seen) })
    }

    fn folder(&self, id: &SandboxId) -> PathBuf {
        self.get().map(|runtime| runtime.folders.sandbox(id)).unwrap_or_default()
    }

    async fn call_hooks(
        &self,
        id: &SandboxId,
        call: &Call,
        (view, limit): (&mut View, Duration),
    ) -> Result<Result<Answer, String>> {
        let runtime = self.get()?;
        // The shim ends it in time; one that does not answer is not waited for.
        let talk = runtime.talk_with_hooks(id, call, (view, limit));
        let talked = tokio::time::timeout(limit + UNANSWERED, talk).await;
        talked.unwrap_or_else(|_| Ok(Err("gave no answer in time".to_owned())))
    }

    fn tell(&self, id: &str, told: Told) -> Result<()> {
        let runtime = self.get()?;
        let subject = match runtime.sandbox(None, id) {
            Ok(sandbox) => Subject::Sandbox(sandbox),
            Err(_) => Subject::Container(runtime.container(None, id)?),
        };
        let word = Word {
            by: told.plugin,
            is_warning: told.is_warning,
            reason: told.reason,
            message: told.message,
        };
        runtime.records.tell(News {
            happening: Happening::Told(Arc::new(word)),
            subject,
            at: now(),
        });
        Ok(())
    }
}
