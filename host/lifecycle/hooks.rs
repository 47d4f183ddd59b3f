//! The hooks: which plugins are asked, with what, and what becomes of their answers.

use std::sync::Arc;

use futures::future::join_all;

use super::adjust::{Adjusting, Fault, Updating};
use super::bindings::types::{self as wit, Hooks};
use super::bindings::{self, Shown};
use super::instance::asking;
use super::load::shown;
use super::processors::change;
use super::{Chain, Link, View};
use crate::error::{Error, Result};
use crate::model::container::{Container, ContainerConfig};
use crate::model::ids::ContainerId;
use crate::model::resources::Resources;
use crate::model::sandbox::Sandbox;

/// A step in a life that plugins hear of and that gives nothing back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    RunSandbox,
    StopSandbox,
    RemoveSandbox,
    UpdatedSandbox,
    CreatedContainer,
    /// Before its first instruction.
    StartContainer,
    StartedContainer,
    UpdatedContainer,
    /// Before it is asked to end.
    StopContainer,
    RemoveContainer,
}

impl Step {
    /// The hook's name, and who wants it.
    fn hook(self) -> (&'static str, Hooks) {
        match self {
            Self::RunSandbox => ("run-pod-sandbox", Hooks::RUN_POD_SANDBOX),
            Self::StopSandbox => ("stop-pod-sandbox", Hooks::STOP_POD_SANDBOX),
            Self::RemoveSandbox => ("remove-pod-sandbox", Hooks::REMOVE_POD_SANDBOX),
            Self::UpdatedSandbox => ("post-update-pod-sandbox", Hooks::POST_UPDATE_POD_SANDBOX),
            Self::CreatedContainer => ("post-create-container", Hooks::POST_CREATE_CONTAINER),
            Self::StartContainer => ("pre-start-container", Hooks::PRE_START_CONTAINER),
            Self::StartedContainer => ("post-start-container", Hooks::POST_START_CONTAINER),
            Self::UpdatedContainer => ("post-update-container", Hooks::POST_UPDATE_CONTAINER),
            Self::StopContainer => ("pre-stop-container", Hooks::PRE_STOP_CONTAINER),
            Self::RemoveContainer => ("remove-container", Hooks::REMOVE_CONTAINER),
        }
    }

    /// What came of it after one more was asked; the outer error ends it. Nobody refuses what has
    /// happened or has to: one's error is not to keep the others from hearing of it.
    fn after(self, before: Result<()>, asked: Result<()>) -> Result<Result<()>> {
        match (self, asked) {
            (Self::RunSandbox | Self::StartContainer, Err(error)) => Err(error),
            (_, asked) => Ok(before.and(asked)),
        }
    }
}

/// What a chain made of a container that is to be created.
pub struct Adjusted {
    pub config: ContainerConfig,
    pub updates: Vec<Update>,
}

/// What somebody wants of other containers, once this one is certain.
pub struct Update {
    pub by: String,
    pub view: View,
    pub updates: Vec<wit::ContainerUpdate>,
}

type Both = (Arc<wit::Pod>, Arc<wit::Container>);

/// For all plugins that are asked of it, one after the other.
fn together(sandbox: &Sandbox, container: wit::Container) -> Both {
    (Arc::new(bindings::pod(sandbox)), Arc::new(container))
}

impl Chain {
    /// A pod's step. The first error is told; where it refuses, nobody is asked after it.
    pub async fn pod(&self, step: Step, sandbox: &Sandbox) -> Result<()> {
        let (hook, wants) = step.hook();
        let (mut seen, mut outcome) = (None, Ok(()));
        for link in self.of(sandbox, wants) {
            let pod = seen.get_or_insert_with(|| Arc::new(bindings::pod(sandbox))).clone();
            let call = asking(move |instance| {
                Box::pin(async move {
                    let (hooks, store) = instance.parts();
                    match step {
                        Step::RunSandbox => hooks.call_run_pod_sandbox(store, &pod).await,
                        Step::StopSandbox => hooks.call_stop_pod_sandbox(store, &pod).await,
                        Step::RemoveSandbox => hooks.call_remove_pod_sandbox(store, &pod).await,
                        _ => hooks.call_post_update_pod_sandbox(store, &pod).await,
                    }
                })
            });
            let asked = link.ask(sandbox, (hook, wants), call).await.map(drop);
            outcome = step.after(outcome, asked)?;
        }
        outcome
    }

