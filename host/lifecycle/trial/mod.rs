//! One hook of one plugin, or of a pod's own hooks, asked once and without a daemon: the chain
//! itself, with a single plugin and a node that is a fixture. For `wasmpod plugin run`. Nothing of
//! it stays on the machine.

mod containers;
mod fixture;
mod hook;
mod node;
mod own;
mod pods;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::bindings::Shown;
use super::claims::Claim;
use super::kv::Store;
use super::plugin::Plugin;
use super::{Adjusted, Chain, Node};
use crate::config::{Config, PluginConfig, PodHooksConfig};
use crate::error::{Error, Result};
use crate::image::ImageStore;
use crate::model::container as model;
use crate::model::cpuset::CpuSet;
use crate::model::resources::PodResources;

pub use containers::Container;
pub use fixture::Fixture;
use fixture::Things;
pub use hook::Hook;
pub use node::{Event, Update};
use node::{Fake, command, container_name, pod_name};
use own::Hooks;

/// What a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of the node.
    Plugin,
    /// A pod's own hooks.
    PodHooks,
}

/// What is tried.
pub struct Trial {
    pub kind: Kind,
    /// The plugin's.
    pub name: String,
    /// Its settings are the fixture's where it has none.
    pub config: PluginConfig,
    pub fixture: Fixture,
}

/// What was, and what would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change<T> {
    pub before: T,
    pub after: T,
}

/// What the plugin said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "verdict", content = "why")]
pub enum Verdict {
    Passed,
    /// Nothing was called.
    NotAsked(String),
    /// In its own words.
    Refused(String),
    /// It broke down, was late, or changed what it may not.
    Failed(String),
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub plugin: String,
    pub hook: &'static str,
    /// "container app of pod default/web".
    pub subject: String,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Where the hook may change it.
    pub container: Option<Change<Container>>,
    pub events: Vec<Event>,
    /// Of other containers, or unsolicited.
    pub updates: Vec<Update>,
    /// CPUs by container.
    pub allocations: Change<BTreeMap<String, String>>,
    pub kv: Change<BTreeMap<String, String>>,
}

/// A chain of one plugin, on a node that is the fixture.
struct Stage<'a> {
    fixture: &'a Fixture,
    things: Things,
    node: Arc<Fake>,
    chain: Chain,
}

type Changed = Option<Change<Container>>;

impl Trial {
    /// Begins the plugin, asks the hook and ends the plugin. The error says that it could not be
    /// asked at all. For a runtime of one thread: nothing of the plugin runs until this waits.
    pub async fn run(self) -> Result<Outcome> {
        let Self { kind, name, mut config, fixture } = self;
        let (hook_name, hook) = Hook::parse(&fixture.hook)?;
        let mut things = fixture.things(hook)?;
        if config.settings.is_empty() {
            config.settings = toml::Table::try_from(&fixture.settings).map_err(|error| {
                Error::Invalid(format!(
                    "settings: the configuration, which is TOML, cannot say this (a null, perhaps: \
                     leave it out): {error}"
                ))
            })?;
        }
        let folder = tempfile::tempdir().map_err(Error::io("making a folder for a while"))?;
        let root = folder.path().to_path_buf();
        let mut node_config = Config { state: root.clone(), root, ..Config::default() };
        node_config.exec.toolbox.clear();
        let images = Arc::new(ImageStore::open(&node_config).await?);
        let hooks = match kind {
            Kind::Plugin => {
                node_config.plugins = [(name.clone(), config)].into();
                None
            }
            Kind::PodHooks => {
                let PluginConfig { path, deadline_ms, functions, fields, settings, .. } = config;
                let granted =
                    PodHooksConfig { deadline_ms, functions, fields, ..PodHooksConfig::default() };
                let hooks = Hooks::load(&path, &granted, &images).await;
                let hooks = hooks.map_err(|why| unusable(&name, &why.to_string()))?;
                things.bring(&hooks.fields, &settings);
                node_config.pod_hooks = granted;
                Some(hooks)
            }
        };
        let node = Arc::new(Fake::new(&things, fixture.machine, (folder.path(), hooks)));
        let reached: Arc<dyn Node> = node.clone();
        let chain = Chain::start(&node_config, &images, &reached)?;
        let stage = Stage { fixture: &fixture, things, node, chain };
        stage.play(&name, (hook_name, hook)).await
    }
}

