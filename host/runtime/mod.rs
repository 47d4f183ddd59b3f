//! The daemon's core: which sandboxes and containers there are, what may become of them, and
//! which shim holds them. Speaks the model and the shim's protocol; nothing of CRI or wasmtime.

mod adjusting;
mod annotations;
mod census;
mod cgroup;
mod change;
mod client;
mod containers;
mod db;
mod etc_layer;
mod exec;
mod exec_codes;
mod exits;
mod folders;
mod footprint;
mod held;
mod index;
mod launch;
mod network;
pub mod news;
mod order;
mod own_hooks;
mod plugins;
mod pod_limits;
mod records;
mod recovery;
mod sandboxes;
mod seating;
mod shelf;
mod shim_process;
mod shims;
mod sizes;
mod stats;
mod stop;
mod streams;
#[cfg(test)]
pub mod streams_tests;
mod sweep;
mod user;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use change::Change;
use exec_codes::ExecCodes;
use folders::Folders;
use records::Records;
use shims::Shims;
use tokio::sync::broadcast;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::image::ImageStore;
use crate::lifecycle::Chain;
use crate::model::container::{Container, ContainerConfig, Exit};
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::resources::{PodResources, Resources};
use crate::model::sandbox::{Realm, Sandbox, SandboxConfig};
use crate::network::Network;
use crate::telemetry::trace;

pub use crate::network::INTERFACE;
pub use footprint::Size;
pub use stats::{ContainerUsage, Depth, Disk, Interface, SandboxUsage, Traffic};
pub use streams::{Control, Resizer, Session, Wanted};

/// The core, shared by every socket. Every method that changes something is durable when it
/// returns, and runs to its end even if its caller goes away.
pub struct Runtime {
    config: Config,
    images: Arc<ImageStore>,
    folders: Folders,
    records: Arc<Records>,
    shims: Arc<Shims>,
    network: Arc<Network>,
    sizes: Arc<sizes::Sizes>,
    exec_codes: ExecCodes,
    /// Guests' threads that stayed in a system call although interrupted, since the start.
    stuck_threads: AtomicU64,
    /// Set before the first request.
    chain: OnceLock<Chain>,
    /// Keeps other daemons out of `<root>`.
    _lock: std::fs::File,
}

/// Which sandboxes or containers a list wants; empty and `None` match all. Ids may be unique
/// prefixes; one that matches nothing gives an empty list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `None`: every realm's.
    pub realm: Option<Realm>,
    pub id: String,
    pub sandbox: String,
    pub labels: BTreeMap<String, String>,
}

/// What an exec gave.
#[derive(Debug)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

/// Runs `work` to its end whatever becomes of the caller.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(trace::carried(work))
        .await
        .unwrap_or_else(|error| Err(Error::Internal(format!("an operation broke off: {error}"))))
}

