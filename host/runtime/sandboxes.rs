//! Making, stopping and removing sandboxes.
//!
//! What a kill -9 of the daemon leaves after each step of making one, and who puts it right:
//! the name's reservation (nothing: it is kept in memory), the network (its journal tells recovery
//! to give it back), the folder (recovery removes what no record names), the record "ready",
//! written while the shim makes the sandbox (recovery forgets it when the shim holds none; else
//! it is whole). Removing goes
//! the other way: the record "removing" comes first, durably, and recovery finishes it.

use std::sync::Arc;

use super::change::Change;
use super::client::failure;
use super::records::now;
use super::shims::Shim;
use super::stop::StopPlan;
use super::{Runtime, cgroup, etc_layer, launch, network, sweep};
use crate::error::{Error, Result};
use crate::lifecycle::Step;
use crate::model::container::{ContainerState, ContainerVerb, Exit, Reason};
use crate::model::handler::{Handler, ProcessPlace, StorePlace};
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::sandbox::{Realm, Sandbox, SandboxConfig, SandboxState, SandboxVerb};
use crate::proto::shim as wire;
use crate::telemetry::trace::phase;

impl Runtime {
    pub(super) async fn make_sandbox(
        self: Arc<Self>,
        realm: Realm,
        handler: String,
        config: SandboxConfig,
    ) -> Result<SandboxId> {
        let place = self.check_sandbox(&handler, &config)?;
        let hostname = etc_layer::hostname(&config)?;
        let (hooks, wire) =
            self.prepare_hooks(&config).await?.map(|found| (found.own, found.wire)).unzip();
        let sandbox = Sandbox {
            id: SandboxId::random(),
            realm,
            handler,
            config,
            created_at: now(),
            state: SandboxState::Creating,
            shim: None,
            addresses: Vec::new(),
            hooks,
        };
        let reserved = self.records.change_passing(Change::AddSandbox(sandbox.clone()));
        phase("reserve", &[], reserved).await?;
        let placed = match self.keeps_hooks(&sandbox) {
            Ok(()) => self.place_sandbox(&sandbox, place, (hostname, wire)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = placed {
            self.sweep(vec![self.folders.sandbox(&sandbox.id)]).await;
            self.records.change(vec![Change::ForgetSandbox(sandbox.id)]).await?;
            return Err(error);
        }
        Ok(sandbox.id)
    }

    /// The parts of a request that are the core's to check.
    fn check_sandbox(&self, name: &str, config: &SandboxConfig) -> Result<ProcessPlace> {
        let parts = [
            ("name", &config.name.name),
            ("uid", &config.name.uid),
            ("namespace", &config.name.namespace),
        ];
        if let Some((part, _)) = parts.into_iter().find(|(_, value)| value.is_empty()) {
            return Err(Error::Invalid(format!("the sandbox's metadata has no {part}")));
        }
        if let Some(dns) = &config.dns {
            etc_layer::check_dns(dns)?;
        }
        network::check_ports(config)?;
        let Handler { store, process } = self.config.handler(name).ok_or_else(|| {
            let mut names = self.config.handler_names();
            names.retain(|name| self.config.handler(name).is_some_and(Handler::is_available));
            Error::Invalid(format!("no runtime handler {name:?}; there are {}", names.join(", ")))
        })?;
        match store {
            StorePlace::Child => Ok(process),
            StorePlace::Shared => Err(Error::Refused(format!(
                "handler {name} (store = shared) is not available yet, use wasm or wasm-isolated"
            ))),
        }
    }

    async fn place_sandbox(
        &self,
        sandbox: &Sandbox,
        place: ProcessPlace,
        (hostname, hooks): (String, Option<wire::Hooks>),
    ) -> Result<()> {
        let request = self.sandbox_request(sandbox, &hostname)?;
        let request = wire::CreateSandboxRequest { hooks, ..request };
        // Its door stays open until the shim is through it.
        let attachments = self.attach_network(sandbox).await?;
        let request = Self::with_network(request, sandbox, attachments.as_ref());
        let addresses = attachments.as_ref().map(|found| found.addresses.clone());
        let sandbox = &Sandbox { addresses: addresses.unwrap_or_default(), ..sandbox.clone() };
        let layer = self.folders.etc_layer(&sandbox.id);
        let dns = sandbox.config.dns.clone();
        // The shim reads the layer when a container is made, so both go side by side.
        let made =
            tokio::task::spawn_blocking(move || etc_layer::make(&layer, &hostname, dns.as_ref()));
        let made = async {
            made.await
                .unwrap_or_else(|_| Err(Error::Internal("making a layer panicked".to_owned())))
        };
        let seat = phase("shim", &[], self.seat_sandbox(sandbox, place, &request));
        let (made, seat) = tokio::join!(made, seat);
        let made = match (&seat, made) {
            (Ok(_), Ok(())) => self.chain()?.pod(Step::RunSandbox, sandbox).await,
            (_, made) => made,
        };
        let outcome = match (made, seat) {
            (Ok(()), Ok(seat)) => match self.record_ready(sandbox, seat).await {
                // It died just after it had made the sandbox.
                Err(Error::Unavailable(_)) => {
                    match self.seat_sandbox(sandbox, place, &request).await {
                        Ok(seat) => self.record_ready(sandbox, seat).await,
                        Err(error) => Err(error),
                    }
                }
                outcome => outcome,
            },
            (Err(error), Ok(seat)) => {
                self.leave(seat.shim(), &sandbox.id).await;
                Err(error)
            }
            (_, Err(error)) => Err(error),
        };
        if outcome.is_err() {
            self.give_up_network(&sandbox.id).await;
            self.shims.end_surplus().await;
        }
        outcome
    }

    fn sandbox_request(
        &self,
        sandbox: &Sandbox,
        hostname: &str,
    ) -> Result<wire::CreateSandboxRequest> {
        let network = self.network_mode(&sandbox.config);
        // CRI's pod resources are sums over the containers that name a limit, for whoever sizes a
        // virtual machine: as a limit they would end pods in which another container names none.
        // The pod's own limit is the one of its cgroup, which a kubelet sets (overhead included)
        // where the pod, or each of its containers, has one.
        let memory_limit = cgroup::memory_limit(&sandbox.config.cgroup_parent)?;
        let cpuset_cpus = self.pod_cpus(sandbox.realm, sandbox.config.resources.as_ref())?;
        if let Some(resources) = &sandbox.config.resources {
            launch::check_memory_nodes(&resources.cpuset_mems)?;
        }
        Ok(wire::CreateSandboxRequest {
            id: sandbox.id.to_string(),
            hostname: hostname.to_owned(),
            network: network.into(),
            etc_layer: self.folders.etc_layer(&sandbox.id).to_string_lossy().into_owned(),
            cpuset_cpus,
            memory_limit: memory_limit.unwrap_or(0),
            ..wire::CreateSandboxRequest::default()
        })
    }

    pub(super) async fn end_sandbox(self: Arc<Self>, id: SandboxId) -> Result<()> {
        let turn = self.records.turn(id.as_str());
        let _turn = turn.operation.write().await;
        match self.records.sandbox(&id) {
            Some(sandbox) if sandbox.state == SandboxState::Ready => {
                self.end_ready_sandbox(&sandbox).await?;
            }
            _ => {}
        }
        // Again at each call, as long as it fails.
        self.network.detach(&id).await
    }

    /// Ends the containers first, so that each exit is in the database, then what they shared.
    /// The caller has the sandbox's turn.
    async fn end_ready_sandbox(&self, sandbox: &Sandbox) -> Result<()> {
        let ran = self.running(&sandbox.id);
        self.kill_containers(&sandbox.id).await?;
        if let Ok(chain) = self.chain() {
            chain.heard(sandbox, &ran).await;
        }
        let shim = match self.shims.get(sandbox.shim.as_ref()) {
            Ok(shim) => shim,
            Err(error) => return self.settled(&sandbox.id, error).await,
        };
        let call = shim.wire().stop_sandbox(by_id(&sandbox.id)).await;
        if let Err(status) = call {
            return self.settled(&sandbox.id, failure("stopping a sandbox", &status)).await;
        }
        // One that was being started meanwhile was ended by the shim.
        self.kill_containers(&sandbox.id).await?;
        self.tell_plugins(Step::StopSandbox, sandbox, None).await;
        self.records.set_sandbox(&sandbox.id, SandboxVerb::Stop).await
    }

    fn running(&self, sandbox: &SandboxId) -> Vec<ContainerId> {
        let containers = self.records.read().containers_of(sandbox);
        let running = |state: &ContainerState| matches!(state, ContainerState::Running { .. });
        containers.iter().filter(|c| running(&c.state)).map(|c| c.id.clone()).collect()
    }

    async fn kill_containers(&self, sandbox: &SandboxId) -> Result<()> {
        let containers = self.records.read().containers_of(sandbox);
        let kills = containers.iter().map(|container| self.kill_container(&container.id));
        futures::future::join_all(kills).await.into_iter().collect()
    }

    /// Ends a container whatever state it is in; one that never ran is exited too.
    async fn kill_container(&self, id: &ContainerId) -> Result<()> {
        self.end_container(id, StopPlan::KILL).await?;
        let state = self.records.container(id).map(|container| container.state.clone());
        if state == Some(ContainerState::Created) {
            let exit = Exit {
                code: 137,
                reason: Reason::Error,
                message: "the sandbox was stopped before the container was started".to_owned(),
                finished_at: now(),
            };
            match self.records.set_container(id, ContainerVerb::Exit(exit)).await {
                Err(Error::NotFound { .. }) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// After a call to a sandbox's shim failed: fine when the shim is dead and buried, which
    /// makes its sandboxes not ready; else `error`.
    async fn settled(&self, id: &SandboxId, error: Error) -> Result<()> {
        if !matches!(error, Error::Unavailable(_)) {
            return Err(error);
        }
        let done = || {
            let sandbox = self.records.sandbox(id);
            sandbox.is_none_or(|sandbox| sandbox.state != SandboxState::Ready).then_some(())
        };
        self.await_news(id.as_str(), done).await.ok_or(error)
    }

    pub(super) async fn discard_sandbox(self: Arc<Self>, id: SandboxId) -> Result<()> {
        let turn = self.records.turn(id.as_str());
        let _turn = turn.operation.write().await;
        let Some(sandbox) = self.records.sandbox(&id) else { return Ok(()) };
        if sandbox.state == SandboxState::Ready {
            self.end_ready_sandbox(&sandbox).await?;
        }
        self.give_up_network(&id).await;
        self.records.set_sandbox(&id, SandboxVerb::Remove).await?;
        self.finish_removal(&sandbox).await
    }

    /// What comes after the record says "removing". The caller has the sandbox's turn.
    pub(super) async fn finish_removal(&self, sandbox: &Sandbox) -> Result<()> {
        let shim = self.shims.get(sandbox.shim.as_ref());
        if let Ok(shim) = &shim {
            self.remove_from_shim(shim, &sandbox.id).await?;
        }
        let containers = self.records.read().containers_of(&sandbox.id);
        let mut folders: Vec<_> = containers.iter().map(|c| self.folders.root_of(&c.id)).collect();
        folders.push(self.folders.sandbox(&sandbox.id));
        if let Ok(chain) = self.chain() {
            chain.forget_pod(&sandbox.id);
        }
        self.sweep(folders).await;
        self.records.change(vec![Change::ForgetSandbox(sandbox.id.clone())]).await?;
        self.let_exec_codes_go().await;
        self.tell_plugins(Step::RemoveSandbox, sandbox, None).await;
        if let Ok(shim) = shim {
            shim.release();
            self.shims.end_surplus().await;
        }
        Ok(())
    }

    async fn remove_from_shim(&self, shim: &Arc<Shim>, id: &SandboxId) -> Result<()> {
        match shim.wire().remove_sandbox(by_id(id)).await {
            Ok(_) => Ok(()),
            Err(status) => match failure("removing a sandbox", &status) {
                Error::NotFound { .. } => Ok(()),
                // A dead shim holds nothing.
                Error::Unavailable(_) if super::client::is_gone(&shim.folder.socket()).await => {
                    Ok(())
                }
                error => Err(error),
            },
        }
    }

    /// Removes folders; what cannot be removed now is removed when the daemon starts again.
    pub(super) async fn sweep(&self, folders: Vec<std::path::PathBuf>) {
        let swept = tokio::task::spawn_blocking(move || {
            for folder in folders {
                if let Err(error) = sweep::remove(&folder) {
                    tracing::warn!(%error, "a folder stays until the next start");
                }
            }
        });
        let _ = swept.await;
    }
}

pub(super) fn by_id(id: &SandboxId) -> wire::SandboxRequest {
    wire::SandboxRequest { id: id.to_string() }
}
