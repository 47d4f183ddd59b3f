//! Lifecycle plugins of the node: the chain of those that take part in what happens to pods and
//! containers. Each is a WebAssembly component with a Store and a thread of its own, bounded in
//! time, memory and what it may call. Knows the model; reaches the node through [`Node`] alone.

mod adjust;
mod bindings;
mod circuit;
mod claims;
mod functions;
mod hooks;
mod instance;
mod kv;
mod load;
mod manifest;
mod miss;
mod node;
mod own;
mod plugin;
mod processors;
mod replies;
mod report;
mod supervise;
mod thread;
mod topology;
pub mod trial;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claims::{Claims, Coming};
use functions::Shared;
use instance::{Answering, Instance, asking};
use kv::Keys;
use load::Loader;
use plugin::Plugin;
use wasmtime::Engine;

use crate::config::{Config, FailPolicy};
use crate::error::{Error, Result};
use crate::image::ImageStore;
use crate::model::ids::SandboxId;
use crate::model::sandbox::Sandbox;

pub use adjust::{change_resources, fields};
pub use bindings::types::{Image as PulledImage, ResourceChange};
pub use bindings::{Shown, about};
pub use functions::View;
pub use hooks::{Adjusted, Ended, Step};
pub use manifest::{Manifest, SECTION};
pub use node::{Node, Placement, Told, Usage};
pub use own::{settings, settle};
pub use report::{Report, State};

/// A plugin and what its instances have in common.
struct Link {
    plugin: Arc<Plugin>,
    shared: Arc<Shared>,
    supervisor: tokio::task::JoinHandle<()>,
}

/// All plugins, in the order in which they are asked.
pub struct Chain {
    links: Vec<Link>,
    claims: Arc<Claims>,
    own: own::Own,
}

impl Chain {
    /// Begins every plugin; they are ready, or are known to be broken, some time later, and calls
    /// wait for that as long as they may.
    pub fn start(config: &Config, images: &Arc<ImageStore>, node: &Arc<dyn Node>) -> Result<Self> {
        let all = node.containers(None);
        let alive = all.iter().filter(|found| !found.state.is_over());
        let known: BTreeSet<String> = alive.map(|found| found.id.to_string()).collect();
        config.cpus.check(&topology::online())?;
        let file = config.state.join("cpus.json");
        let claims = Arc::new(Claims::open(file, |id| known.contains(id))?);
        let own = own::Own::new(config, node.clone(), claims.clone());
        let mut named: Vec<_> = config.plugins.iter().collect();
        named.sort_by_key(|(name, plugin)| (plugin.index, name.as_str()));
        if named.is_empty() {
            return Ok(Self { links: Vec::new(), claims, own });
        }
        let engines = load::engines()
            .map_err(|error| Error::Internal(format!("plugins cannot run here: {error:#}")))?;
        let folder = config.root.join("plugins");
        std::fs::create_dir_all(&folder)
            .map_err(Error::io(format!("making {}", folder.display())))?;
        let begin = |(name, plugin): (&String, &crate::config::PluginConfig)| {
            let shared = Arc::new(Shared {
                name: name.clone(),
                config: plugin.clone(),
                cpus: config.cpus.clone(),
                node: node.clone(),
                claims: claims.clone(),
                keys: keys(&folder, name)?,
                handle: tokio::runtime::Handle::current(),
                told: Mutex::default(),
            });
            Ok(Link::start(shared, &engines, images))
        };
        let links = named.into_iter().map(begin).collect::<Result<_>>()?;
        Ok(Self { links, claims, own })
    }

    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether anybody is to be asked of what happens in a pod.
    pub fn concerns(&self, sandbox: &Sandbox) -> bool {
        !self.is_empty() || sandbox.hooks.is_some()
    }

    /// A pod is gone, and with it what its own hooks had.
    pub fn forget_pod(&self, id: &SandboxId) {
        self.own.forget(id);
    }

    /// Waits until each plugin is ready or known to be broken: a new one has to be compiled first.
    pub async fn settled(&self, limit: Duration) {
        let all = futures::future::join_all(self.links.iter().map(|link| link.plugin.settled()));
        // Whoever takes longer is waited for by the requests, as long as those may.
        let _ = tokio::time::timeout(limit, all).await;
    }

    pub fn report(&self) -> Vec<Report> {
        self.links.iter().map(|link| link.plugin.report()).collect()
    }

    /// For a daemon that ends in order.
    pub async fn end(&self) {
        for link in &self.links {
            link.supervisor.abort();
        }
        futures::future::join_all(self.links.iter().map(|link| link.plugin.end())).await;
    }

    /// The plugins that see a pod and may want a hook.
    fn of<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        wants: bindings::types::Hooks,
    ) -> impl Iterator<Item = &'a Link> {
        let namespace = &sandbox.config.name.namespace;
        let sees = move |link: &&Link| link.shared.config.sees(namespace);
        self.links
            .iter()
            .filter(sees)
            .filter(move |link| !link.plugin.is_deaf(wants, Some(namespace)))
    }

    fn expect(&self, sandbox: &Sandbox, id: &str) {
        let namespace = sandbox.config.name.namespace.clone();
        self.claims.expect(
            id,
            Some(Coming { realm: sandbox.realm, namespace, sandbox: sandbox.id.clone() }),
        );
    }
}

impl Link {
    fn start(shared: Arc<Shared>, engines: &[Engine; 2], images: &Arc<ImageStore>) -> Self {
        let plugin = Plugin::new(shared.name.clone(), shared.config.clone());
        let loader = Loader::new(shared.config.clone(), engines.clone(), shared.clone());
        let supervisor = tokio::spawn(plugin.clone().supervise(loader, images.clone()));
        Self { plugin, shared, supervisor }
    }

    /// Whether things go on without it.
    fn is_optional(&self) -> bool {
        self.shared.config.fail == FailPolicy::Open
    }

    /// What it wants cannot be: the request's error, or nothing, as its fail policy says.
    fn pass_over(&self, error: Error) -> Result<()> {
        match self.shared.config.fail {
            FailPolicy::Closed => Err(error),
            FailPolicy::Open => {
                tracing::warn!(%error, "a plugin is passed over");
                Ok(())
            }
        }
    }

    /// As [`Plugin::ask`], of what happens in a pod.
    async fn ask<T: Send + 'static>(
        &self,
        sandbox: &Sandbox,
        (hook, wants): (&'static str, bindings::types::Hooks),
        call: impl for<'a> FnOnce(&'a mut Instance) -> Answering<'a, Result<T, String>> + Send + 'static,
    ) -> Result<Option<(T, Arc<plugin::Seat>)>> {
        let (namespace, realm) = (Some(sandbox.config.name.namespace.as_str()), sandbox.realm);
        let call = asking(move |instance| {
            instance.store.data_mut().view.realm = Some(realm);
            call(instance)
        });
        self.plugin.ask((hook, wants, namespace), call).await
    }

    fn view(&self, seat: &plugin::Seat) -> View {
        View::new(self.shared.clone(), seat.grants.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A plugin's state. Its name becomes a file's.
fn keys(folder: &Path, name: &str) -> Result<Keys> {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !is_plain || name.starts_with('.') || name.is_empty() || name.len() > 63 {
        return Err(Error::Invalid(format!(
            "configuration: plugins.{name:?}: a plugin's name has at most 63 letters, digits, -, _ \
             and dots, and begins with none"
        )));
    }
    let keys = Keys::new(folder.join(format!("{name}.redb")));
    // Whoever cannot have it is told at the daemon's start.
    keys.open()?;
    Ok(keys)
}