    /// A container's step, as a pod's.
    pub async fn container(
        &self,
        step: Step,
        sandbox: &Sandbox,
        container: &Container,
    ) -> Result<()> {
        let (hook, wants) = step.hook();
        let (mut both, mut outcome) = (None, Ok(()));
        for link in self.of(sandbox, wants) {
            let now = || together(sandbox, shown(&link.shared, container));
            let (pod, seen) = both.get_or_insert_with(now).clone();
            let call = asking(move |instance| {
                Box::pin(async move {
                    let (hooks, store) = instance.parts();
                    match step {
                        Step::CreatedContainer => {
                            hooks.call_post_create_container(store, &pod, &seen).await
                        }
                        Step::StartContainer => {
                            hooks.call_pre_start_container(store, &pod, &seen).await
                        }
                        Step::StartedContainer => {
                            hooks.call_post_start_container(store, &pod, &seen).await
                        }
                        Step::UpdatedContainer => {
                            hooks.call_post_update_container(store, &pod, &seen).await
                        }
                        Step::StopContainer => {
                            hooks.call_pre_stop_container(store, &pod, &seen).await
                        }
                        _ => hooks.call_remove_container(store, &pod, &seen).await,
                    }
                })
            });
            let asked = link.ask(sandbox, (hook, wants), call).await.map(drop);
            outcome = step.after(outcome, asked)?;
        }
        let own = self.step_own(step, sandbox, container).await;
        step.after(outcome, own)?
    }

    /// Has every plugin adjust a container that is about to be created; `None` where none wants
    /// to. [`Chain::forget`] undoes what they took for it.
    pub async fn adjust(&self, sandbox: &Sandbox, seen: Shown<'_>) -> Result<Option<Adjusted>> {
        let id = seen.container.id.as_str();
        let mut config = seen.container.config.clone();
        let (mut updates, mut is_touched) = (Vec::new(), false);
        if self.concerns(sandbox) {
            self.expect(sandbox, id);
        }
        let mut both = None;
        for link in self.of(sandbox, Hooks::PRE_CREATE_CONTAINER) {
            let now = || together(sandbox, bindings::container(seen));
            let (pod, container) = both.get_or_insert_with(now).clone();
            let call = asking(move |instance| {
                Box::pin(async move {
                    let (hooks, store) = instance.parts();
                    hooks.call_pre_create_container(store, &pod, &container).await
                })
            });
            let asked = link
                .ask(sandbox, ("pre-create-container", Hooks::PRE_CREATE_CONTAINER), call)
                .await?;
            let name = &link.plugin.name;
            let Some((mut adjustment, seat)) = asked else {
                self.claims.give_back_of(name, id);
                continue;
            };
            let wanted = adjustment.updates.clone();
            self.place(name, id, &mut adjustment);
            // Only who may be passed over leaves it as it was.
            let before = link.is_optional().then(|| config.clone());
            let outcome = Adjusting { plugin: name, grants: &seat.grants, config: &mut config }
                .apply(adjustment);
            match outcome {
                Ok(()) => {}
                Err(Fault::Conflict(error)) => return Err(error),
                Err(Fault::Own(error)) => {
                    link.pass_over(error)?;
                    config = before.unwrap_or(config);
                    self.claims.give_back_of(name, id);
                    continue;
                }
            }
            is_touched = true;
            if !wanted.is_empty() {
                updates.push(Update { by: name.clone(), view: link.view(&seat), updates: wanted });
            }
        }
        let own = self.adjust_own(sandbox, seen, &mut config).await?;
        is_touched |= own.is_some();
        updates.extend(own);
        Ok(is_touched.then_some(Adjusted { config, updates }))
    }

    /// What a plugin has allocated to a container that is being created is its cpuset.
    pub(super) fn place(&self, by: &str, id: &str, adjustment: &mut wit::Adjustment) {
        let claim = self.claims.of(id).filter(|claim| claim.plugin == by);
        let is_said = adjustment.resources.as_ref().is_some_and(|r| r.cpuset_cpus.is_some());
        if let Some(claim) = claim.filter(|_| !is_said) {
            let made = adjustment.resources.get_or_insert_with(|| change(None, None));
            made.cpuset_cpus = Some(claim.cpus.to_string());
        }
    }

    /// Asks whether a container may be created as it is now.
    pub async fn validate(&self, sandbox: &Sandbox, seen: Shown<'_>) -> Result<()> {
        let adjusted = &seen.container.config.adjusted;
        let mut both = None;
        for link in self.of(sandbox, Hooks::VALIDATE_CONTAINER) {
            let now = || together(sandbox, bindings::container(seen));
            let (pod, container) = both.get_or_insert_with(now).clone();
            let by: Vec<String> = adjusted.plugins().into_iter().map(str::to_owned).collect();
            let call = asking(move |instance| {
                Box::pin(async move {
                    let (hooks, store) = instance.parts();
                    hooks.call_validate_container(store, &pod, &container, &by).await
                })
            });
            link.ask(sandbox, ("validate-container", Hooks::VALIDATE_CONTAINER), call).await?;
        }
        Ok(())
    }

    /// The container has a record now: does what was wanted of others.
    pub async fn created(&self, id: &ContainerId, updates: Vec<Update>) -> Result<()> {
        self.claims.expect(id.as_str(), None);
        for wanted in updates {
            let (by, done) = (wanted.by, wanted.view.apply(wanted.updates).await);
            done.map_err(|error| Error::Precondition(format!("plugin {by}: {error}")))?;
        }
        Ok(())
    }

