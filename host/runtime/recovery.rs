//! The daemon's start: finds the living shims again and makes every record true.
//!
//! 1. Each shim that was ever begun is greeted. Dead ones are buried: their containers get the
//!    exit that the shim wrote down, else 255 Unknown.
//! 2. A living one tells what it holds. What no record names is removed from it; records learn
//!    what it says (a start that was under way, an exit that nobody heard).
//! 3. Records that are still being made are forgotten, those being removed are removed.
//! 4. Folders and cgroups without a record vanish, limits are applied again.
//!
//! Every step can be repeated: a daemon killed in here begins again.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::Runtime;
use super::cgroup::{self, Group};
use super::change::Change;
use super::client::{Client, NoContact};
use super::containers;
use super::exits;
use super::folders::Folders;
use super::held::Held;
use super::index::ShimRecord;
use super::records::{Records, now};
use super::sandboxes;
use super::shims::{Setup, Shim, Shims};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::image::ImageStore;
use crate::model::container::{Container, ContainerState, ContainerVerb, Exit};
use crate::model::handler::ProcessPlace;
use crate::model::ids::{ContainerId, SandboxId, ShimId};
use crate::model::sandbox::{Sandbox, SandboxState, SandboxVerb};
use crate::network::Network;
use crate::proto::shim as wire;
use wire::container_state::Phase;

/// How long the remains of a daemon that was just killed may hold its locks.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

pub async fn open(
    config: Config,
    images: Arc<ImageStore>,
    program: PathBuf,
) -> Result<Arc<Runtime>> {
    let folders = Folders::new(&config);
    for folder in [&config.root, &config.state] {
        make_folder(folder, 0o711)?;
    }
    for folder in [folders.roots(), folders.sandboxes(), folders.shims()] {
        make_folder(&folder, 0o700)?;
    }
    let lock = lock(&folders.lock()).await?;
    let records = Arc::new(open_records(&folders.database()).await?);
    let engine = crate::engine::new()
        .map_err(|error| Error::Internal(format!("this host cannot run wasm: {error}")))?;
    let setup = Setup {
        folders: folders.shims(),
        program,
        max_pods: config.shim.max_pods.max(1),
        cpu_control: config.shim.cpu_control,
        engine: crate::engine::compatibility(&engine),
    };
    drop(engine);
    let runtime = Arc::new(Runtime {
        shims: Shims::new(setup, records.clone()),
        network: Network::open(&config)?,
        config,
        images,
        folders,
        records,
        sizes: Arc::default(),
        exec_codes: Default::default(),
        stuck_threads: Default::default(),
        chain: OnceLock::new(),
        _lock: lock,
    });
    runtime.recover().await?;
    runtime.begin_plugins().await?;
    Ok(runtime)
}

fn make_folder(folder: &Path, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .map_err(Error::io(format!("making {}", folder.display())))
}

/// Two daemons with one root would sweep each other's containers away.
async fn lock(path: &Path) -> Result<File> {
    let doing = || Error::io(format!("locking {}", path.display()));
    let file =
        File::options().create(true).truncate(false).write(true).open(path).map_err(doing())?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(std::fs::TryLockError::Error(error)) => return Err(doing()(error)),
        }
    }
    Err(Error::Precondition(format!("another wasmpod uses the root folder of {}", path.display())))
}

