//! Pods' own hooks: they live in their pod's sandbox, and are asked after the node's plugins. What
//! they ask for is answered here, as far as it is their own pod's.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::adjust::{Adjusting, Updating};
use super::bindings::{self, Shown};
use super::claims::Claims;
use super::functions::{Shared, View};
use super::hooks::{Ended, Step, Update};
use super::kv::Keys;
use super::load::shown;
use super::manifest::{Grants, Manifest};
use super::node::{Node, Told};
use super::{Chain, lock};
use crate::config::{Config, CpusConfig, FailPolicy, PluginConfig, PodHooksConfig};
use crate::error::{Error, Result, cut};
use crate::interface::{Answer, Call, Hook};
use crate::model::container::{Container, ContainerConfig};
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::resources::Resources;
use crate::model::sandbox::Sandbox;

/// The pod's annotation that holds its hooks' settings, a JSON object.
pub const SETTINGS: &str = "wasmpod.dev/hooks-settings";

/// Who tells of hooks that break down.
const TELLER: &str = "pod-hooks";

/// The pods' own hooks, as far as somebody has asked them.
pub struct Own {
    config: PodHooksConfig,
    cpus: CpusConfig,
    node: Arc<dyn Node>,
    claims: Arc<Claims>,
    pods: Mutex<HashMap<SandboxId, Arc<Shared>>>,
    /// Containers of whose ends they have been told.
    heard: watch::Sender<HashSet<ContainerId>>,
}

/// What hooks may do: what their manifest asks for. The error names what is not granted here.
pub fn settle(manifest: &Manifest, config: &PodHooksConfig) -> Result<()> {
    let wanted = [
        ("functions", "call", &manifest.functions, &config.functions),
        ("fields", "change", &manifest.fields, &config.fields),
    ];
    for (list, verb, asked, granted) in wanted {
        let missing = asked.iter().find(|&one| !crate::interface::covers(granted, one));
        if let Some(missing) = missing {
            return Err(Error::Denied(format!(
                "it needs to {verb} {missing}, which pods' hooks are not granted on this node: its \
                 configuration can add it to pod_hooks.{list}"
            )));
        }
    }
    Ok(())
}

/// The pod's settings for its hooks.
pub fn settings(sandbox: &crate::model::sandbox::SandboxConfig) -> Result<toml::Table> {
    let Some(text) = sandbox.annotations.get(SETTINGS) else { return Ok(toml::Table::new()) };
    serde_json::from_str(text).map_err(|error| {
        Error::Invalid(format!("annotation {SETTINGS} is no JSON object: {error}"))
    })
}

impl Own {
    pub fn new(config: &Config, node: Arc<dyn Node>, claims: Arc<Claims>) -> Self {
        let (cpus, config) = (config.cpus.clone(), config.pod_hooks.clone());
        Self { config, cpus, node, claims, pods: Mutex::default(), heard: watch::Sender::default() }
    }

    pub(super) fn shared(&self, sandbox: &Sandbox) -> Result<Arc<Shared>> {
        if let Some(known) = lock(&self.pods).get(&sandbox.id) {
            return Ok(known.clone());
        }
        let name = &sandbox.config.name;
        let shared = Arc::new(Shared {
            name: format!("hooks of pod {}/{}", name.namespace, name.name),
            config: PluginConfig {
                deadline_ms: self.config.deadline_ms,
                fail: FailPolicy::Closed,
                namespaces: vec![name.namespace.clone()],
                settings: settings(&sandbox.config)?,
                ..PluginConfig::default()
            },
            cpus: self.cpus.clone(),
            node: self.node.clone(),
            claims: self.claims.clone(),
            keys: Keys::new(self.node.folder(&sandbox.id).join("hooks.redb")),
            handle: tokio::runtime::Handle::current(),
            told: Mutex::default(),
        });
        lock(&self.pods).insert(sandbox.id.clone(), shared.clone());
        Ok(shared)
    }

    /// The pod is gone.
    pub fn forget(&self, id: &SandboxId) {
        lock(&self.pods).remove(id);
    }

    /// The container is gone.
    pub fn forget_container(&self, id: &ContainerId) {
        self.heard.send_if_modified(|heard| heard.remove(id));
    }
}

/// A pod's hooks that are to be asked.
struct Asked {
    shared: Arc<Shared>,
    grants: Grants,
}

impl Chain {
    /// `None`: the pod has none.
    fn own(&self, sandbox: &Sandbox) -> Result<Option<Asked>> {
        let Some(hooks) = &sandbox.hooks else { return Ok(None) };
        let grants = Grants::of(hooks.fields.clone());
        Ok(Some(Asked { shared: self.own.shared(sandbox)?, grants }))
    }

