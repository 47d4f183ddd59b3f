//! Making, starting and removing containers.
//!
//! What a kill -9 of the daemon leaves after each step of making one, and who puts it right:
//! the name's reservation (nothing: it is kept in memory), the writable root (recovery removes
//! what no record names), the record "created", written while the shim makes the container
//! (recovery forgets it when the shim holds none; else it is whole).
//! A start leaves the record "created" until it is known to run; what came of it, the shim tells
//! at recovery.

use std::sync::Arc;

use super::annotations::Annotations;
use super::change::Change;
use super::client::{answer, failure};
use super::launch::{self, Launch, PlannedMount};
use super::order::wire_code;
use super::records::now;
use super::shims::Shim;
use super::stop::StopPlan;
use super::{Runtime, etc_layer};
use crate::error::{Error, Result};
use crate::image::{Code, Image};
use crate::lifecycle::Step;
use crate::model::container::{
    Container, ContainerConfig, ContainerState, ContainerVerb, Exit, Mount, Reason,
};
use crate::model::ids::ContainerId;
use crate::model::sandbox::{Sandbox, SandboxState};
use crate::proto::shim as wire;
use crate::telemetry::trace::phase;

/// Programs of an image that its containers' guests may start.
const MOST_PROGRAMS: usize = 32;

/// What making a container needs beyond its record.
pub(super) struct Plan {
    pub image: Arc<Image>,
    /// Images that are volumes, by the mounts' order.
    pub volumes: Vec<Option<Arc<Image>>>,
    pub launch: Launch,
    pub mounts: Vec<PlannedMount>,
    pub network: wire::Network,
    pub code: Code,
    /// Of the image's other programs.
    pub programs: Vec<Code>,
}

/// What is looked for outside of the request.
struct Found {
    image: Arc<Image>,
    launch: Launch,
    code: Code,
    programs: Vec<Code>,
}

impl Runtime {
    pub(super) async fn make_container(
        self: Arc<Self>,
        sandbox: Arc<Sandbox>,
        config: ContainerConfig,
    ) -> Result<ContainerId> {
        let (container, plan) =
            self.plan_container(&sandbox, (ContainerId::random(), config)).await?;
        let id = container.id.clone();
        let made = self.make_adjusted(&sandbox, container, plan).await;
        if made.is_err()
            && let Ok(chain) = self.chain()
        {
            chain.forget(&id);
        }
        made?;
        Ok(id)
    }