async fn open_records(path: &Path) -> Result<Records> {
    let mut tries = 1;
    loop {
        match Records::open(path) {
            Err(Error::Precondition(_)) if tries < LOCK_TRIES => {
                tries += 1;
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

impl Runtime {
    async fn recover(self: &Arc<Self>) -> Result<()> {
        self.record_strays().await?;
        let shims: Vec<ShimRecord> = self.records.read().shims.values().cloned().collect();
        let greeted = shims.iter().map(|record| self.greet(record));
        for (shim, held) in futures::future::join_all(greeted).await.into_iter().flatten() {
            self.remove_unknown(&shim, &held).await;
            self.learn(&shim.id, &held).await?;
        }
        self.lose_homeless().await?;
        self.finish_halves().await?;
        self.recover_networks().await;
        self.sweep_strays()?;
        let shims = self.records.read().shims.clone();
        cgroup::sweep(&shims.into_values().flat_map(|shim| shim.cgroups).collect());
        self.apply_all_limits().await;
        self.shims.end_surplus().await;
        if let Some(used) = self.shims.engines() {
            self.images.retain_engines(used).await?;
        }
        if self.shims.room() == 0 {
            self.shims.begin_ahead();
        }
        Ok(())
    }

    /// Shims whose folder no record names: of a database that was lost.
    async fn record_strays(&self) -> Result<()> {
        let ids = names_in(&self.folders.shims())?.into_iter().filter_map(|n| ShimId::parse(&n));
        let mut strays = Vec::new();
        for id in ids.filter(|id| !self.records.read().shims.contains_key(id)) {
            let cgroups = cgroup::folders(Group::Shim(&id))?;
            let place = ProcessPlace::Shared;
            let record = ShimRecord { id, place, cgroups, parent_cgroups: Vec::new() };
            strays.push(Change::AddShim(record));
        }
        if strays.is_empty() { Ok(()) } else { self.records.change(strays).await }
    }

    /// Takes a living shim into the pool; buries a dead one.
    async fn greet(&self, record: &ShimRecord) -> Option<(Arc<Shim>, Held)> {
        let socket = self.shims.folder(&record.id).socket();
        let client = match Client::connect(socket).await {
            Ok(client) => client,
            Err(NoContact::Gone) => {
                exits::bury(&self.shims, &record.id).await;
                return None;
            }
            Err(NoContact::Strange(why)) => {
                self.shims.set_aside(&record.id, &why);
                return None;
            }
        };
        let held = match Held::ask(&client).await {
            Ok(held) => held,
            Err(why) => {
                self.shims.set_aside(&record.id, &why);
                return None;
            }
        };
        let known = held.sandboxes.keys().filter(|id| self.belongs(&record.id, id)).count();
        let known = u32::try_from(known).unwrap_or(u32::MAX);
        Some((self.shims.admit(record, client, known), held))
    }

    /// Whether a record says that this shim holds that sandbox.
    fn belongs(&self, shim: &ShimId, sandbox: &str) -> bool {
        let sandbox = SandboxId::parse(sandbox).and_then(|id| self.records.sandbox(&id));
        sandbox.is_some_and(|s| s.shim.as_ref() == Some(shim) && s.state != SandboxState::Creating)
    }

    /// Removes from a shim what was made and never recorded as made.
    async fn remove_unknown(&self, shim: &Shim, held: &Held) {
        let unknown = held.sandboxes.keys().filter(|id| !self.belongs(&shim.id, id));
        for id in unknown.filter_map(|id| SandboxId::parse(id)) {
            if let Err(status) = shim.wire().remove_sandbox(sandboxes::by_id(&id)).await {
                tracing::warn!(sandbox = %id, %status, "an unknown sandbox cannot be removed");
            }
        }
        for id in held.containers.keys().filter_map(|id| ContainerId::parse(id)) {
            let state = self.records.container(&id).map(|container| container.state.clone());
            // One that is recorded as exited and yet runs is ended by this as well.
            let unknown = match (&state, held.containers.get(id.as_str())) {
                (None | Some(ContainerState::Creating), _) => true,
                (Some(ContainerState::Exited { .. }), Some(c)) => c.phase() != Phase::Exited,
                _ => false,
            };
            if !unknown {
                continue;
            }
            match shim.wire().remove_container(containers::by_id(&id)).await {
                Err(status) if status.code() != tonic::Code::NotFound => {
                    tracing::warn!(container = %id, %status, "an unknown container cannot be removed");
                }
                _ => {}
            }
        }
    }

    /// Brings the records of what a shim holds up to what the shim says.
    async fn learn(&self, shim: &ShimId, held: &Held) -> Result<()> {
        let mut changes = Vec::new();
        {
            let index = self.records.read();
            for sandbox in index.sandboxes.iter().filter(|s| s.shim.as_ref() == Some(shim)) {
                let told = held.sandboxes.get(sandbox.id.as_str());
                let containers = index.containers_of(&sandbox.id);
                // Written ahead of what never came to be: nobody was answered.
                if sandbox.state == SandboxState::Ready && told.is_none() && containers.is_empty() {
                    changes.push(Change::ForgetSandbox(sandbox.id.clone()));
                    continue;
                }
                for container in containers {
                    match held.containers.get(container.id.as_str()) {
                        None if container.state == ContainerState::Created => {
                            changes.push(Change::ForgetContainer(container.id.clone()));
                        }
                        told => changes.extend(settle(&container, told)),
                    }
                }
                if sandbox.state == SandboxState::Ready && told.is_none_or(|told| told.stopped) {
                    changes.push(Change::Sandbox(sandbox.id.clone(), SandboxVerb::Stop));
                }
            }
        }
        self.change_all(changes).await
    }

    async fn change_all(&self, changes: Vec<Change>) -> Result<()> {
        for outcome in self.records.change_each(changes).await {
            match outcome {
                // A shim's news came in between.
                Ok(()) | Err(Error::NotFound { .. } | Error::WrongState { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sandboxes recorded as ready whose shim is neither in the pool nor set aside.
    async fn lose_homeless(&self) -> Result<()> {
        let homeless: BTreeSet<SandboxId> = {
            let index = self.records.read();
            let ready = index.sandboxes.iter().filter(|s| s.state == SandboxState::Ready);
            ready.filter(|s| !self.shims.is_known(s.shim.as_ref())).map(|s| s.id.clone()).collect()
        };
        let mut changes = Vec::new();
        for id in homeless {
            let containers = self.records.read().containers_of(&id);
            changes.extend(containers.iter().flat_map(|container| settle(container, None)));
            changes.push(Change::Sandbox(id, SandboxVerb::Stop));
        }
        self.change_all(changes).await
    }

    /// Undoes what was being made, finishes what was being removed.
    async fn finish_halves(&self) -> Result<()> {
        let (sandboxes, containers) = {
            let index = self.records.read();
            let sandboxes: Vec<_> = index.sandboxes.iter().cloned().collect();
            (sandboxes, index.containers.iter().cloned().collect::<Vec<_>>())
        };
        let mut forget = Vec::new();
        for container in containers {
            match container.state {
                ContainerState::Creating => {
                    forget.push(Change::ForgetContainer(container.id.clone()));
                }
                ContainerState::Removing { .. } => {
                    self.finish_container_removal(&container).await?
                }
                _ => {}
            }
        }
        for sandbox in sandboxes {
            match sandbox.state {
                SandboxState::Creating => forget.push(Change::ForgetSandbox(sandbox.id.clone())),
                SandboxState::Removing => self.finish_removal(&sandbox).await?,
                _ => {}
            }
        }
        self.change_all(forget).await
    }

    /// Removes folders that belong to no record.
    fn sweep_strays(&self) -> Result<()> {
        let strays = {
            let index = self.records.read();
            let roots = names_in(&self.folders.roots())?.into_iter().filter(|name| {
                ContainerId::parse(name).is_none_or(|id| index.containers.get(&id).is_none())
            });
            let roots = roots.map(|name| self.folders.roots().join(name));
            let pods = names_in(&self.folders.sandboxes())?.into_iter().filter(|name| {
                SandboxId::parse(name).is_none_or(|id| index.sandboxes.get(&id).is_none())
            });
            let pods = pods.map(|name| self.folders.sandboxes().join(name));
            roots.chain(pods).collect::<Vec<_>>()
        };
        for folder in strays {
            if let Err(error) = super::sweep::remove(&folder) {
                tracing::warn!(%error, "a stray folder stays");
            }
        }
        Self::clear_execs(&self.folders.execs())
    }

    /// An update that was killed before its record leaves the shim with other limits.
    async fn apply_all_limits(&self) {
        let live = |container: &&Arc<Container>| {
            matches!(container.state, ContainerState::Created | ContainerState::Running { .. })
        };
        let containers: Vec<_> =
            self.records.read().containers.iter().filter(live).cloned().collect();
        let is_ready = |sandbox: &&Arc<Sandbox>| sandbox.state == SandboxState::Ready;
        let sandboxes: Vec<_> =
            self.records.read().sandboxes.iter().filter(is_ready).cloned().collect();
        let pods = sandboxes.iter().map(|s| self.apply_pod_limits(s, s.config.resources.as_ref()));
        let mut applied = futures::future::join_all(pods).await;
        let own = containers.iter().map(|c| self.apply_limits(c, &c.resources));
        applied.extend(futures::future::join_all(own).await);
        for error in applied.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "limits are not applied again");
        }
    }
}

/// What a record learns from its shim; `None`: the shim does not hold the container.
fn settle(container: &Container, told: Option<&wire::ContainerState>) -> Vec<Change> {
    use ContainerState as State;
    if matches!(container.state, State::Creating | State::Removing { .. } | State::Exited { .. }) {
        return Vec::new();
    }
    let lost = || {
        let message = "the container was lost while the daemon was away";
        vec![ContainerVerb::Exit(Exit::lost(now(), message))]
    };
    let verbs = match told {
        None => lost(),
        Some(told) => {
            let run = ContainerVerb::Run { started_at: told.started_at };
            match (told.phase(), told.exit.clone()) {
                (Phase::Created, _) if container.state == State::Starting => {
                    vec![ContainerVerb::Create]
                }
                (Phase::Created, _) => Vec::new(),
                (Phase::Running, _) => vec![run],
                (Phase::Exited, Some(exit)) => {
                    let ran = (told.started_at > 0).then_some(run);
                    ran.into_iter().chain([ContainerVerb::Exit(exit.into())]).collect()
                }
                (Phase::Exited, None) => lost(),
            }
        }
    };
    verbs.into_iter().map(|verb| Change::Container(container.id.clone(), verb)).collect()
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let doing = || Error::io(format!("reading {}", folder.display()));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(doing())? {
        names.push(entry.map_err(doing())?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