    /// Has the pod's hooks adjust a container, after all plugins.
    pub(super) async fn adjust_own(
        &self,
        sandbox: &Sandbox,
        seen: Shown<'_>,
        config: &mut ContainerConfig,
    ) -> Result<Option<Update>> {
        let Some(own) = self.own(sandbox)? else { return Ok(None) };
        let (pod, container) = (bindings::pod(sandbox), bindings::container(seen));
        let call = Call::new(Hook::PreCreateContainer, pod, container);
        let (name, grants) = (own.shared.name.as_str(), &own.grants);
        let Some(Answer::Adjustment(mut adjustment)) = own.ask(sandbox, call).await? else {
            self.claims.give_back_of(name, seen.container.id.as_str());
            return Ok(None);
        };
        let updates = adjustment.updates.clone();
        self.place(name, seen.container.id.as_str(), &mut adjustment);
        Adjusting { plugin: name, grants, config }.apply(*adjustment)?;
        Ok(Some(Update { by: name.to_owned(), view: own.view(sandbox), updates }))
    }

    /// What the pod's hooks make of a change of resources.
    pub(super) async fn update_own(
        &self,
        sandbox: &Sandbox,
        (container, wanted): (&Container, &Resources),
        updating: &mut Updating<'_>,
    ) -> Result<()> {
        let Some(own) = self.own(sandbox)? else { return Ok(()) };
        let seen = shown(&own.shared, container);
        let mut call = Call::new(Hook::UpdateContainer, bindings::pod(sandbox), seen);
        call.wanted = Some(bindings::resources(wanted));
        if let Some(Answer::Change(change)) = own.ask(sandbox, call).await? {
            updating.apply(&own.shared.name, &own.grants, &change)?;
        }
        Ok(())
    }

    pub(super) async fn step_own(
        &self,
        step: Step,
        sandbox: &Sandbox,
        container: &Container,
    ) -> Result<()> {
        let hook = match step {
            Step::CreatedContainer => Hook::PostCreateContainer,
            Step::StartContainer => Hook::PreStartContainer,
            Step::StartedContainer => Hook::PostStartContainer,
            Step::StopContainer => Hook::PreStopContainer,
            _ => return Ok(()),
        };
        self.tell_own(hook, sandbox, container).await
    }

    pub(super) async fn end_own(
        &self,
        ended: Ended,
        sandbox: &Sandbox,
        container: &Container,
    ) -> Result<()> {
        let hook = match ended {
            Ended::Stopped => Hook::PostStopContainer,
            Ended::Exited => Hook::ContainerExited,
        };
        let told = self.tell_own(hook, sandbox, container).await;
        if ended == Ended::Exited && sandbox.hooks.is_some() {
            self.own.heard.send_if_modified(|heard| heard.insert(container.id.clone()));
        }
        told
    }

    /// Waits until a pod's own hooks have been told of these containers' ends, as long as a hook
    /// may take: then the sandbox may go, and they with it.
    pub async fn heard(&self, sandbox: &Sandbox, ended: &[ContainerId]) {
        if sandbox.hooks.is_none() {
            return;
        }
        let limit = Duration::from_millis(self.own.config.deadline_ms.into());
        let mut heard = self.own.heard.subscribe();
        let all = heard.wait_for(|heard| ended.iter().all(|id| heard.contains(id)));
        // Who has not heard by then does not.
        let _ = tokio::time::timeout(limit, all).await;
    }

    async fn tell_own(&self, hook: Hook, sandbox: &Sandbox, container: &Container) -> Result<()> {
        let Some(own) = self.own(sandbox)? else { return Ok(()) };
        let seen = shown(&own.shared, container);
        own.ask(sandbox, Call::new(hook, bindings::pod(sandbox), seen)).await.map(drop)
    }
}

impl Asked {
    fn view(&self, sandbox: &Sandbox) -> View {
        View::of_pod(self.shared.clone(), self.grants.clone(), sandbox)
    }

    /// `None`: they broke down, which their pod is told and nothing fails of. An error is their
    /// refusal.
    async fn ask(&self, sandbox: &Sandbox, call: Call) -> Result<Option<Answer>> {
        let (name, hook) = (&self.shared.name, call.hook.name());
        let deadline = Duration::from_millis(self.shared.config.deadline_ms.into());
        let mut view = self.view(sandbox);
        let asked = self.shared.node.call_hooks(&sandbox.id, &call, (&mut view, deadline));
        let why = match asked.await {
            Ok(Ok(Answer::Refused(words))) => {
                let line = words.lines().next().unwrap_or_default().to_owned();
                return Err(Error::Denied(format!("{name}: {hook}: {}", cut(line, 1024))));
            }
            Ok(Ok(answer)) => return Ok(Some(answer)),
            Ok(Err(why)) => why,
            Err(error) => error.to_string(),
        };
        tracing::warn!("{name}: {hook}: it {why}; it is passed over");
        let told = Told {
            plugin: TELLER.to_owned(),
            is_warning: true,
            reason: "HookFailed".to_owned(),
            message: cut(format!("{hook} of the pod's own hooks {why}"), 1024),
        };
        // A pod that is being removed hears of nothing any more.
        let _ = self.shared.node.tell(sandbox.id.as_str(), told);
        Ok(None)
    }
}