    pub(super) async fn make_planned(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        plan: &Plan,
    ) -> Result<()> {
        // Containers of one sandbox are made side by side, but none while it is being stopped.
        let turn = self.records.turn(sandbox.id.as_str());
        let _turn = turn.operation.read().await;
        let reserved = self.records.change_passing(Change::AddContainer(container.clone()));
        phase("reserve", &[], reserved).await?;
        // Recorded first, then looked for: whoever removes the image does it the other way round.
        let mut needed = plan.volumes.iter().flatten().chain([&plan.image]);
        let placed = match needed.find(|image| self.images.get(&image.id).is_none()) {
            None => self.place_container(sandbox, container, plan).await,
            Some(gone) => Err(Error::not_found("image", gone.id.as_str())),
        };
        if let Err(error) = placed {
            self.sweep(vec![self.folders.root_of(&container.id)]).await;
            self.records.change(vec![Change::ForgetContainer(container.id.clone())]).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Checks everything and has the machine code made, before anything is recorded.
    pub(super) async fn plan_container(
        &self,
        sandbox: &Sandbox,
        (id, config): (ContainerId, ContainerConfig),
    ) -> Result<(Container, Plan)> {
        if sandbox.state != SandboxState::Ready {
            return Err(Error::Precondition(format!(
                "sandbox {} is {}, expected ready",
                sandbox.id, sandbox.state
            )));
        }
        if config.name.name.is_empty() {
            return Err(Error::Invalid("the container's metadata has no name".to_owned()));
        }
        let image = self
            .images
            .get(&config.image.image)
            .ok_or_else(|| Error::not_found("image", launch::spoken_image(&config)))?;
        let hostname = etc_layer::hostname(&sandbox.config)?;
        let launch = Launch::plan(&config, &image, &hostname)?;
        let code = self.images.code(&launch.program.digest, &launch.program.file);
        let code = phase("code", &[], code).await?;
        let programs = self.other_programs(&image, &launch.program.digest).await;
        self.plan_with(sandbox, (id, config), Found { image, launch, code, programs })
    }

    /// The same container with another configuration, by which its image and its user are the
    /// same.
    pub(super) async fn replan(
        &self,
        sandbox: &Sandbox,
        (container, plan): (Container, Plan),
        config: ContainerConfig,
    ) -> Result<(Container, Plan)> {
        let Plan { image, launch, code, programs, .. } = plan;
        let hostname = etc_layer::hostname(&sandbox.config)?;
        let new = Launch::plan_as(launch.user, &config, &image, &hostname)?;
        let is_same = new.program.digest == launch.program.digest;
        let (code, programs) = match is_same {
            true => (code, programs),
            false => (
                self.images.code(&new.program.digest, &new.program.file).await?,
                self.other_programs(&image, &new.program.digest).await,
            ),
        };
        let found = Found { image, launch: new, code, programs };
        self.plan_with(sandbox, (container.id, config), found)
    }

    fn plan_with(
        &self,
        sandbox: &Sandbox,
        (id, mut config): (ContainerId, ContainerConfig),
        Found { image, launch, code, programs }: Found,
    ) -> Result<(Container, Plan)> {
        let volumes = self.find_volumes(&mut config)?;
        let mounts = launch::mounts(&config)?;
        let network = Annotations { pod: &sandbox.config, container: &config }
            .network(&self.config.network, &launch.env)?;
        let log_path = launch::log_path(&sandbox.config, &config)?;
        let resources = launch::applied(&config.resources)?;
        let container = Container {
            id,
            sandbox: sandbox.id.clone(),
            realm: sandbox.realm,
            config,
            image_id: image.id.clone(),
            image_ref: image.digests.first().unwrap_or(&image.id).clone(),
            created_at: now(),
            state: ContainerState::Creating,
            resources,
            log_path,
            user: Arc::new(launch.user.clone()),
            stop_signal: launch.stop_signal,
        };
        Ok((container, Plan { image, volumes, launch, mounts, network, code, programs }))
    }

    /// The images that the mounts name, whose ids they are given.
    fn find_volumes(&self, config: &mut ContainerConfig) -> Result<Vec<Option<Arc<Image>>>> {
        let find = |mount: &mut Mount| {
            let Some(asked) = &mut mount.image else { return Ok(None) };
            let name = &asked.spec.image;
            let found =
                self.images.get(name).ok_or_else(|| Error::not_found("image", name.as_str()))?;
            asked.id = found.id.clone();
            Ok(Some(found))
        };
        config.mounts.iter_mut().map(find).collect()
    }

    /// The machine code of an image's programs besides `entry`, as many as a container's guests
    /// may start as processes. It was made when the image came.
    async fn other_programs(&self, image: &Image, entry: &str) -> Vec<Code> {
        let mut codes: Vec<Code> = Vec::new();
        let most = if self.config.guests.most_processes() > 0 { MOST_PROGRAMS } else { 0 };
        for program in &image.programs {
            let is_known =
                program.digest == entry || codes.iter().any(|code| code.module == program.digest);
            if is_known || codes.len() >= most {
                continue;
            }
            match self.images.code(&program.digest, &program.file).await {
                Ok(code) => codes.push(code),
                // Whoever starts it is told that it cannot be.
                Err(error) => tracing::debug!(program = program.path, %error, "no machine code"),
            }
        }
        codes
    }

    async fn place_container(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        plan: &Plan,
    ) -> Result<()> {
        let shim = self.shims.get(sandbox.shim.as_ref())?;
        if !shim.is_current() {
            return Err(Error::Unavailable(format!(
                "sandbox {} lives in a shim of wasmpod {}, which takes no containers of this one; \
                 make the pod anew",
                sandbox.id, shim.client.hello.build
            )));
        }
        self.make_sources(plan).await?;
        let created = Change::Container(container.id.clone(), ContainerVerb::Create);
        let placed = phase("shim", &[], self.create_in_shim(&shim, container, plan));
        let recorded = match tokio::join!(placed, self.records.foretell(created.clone())) {
            (Ok(()), Ok(())) => phase("record", &[], self.records.change_passing(created)).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        // A shim that died before the record said "created" was buried without this container.
        if recorded.is_ok() && self.shims.is_alive(&shim.id) {
            return Ok(());
        }
        let _ = shim.wire().remove_container(by_id(&container.id)).await;
        recorded?;
        Err(Error::Unavailable("the sandbox's shim ended while the container was made".to_owned()))
    }

    /// Makes mount sources that are not there.
    async fn make_sources(&self, plan: &Plan) -> Result<()> {
        if plan.mounts.is_empty() {
            return Ok(());
        }
        let mounts = plan.mounts.clone();
        let made = tokio::task::spawn_blocking(move || launch::host_paths(&mounts));
        made.await.unwrap_or_else(|_| Err(Error::Internal("making folders panicked".to_owned())))
    }

    /// Machine code that the shim finds corrupt is made anew, once.
    async fn create_in_shim(&self, shim: &Shim, container: &Container, plan: &Plan) -> Result<()> {
        let doing = "making a container";
        let request = self.container_request(container, plan);
        let first = answer(doing, shim.wire().create_container(request.clone())).await;
        let Err(Error::StaleCode(why)) = first else { return first.map(drop) };
        let program = &plan.launch.program;
        tracing::warn!(program = program.path, why, "machine code is made anew");
        let code = self.images.rebuild(&program.digest, &program.file).await?;
        let request = wire::CreateContainerRequest { code: Some(wire_code(&code)), ..request };
        answer(doing, shim.wire().create_container(request)).await.map(drop)
    }

    pub(super) async fn begin_container(self: Arc<Self>, id: ContainerId) -> Result<()> {
        let turn = self.records.turn(id.as_str());
        let own_turn = turn.operation.write().await;
        let container = self
            .records
            .container(&id)
            .ok_or_else(|| Error::not_found("container", id.as_str()))?;
        let sandbox = self
            .records
            .sandbox(&container.sandbox)
            .ok_or_else(|| Error::not_found("sandbox", container.sandbox.as_str()))?;
        if sandbox.state != SandboxState::Ready && container.state == ContainerState::Created {
            return Err(Error::Precondition(format!(
                "sandbox {} is {}, expected ready",
                sandbox.id, sandbox.state
            )));
        }
        let shim = self.shims.get(sandbox.shim.as_ref());
        let chain = self.chain()?;
        let is_asked = chain.concerns(&sandbox);
        if is_asked
            && container.state == ContainerState::Created
            && let Err(error) = chain.container(Step::StartContainer, &sandbox, &container).await
        {
            return self.start_failed(&id, error).await;
        }
        self.records.change_passing(Change::Container(id.clone(), ContainerVerb::Start)).await?;
        let started = match shim {
            Ok(shim) => phase("shim", &[], shim.wire().start_container(by_id(&id))).await,
            Err(error) => return self.start_failed(&id, error).await,
        };
        match started {
            Ok(response) => {
                let started_at = response.into_inner().started_at;
                let ran = self.records.set_container(&id, ContainerVerb::Run { started_at });
                phase("record", &[], ran).await?;
                // Whoever hears of it may want to change it at once.
                drop(own_turn);
                if is_asked && let Some(container) = self.records.container(&id) {
                    self.tell_plugins(Step::StartedContainer, &sandbox, Some(&container)).await;
                }
                Ok(())
            }
            Err(status) => self.start_failed(&id, failure("starting a container", &status)).await,
        }
    }

    async fn start_failed(&self, id: &ContainerId, error: Error) -> Result<()> {
        let error = match error {
            // Said of the guest by the shim.
            Error::Precondition(why) => Error::Start(why),
            Error::Unavailable(_) => {
                // The shim is dead, and its burial tells what became of the container.
                let ended = || self.records.container(id).is_none_or(|c| c.state.exit().is_some());
                if self.await_news(id.as_str(), || ended().then_some(())).await.is_some() {
                    return Err(error);
                }
                error
            }
            other => other,
        };
        let exit = Exit {
            code: 128,
            reason: Reason::StartError,
            message: error.to_string(),
            finished_at: now(),
        };
        self.records.set_container(id, ContainerVerb::Exit(exit)).await?;
        Err(error)
    }

    pub(super) async fn discard_container(self: Arc<Self>, id: ContainerId) -> Result<()> {
        // Overtakes a start that still goes on.
        self.end_container(&id, StopPlan::KILL).await?;
        let turn = self.records.turn(id.as_str());
        let _turn = turn.operation.write().await;
        let removing = self.records.set_container(&id, ContainerVerb::Remove).await;
        if matches!(removing, Err(Error::NotFound { .. })) {
            return Ok(());
        }
        removing?;
        let Some(container) = self.records.container(&id) else { return Ok(()) };
        self.finish_container_removal(&container).await?;
        if let Some(sandbox) = self.records.sandbox(&container.sandbox) {
            self.tell_plugins(Step::RemoveContainer, &sandbox, Some(&container)).await;
        }
        Ok(())
    }

    /// What comes after the record says "removing". The caller has the container's turn.
    pub(super) async fn finish_container_removal(&self, container: &Container) -> Result<()> {
        if let Ok(shim) = self.shim_of(container) {
            match shim.wire().remove_container(by_id(&container.id)).await {
                Ok(_) => {}
                Err(status) => match failure("removing a container", &status) {
                    Error::NotFound { .. } => {}
                    Error::Unavailable(_)
                        if super::client::is_gone(&shim.folder.socket()).await => {}
                    error => return Err(error),
                },
            }
        }
        self.sweep(vec![self.folders.root_of(&container.id)]).await;
        self.records.change(vec![Change::ForgetContainer(container.id.clone())]).await?;
        self.let_exec_codes_go().await;
        Ok(())
    }

    /// The living shim that holds a container's sandbox.
    pub(super) fn shim_of(&self, container: &Container) -> Result<Arc<Shim>> {
        let sandbox = self.records.sandbox(&container.sandbox);
        self.shims.get(sandbox.and_then(|sandbox| sandbox.shim.clone()).as_ref())
    }
}

pub(super) fn by_id(id: &ContainerId) -> wire::ContainerRequest {
    wire::ContainerRequest { id: id.to_string() }
}