/// `None` where there is no such thing: what stop and remove succeed with.
fn if_there<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Runtime {
    /// Opens the state database, finds living shims again, and settles what a kill left half
    /// done: afterwards every record is true.
    pub async fn open(config: Config, images: Arc<ImageStore>) -> Result<Arc<Self>> {
        Self::open_with(config, images, shim_process::own_program()).await
    }

    /// As [`Runtime::open`], with shims that are `program shim ...`: a test is not its own
    /// executable's shim.
    pub async fn open_with(
        config: Config,
        images: Arc<ImageStore>,
        program: PathBuf,
    ) -> Result<Arc<Self>> {
        recovery::open(config, images, program).await
    }

    /// Everything that happens to sandboxes and containers from now on.
    pub fn news(&self) -> broadcast::Receiver<news::News> {
        self.records.listen()
    }

    /// Ends network plugins at work and the shims that hold no sandbox; the others live on. For a
    /// daemon that stops in order; one that is killed finds them again.
    pub async fn close(&self) {
        if let Some(chain) = self.chain.get() {
            chain.end().await;
        }
        self.network.close();
        self.shims.end_all_empty().await;
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn images(&self) -> &Arc<ImageStore> {
        &self.images
    }

    pub async fn run_sandbox(
        self: &Arc<Self>,
        realm: Realm,
        handler: &str,
        config: SandboxConfig,
    ) -> Result<SandboxId> {
        to_its_end(self.clone().make_sandbox(realm, handler.to_owned(), config)).await
    }

    /// `id` here and below: a full id or a unique prefix, within `realm` (`None`: any). Stop and
    /// remove succeed when there is none.
    pub async fn stop_sandbox(self: &Arc<Self>, realm: Option<Realm>, id: &str) -> Result<()> {
        let Some(sandbox) = if_there(self.sandbox(realm, id))? else { return Ok(()) };
        to_its_end(self.clone().end_sandbox(sandbox.id.clone())).await
    }

    pub async fn remove_sandbox(self: &Arc<Self>, realm: Option<Realm>, id: &str) -> Result<()> {
        let Some(sandbox) = if_there(self.sandbox(realm, id))? else { return Ok(()) };
        to_its_end(self.clone().discard_sandbox(sandbox.id.clone())).await
    }

    pub fn sandbox(&self, realm: Option<Realm>, id: &str) -> Result<Arc<Sandbox>> {
        self.records.read().sandboxes.find(realm, id)
    }

    /// Newest first. `filter.sandbox` is not used.
    pub fn sandboxes(&self, filter: &Filter) -> Vec<Arc<Sandbox>> {
        self.records.read().list_sandboxes(filter)
    }

    /// Records what is said and applies what can be applied, or changes nothing.
    pub async fn update_pod_resources(
        self: &Arc<Self>,
        realm: Option<Realm>,
        id: &str,
        update: PodResources,
    ) -> Result<()> {
        let sandbox = self.sandbox(realm, id)?;
        let named = [("overhead", &update.overhead), ("resources", &update.resources)];
        for (what, resources) in named {
            resources.as_ref().map_or(Ok(()), |resources| pod_limits::check(what, resources))?;
        }
        to_its_end(self.clone().set_pod_limits(sandbox.id.clone(), update)).await
    }

    pub async fn create_container(
        self: &Arc<Self>,
        realm: Option<Realm>,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<ContainerId> {
        let sandbox = self.sandbox(realm, sandbox)?;
        to_its_end(self.clone().make_container(sandbox, config)).await
    }

    pub async fn start_container(self: &Arc<Self>, realm: Option<Realm>, id: &str) -> Result<()> {
        let container = self.container(realm, id)?;
        to_its_end(self.clone().begin_container(container.id.clone())).await
    }

    /// Returns once it is stopped; the exit is `None` for one that is not there.
    pub async fn stop_container(
        self: &Arc<Self>,
        realm: Option<Realm>,
        id: &str,
        grace: Duration,
    ) -> Result<Option<Exit>> {
        let Some(container) = if_there(self.container(realm, id))? else { return Ok(None) };
        let (runtime, plan) = (self.clone(), self.stop_plan(&container, grace));
        to_its_end(async move { runtime.end_container(&container.id, plan).await }).await
    }

    pub async fn remove_container(self: &Arc<Self>, realm: Option<Realm>, id: &str) -> Result<()> {
        let Some(container) = if_there(self.container(realm, id))? else { return Ok(()) };
        to_its_end(self.clone().discard_container(container.id.clone())).await
    }

    pub fn container(&self, realm: Option<Realm>, id: &str) -> Result<Arc<Container>> {
        self.records.read().containers.find(realm, id)
    }

    /// Newest first.
    pub fn containers(&self, filter: &Filter) -> Vec<Arc<Container>> {
        self.records.read().list_containers(filter)
    }

    /// The containers that were made of an image, those being made included.
    pub fn containers_of_image(&self, image: &str) -> Vec<Arc<Container>> {
        let records = self.records.read();
        records.containers.iter().filter(|found| found.needs_image(image)).cloned().collect()
    }

    /// Applies what can be applied, or changes nothing.
    pub async fn update_resources(
        self: &Arc<Self>,
        realm: Option<Realm>,
        id: &str,
        update: &Resources,
    ) -> Result<()> {
        let container = self.container(realm, id)?;
        let update = launch::applied(update)?;
        to_its_end(self.clone().set_limits(container.id.clone(), update)).await
    }

    pub async fn reopen_log(&self, realm: Option<Realm>, id: &str) -> Result<()> {
        let container = self.container(realm, id)?;
        self.reopen(&container).await
    }

    /// `timeout` of `None` waits for ever; over it is `Error::DeadlineExceeded`, and nothing of
    /// the program is left.
    pub async fn exec(
        self: &Arc<Self>,
        realm: Option<Realm>,
        id: &str,
        argv: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let container = self.container(realm, id)?;
        to_its_end(self.clone().run_in(container, argv, timeout)).await
    }

    /// Runs a program whose streams are the session's; it ends with the session.
    pub async fn open_exec(
        self: &Arc<Self>,
        realm: Option<Realm>,
        id: &str,
        (argv, wanted): (Vec<String>, Wanted),
    ) -> Result<Session> {
        let container = self.container(realm, id)?;
        to_its_end(self.clone().begin_exec(container, argv, wanted)).await
    }

    /// The main program's streams, as they come from now on.
    pub async fn attach(
        self: &Arc<Self>,
        realm: Option<Realm>,
        id: &str,
        wanted: Wanted,
    ) -> Result<Session> {
        let container = self.container(realm, id)?;
        to_its_end(self.clone().begin_attach(container, wanted)).await
    }

    /// A TCP connection to a port of a ready sandbox, as its own programs would make it.
    pub async fn dial(
        self: &Arc<Self>,
        realm: Option<Realm>,
        id: &str,
        port: u16,
    ) -> Result<tokio::net::TcpStream> {
        let sandbox = self.sandbox(realm, id)?;
        self.connect(&sandbox, port).await
    }

    /// Running containers that match.
    pub async fn container_usage(&self, filter: &Filter) -> Result<Vec<ContainerUsage>> {
        Ok(self.usage_of(self.containers(filter)).await)
    }

    /// Ready sandboxes that match.
    pub async fn sandbox_usage(&self, filter: &Filter, depth: Depth) -> Result<Vec<SandboxUsage>> {
        Ok(self.usage_of_sandboxes(self.sandboxes(filter), depth).await)
    }

    /// Where writable roots lie, and what all of them hold that have been measured.
    pub async fn writable_usage(&self) -> (PathBuf, Size) {
        (self.folders.roots(), self.size_of_roots().await)
    }

    /// Remembers the kubelet's pod CIDR (UpdateRuntimeConfig).
    pub async fn set_pod_cidr(&self, cidr: &str) -> Result<()> {
        self.records.change(vec![Change::SetPodCidr(cidr.to_owned())]).await
    }
}