impl Stage<'_> {
    async fn play(self, name: &str, (hook_name, hook): (&'static str, Hook)) -> Result<Outcome> {
        let plugin = self.chain.links.first().map(|link| link.plugin.clone());
        let shared = match self.chain.links.first() {
            Some(link) => link.shared.clone(),
            None => self.chain.own.shared(&self.things.pod)?,
        };
        self.allocate(&shared.name)?;
        let keys = shared.keys.open()?;
        for (key, value) in &self.fixture.kv {
            keys.set(key, value.as_bytes())?;
        }
        let before = self.held();
        if let Some(plugin) = &plugin {
            // It has not begun yet: it does while this waits.
            plugin.settled().await.map_err(|why| unusable(name, &why))?;
        }
        if hook.has_pod() {
            self.node.add_pod(&self.things.pod);
        }
        if hook.has_container() {
            self.node.add_container(&self.things.container);
        }
        let (verdict, container) = match self.unasked(plugin.as_deref(), (hook_name, hook)) {
            Some(why) => (Verdict::NotAsked(why), None),
            None => match (self.ask(hook).await, self.node.fault()) {
                (Ok(_), Some(fault)) => (Verdict::Failed(fault), None),
                (Ok(changed), None) => (Verdict::Passed, changed),
                (Err(Error::Denied(words)), _) => (Verdict::Refused(words), None),
                (Err(error), _) => (Verdict::Failed(error.to_string()), None),
            },
        };
        self.chain.end().await;
        let after = self.held();
        let kv = Change { before: self.fixture.kv.clone(), after: state(&keys)? };
        let (events, updates) = self.node.done();
        Ok(Outcome {
            plugin: name.to_owned(),
            hook: hook_name,
            subject: self.subject(hook),
            verdict,
            container,
            events,
            updates,
            allocations: Change { before, after },
            kv,
        })
    }

    /// Gives containers the CPUs that the fixture says they have.
    fn allocate(&self, name: &str) -> Result<()> {
        let online = self.node.online();
        for (container, allocation) in &self.fixture.allocations {
            let about = |why: String| Error::Invalid(format!("allocations.{container}: {why}"));
            let found = self.containers().find(|found| {
                found.config.name.name == *container || found.id.as_str() == container
            });
            let found = found.ok_or_else(|| about("the fixture has no such container".into()))?;
            let cpus = CpuSet::parse(&allocation.cpus).map_err(about)?;
            let plugin = allocation.plugin.clone().unwrap_or_else(|| name.to_owned());
            let taken = self.chain.claims.take(found.id.as_str(), Claim { plugin, cpus }, &online);
            taken.map_err(|error| about(error.to_string()))?;
        }
        Ok(())
    }

    fn containers(&self) -> impl Iterator<Item = &model::Container> {
        self.things.containers.iter().chain([&self.things.container])
    }

    /// CPUs that are allocated, by the containers' names.
    fn held(&self) -> BTreeMap<String, String> {
        let named = |id: &str| {
            let found = self.containers().find(|found| found.id.as_str() == id);
            found.map_or(id.to_owned(), |found| found.config.name.name.clone())
        };
        let held = self.chain.claims.all().into_iter();
        held.map(|(id, claim)| (named(&id), claim.cpus.to_string())).collect()
    }

    /// Why the plugin would not be asked.
    fn unasked(&self, plugin: Option<&Plugin>, (name, hook): (&str, Hook)) -> Option<String> {
        let Some(plugin) = plugin else {
            let known = own::names();
            let why = format!("a pod's own hooks have no {name}, only {}", known.join(", "));
            return (!known.contains(&name)).then_some(why);
        };
        if hook == Hook::Life {
            return None;
        }
        let wanted = plugin.report().hooks;
        if !wanted.contains(&name) {
            let wanted = if wanted.is_empty() { "nothing".to_owned() } else { wanted.join(", ") };
            return Some(format!("it does not ask for {name}, only for {wanted}"));
        }
        let namespace = &self.things.pod.config.name.namespace;
        let is_seen = hook == Hook::ImagePulled || plugin.config.sees(namespace);
        (!is_seen).then(|| format!("it was not granted namespace {namespace}"))
    }

    async fn ask(&self, hook: Hook) -> Result<Changed> {
        let (chain, pod, container) = (&self.chain, &self.things.pod, &self.things.container);
        match hook {
            Hook::Life => {}
            Hook::Pod(step) => chain.pod(step, pod).await?,
            Hook::UpdatePod => {
                let amounts =
                    |of: &Option<pods::Resources>| of.as_ref().map(pods::Resources::amounts);
                let wanted = PodResources {
                    overhead: amounts(&self.fixture.overhead),
                    resources: amounts(&self.fixture.wanted),
                };
                let before = PodResources {
                    overhead: pod.config.overhead.clone(),
                    resources: pod.config.resources.clone(),
                };
                let PodResources { overhead, resources } = before.updated(&wanted);
                chain.update_pod(pod, overhead.as_ref(), resources.as_ref()).await?;
            }
            Hook::Container(step) => chain.container(step, pod, container).await?,
            Hook::Validate => {
                let (argv, env) = command(container);
                chain.validate(pod, Shown { container, argv: &argv, env: &env }).await?;
            }
            Hook::Adjust => return self.adjust().await.map(Some),
            Hook::Update => {
                let wanted = self.fixture.wanted.clone().unwrap_or_default().amounts();
                let wanted = container.resources.updated(&wanted);
                let given = chain.update(pod, container, &wanted).await?;
                let with = |resources| {
                    Container::of(&model::Container { resources, ..container.clone() }, pod)
                };
                return Ok(Some(Change { before: with(wanted), after: with(given) }));
            }
            Hook::Ended(end) => {
                for link in &chain.links {
                    chain.tell_end(link, end, (pod, container)).await?;
                }
                chain.end_own(end, pod, container).await?;
            }
            Hook::ImagePulled => {
                for link in &chain.links {
                    link.image_pulled(self.fixture.pulled()).await?;
                }
            }
        }
        Ok(None)
    }

    /// As the daemon makes a container.
    async fn adjust(&self) -> Result<Change<Container>> {
        let (chain, pod, container) = (&self.chain, &self.things.pod, &self.things.container);
        let (argv, env) = command(container);
        let adjusted = chain.adjust(pod, Shown { container, argv: &argv, env: &env }).await;
        let adjusted = adjusted.inspect_err(|_| chain.forget(&container.id))?;
        let before = Container::of(container, pod);
        let Some(Adjusted { config, updates }) = adjusted else {
            return Ok(Change { after: before.clone(), before });
        };
        let resources = config.resources.clone();
        let made = model::Container { resources, config, ..container.clone() };
        self.node.add_container(&made);
        chain.created(&made.id, updates).await?;
        Ok(Change { before, after: Container::of(&made, pod) })
    }

    fn subject(&self, hook: Hook) -> String {
        let (pod, container) = (&self.things.pod, &self.things.container);
        match hook {
            Hook::Life => String::new(),
            Hook::ImagePulled => format!("image {}", self.fixture.pulled().id),
            _ if hook.is_containers() => container_name(container, pod),
            _ => pod_name(pod),
        }
    }
}

fn unusable(name: &str, why: &str) -> Error {
    Error::Precondition(format!("plugin {name} cannot be used: {why}"))
}

/// A plugin's whole state; what is no text is told by its size.
fn state(keys: &Store) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for key in keys.keys("")? {
        let value = keys.get(&key)?.unwrap_or_default();
        let size = value.len();
        let text = String::from_utf8(value).unwrap_or_else(|_| format!("{size} bytes"));
        all.insert(key, text);
    }
    Ok(all)
}