    /// A container that was to be created is not, or one has ended: what was taken for it goes.
    pub fn forget(&self, id: &ContainerId) {
        self.claims.expect(id.as_str(), None);
        self.claims.give_back(id.as_str());
    }

    /// A container's record is gone.
    pub fn deleted(&self, id: &ContainerId) {
        self.forget(id);
        self.own.forget_container(id);
    }

    /// What a container's resources are to be, if `wanted` is what was asked for.
    pub async fn update(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        wanted: &Resources,
    ) -> Result<Resources> {
        let mut updating = Updating::new(&container.config.name.name, wanted);
        for link in self.of(sandbox, Hooks::UPDATE_CONTAINER) {
            let (pod, seen) = (bindings::pod(sandbox), shown(&link.shared, container));
            let asked = bindings::resources(wanted);
            let call = asking(move |instance| {
                Box::pin(async move {
                    let (hooks, store) = instance.parts();
                    hooks.call_update_container(store, &pod, &seen, &asked).await
                })
            });
            let answer =
                link.ask(sandbox, ("update-container", Hooks::UPDATE_CONTAINER), call).await?;
            let Some((change, seat)) = answer else { continue };
            match updating.apply(&link.plugin.name, &seat.grants, &change) {
                Ok(()) => {}
                Err(Fault::Conflict(error)) => return Err(error),
                Err(Fault::Own(error)) => link.pass_over(error)?,
            }
        }
        self.update_own(sandbox, (container, wanted), &mut updating).await?;
        Ok(updating.resources)
    }

    /// A pod's resources are about to change.
    pub async fn update_pod(
        &self,
        sandbox: &Sandbox,
        overhead: Option<&Resources>,
        resources: Option<&Resources>,
    ) -> Result<()> {
        for link in self.of(sandbox, Hooks::UPDATE_POD_SANDBOX) {
            let pod = bindings::pod(sandbox);
            let both = (overhead.map(bindings::resources), resources.map(bindings::resources));
            let call = asking(move |instance| {
                Box::pin(async move {
                    let (hooks, store) = instance.parts();
                    hooks
                        .call_update_pod_sandbox(store, &pod, both.0.as_ref(), both.1.as_ref())
                        .await
                })
            });
            link.ask(sandbox, ("update-pod-sandbox", Hooks::UPDATE_POD_SANDBOX), call).await?;
        }
        Ok(())
    }

    /// Tells each plugin, whatever the others answer, that a container was stopped or has exited,
    /// and does what they want then.
    pub async fn ended(&self, hook: Ended, sandbox: &Sandbox, container: &Container) {
        let links = self.of(sandbox, hook.hook().1);
        let told = links.map(|link| self.tell_end(link, hook, (sandbox, container)));
        for error in join_all(told).await.into_iter().filter_map(Result::err) {
            tracing::warn!(container = %container.id, %error, "a plugin failed");
        }
        if let Err(error) = self.end_own(hook, sandbox, container).await {
            tracing::warn!(container = %container.id, %error, "a pod's hooks failed");
        }
    }

    /// Tells one of them; the error is its.
    pub(super) async fn tell_end(
        &self,
        link: &Link,
        hook: Ended,
        (sandbox, container): (&Sandbox, &Container),
    ) -> Result<()> {
        let (pod, seen) = (bindings::pod(sandbox), shown(&link.shared, container));
        let (name, wants) = hook.hook();
        let call = asking(move |instance| {
            Box::pin(async move {
                let (hooks, store) = instance.parts();
                match hook {
                    Ended::Stopped => hooks.call_post_stop_container(store, &pod, &seen).await,
                    Ended::Exited => hooks.call_container_exited(store, &pod, &seen).await,
                }
            })
        });
        match link.ask(sandbox, (name, wants), call).await? {
            Some((updates, seat)) => link.view(&seat).apply(updates).await,
            None => Ok(()),
        }
    }

    /// Tells of an image.
    pub async fn image_pulled(&self, image: wit::Image) {
        let wants = |link: &&Link| !link.plugin.is_deaf(Hooks::IMAGE_PULLED, None);
        let links = self.links.iter().filter(wants);
        let told = join_all(links.map(|link| link.image_pulled(image.clone())));
        for error in told.await.into_iter().filter_map(Result::err) {
            tracing::warn!(image = image.id, %error, "a plugin failed");
        }
    }
}

impl Link {
    pub async fn image_pulled(&self, image: wit::Image) -> Result<()> {
        let call = asking(move |instance| {
            Box::pin(async move {
                let (hooks, store) = instance.parts();
                hooks.call_image_pulled(store, &image).await
            })
        });
        self.plugin.ask(("image-pulled", Hooks::IMAGE_PULLED, None), call).await.map(drop)
    }
}

/// How a container's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Stopped,
    Exited,
}

impl Ended {
    /// As [`Step::hook`].
    fn hook(self) -> (&'static str, Hooks) {
        match self {
            Self::Stopped => ("post-stop-container", Hooks::POST_STOP_CONTAINER),
            Self::Exited => ("container-exited", Hooks::CONTAINER_EXITED),
        }
    }
}
