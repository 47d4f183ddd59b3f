//! Pods' networks: a named namespace for each sandbox, attached by CNI plugins and given back,
//! however the daemon ends. Knows sandboxes as plain data; nothing of shims, CRI or the records.
//!
//! What a kill -9 leaves after each step of attaching, and what the next daemon does: an entry
//! of the journal, a namespace, both, an ADD that still runs, one that is through. Without a
//! record that says "ready" all of them end alike: what still runs is waited for, DEL, the
//! namespace goes, the entry goes; a namespace without an entry was never told to a plugin.

mod capabilities;
mod chain;
mod conf;
mod examine;
mod group;
mod journal;
mod namespace;
mod orphans;
mod plugin;
mod readiness;
mod result;
mod version;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

pub use capabilities::PortsKeeper;
use chain::Chain;
use conf::{Choice, Confs, NetworkList};
pub use examine::examine;
use journal::{Attachment, Journal};
use namespace::{Door, Namespaces};
use orphans::{Owner, Work};
use plugin::Plugins;
pub use readiness::Readiness;

use crate::config::{Collection, Config, NetworkConfig};
use crate::error::{Error, Result};
use crate::model::ids::SandboxId;
use crate::model::sandbox::Sandbox;

/// The pod's interface, as kubelets, containerd and CRI-O have it.
pub const INTERFACE: &str = "eth0";

/// Between two tries of a DEL; the wait doubles from the first to the second.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub struct Network {
    config: NetworkConfig,
    confs: Confs,
    plugins: Plugins,
    namespaces: Namespaces,
    journal: Journal,
    attached: Mutex<Attached>,
    status: readiness::Memory,
    own: Weak<Network>,
}

#[derive(Default)]
struct Attached {
    /// Those with an entry in the journal.
    ids: BTreeSet<SandboxId>,
    /// One operation at a time on a sandbox (the specification's rule).
    gates: HashMap<SandboxId, Arc<tokio::sync::Mutex<()>>>,
    /// Those whose DEL is repeated in the background.
    retried: BTreeSet<SandboxId>,
}

/// A sandbox's attached namespace.
#[derive(Debug)]
pub struct Attachments {
    pub addresses: Vec<IpAddr>,
    pub ports: PortsKeeper,
    door: Door,
}

impl Attachments {
    /// A path to the namespace for other processes, good as long as this value lives.
    pub fn namespace(&self) -> String {
        self.door.path()
    }
}

impl Network {
    /// Opens the journal. Nothing is done about what it names before [`Network::recover`].
    pub fn open(config: &Config) -> Result<Arc<Self>> {
        let folder = config.root.join("network");
        let owner = Owner::new(folder.clone());
        let (journal, ids) = Journal::open(folder)?;
        Ok(Arc::new_cyclic(|own| Self {
            confs: Confs::new(config.network.conf_dir.clone()),
            plugins: Plugins::new(&config.network, owner),
            namespaces: Namespaces::new(config.state.join("netns")),
            journal,
            attached: Mutex::new(Attached {
                ids: ids.into_iter().collect(),
                ..Attached::default()
            }),
            status: readiness::Memory::default(),
            config: config.network.clone(),
            own: own.clone(),
        }))
    }

    /// For the daemon's end: no plugin outlives it, for nobody would hear it out. What that cuts
    /// short is the next daemon's to give back.
    pub fn close(&self) {
        self.plugins.end();
    }

    fn attached(&self) -> MutexGuard<'_, Attached> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn gate(&self, id: &SandboxId) -> OwnedMutexGuard<()> {
        let gate = self.attached().gates.entry(id.clone()).or_default().clone();
        gate.lock_owned().await
    }

    /// What the configuration's folder says now. Without privileges there are no plugins.
    async fn choice(self: &Arc<Self>) -> Result<Choice> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Choice::Absent);
        }
        self.blocking(|network| Ok(network.confs.choose())).await
    }

    /// Makes a sandbox's namespace and attaches it to the network that is configured; `None`
    /// where none is. When it fails, nothing is left, or is given back in the background.
    pub async fn attach(self: &Arc<Self>, sandbox: &Sandbox) -> Result<Option<Attachments>> {
        let network = match self.choice().await? {
            Choice::Network(network) => network,
            Choice::Absent => return Ok(None),
            Choice::Broken(why) => return Err(Error::Network(format!("no network: {why}"))),
        };
        let attachment = self.plan(sandbox, &network).await?;
        let id = &sandbox.id;
        let gate = self.gate(id).await;
        self.attached().ids.insert(id.clone());
        match self.add(&attachment).await {
            Ok(attachments) => Ok(Some(attachments)),
            Err(error) => {
                if let Err(undoing) = self.release(id).await {
                    tracing::warn!(sandbox = %id, error = %undoing, "a failed ADD is not undone yet");
                    self.retry(id, gate);
                }
                Err(error)
            }
        }
    }

    async fn plan(&self, sandbox: &Sandbox, network: &NetworkList) -> Result<Attachment> {
        let args = capabilities::args(sandbox)?;
        let capabilities = capabilities::of(sandbox)?;
        capabilities::check(&capabilities, network)?;
        Ok(Attachment {
            id: sandbox.id.clone(),
            version: chain::negotiate(&self.plugins, network).await?,
            network: network.clone(),
            interface: INTERFACE.to_owned(),
            args,
            capabilities,
        })
    }

    async fn add(self: &Arc<Self>, attachment: &Attachment) -> Result<Attachments> {
        let (made, begun) = {
            let (id, entry) = (attachment.id.clone(), attachment.clone());
            tokio::join!(
                self.blocking(move |network| network.namespaces.make(&id)),
                self.blocking(move |network| network.journal.begin(&entry)),
            )
        };
        made.and(begun)?;
        let path = self.namespaces.path(&attachment.id);
        let chain = Chain { plugins: &self.plugins, attachment, namespace: Some(&path) };
        let id = attachment.id.clone();
        // A disk takes as long as a plugin, so both go side by side.
        let secured = self.blocking(move |network| network.journal.secure(&id));
        let (outcome, secured) = tokio::join!(chain.add(), secured);
        let outcome = outcome?;
        secured?;
        let name = &attachment.network.name;
        let given = outcome
            .given(INTERFACE)
            .map_err(|why| Error::Network(format!("network {name} {why}")))?;
        let (id, addresses) = (attachment.id.clone(), given.addresses.clone());
        let missing = self
            .blocking(move |network| {
                network.journal.note(&id, &outcome.value)?;
                if !given.is_listed {
                    return Ok(None);
                }
                namespace::missing(network.namespaces.path(&id), INTERFACE.to_owned(), addresses)
            })
            .await?;
        if let Some(what) = missing {
            return Err(Error::Network(format!(
                "network {name} says that the pod has {what}, and its namespace has not"
            )));
        }
        let door = self.namespaces.open(&attachment.id)?;
        let ports = capabilities::ports_keeper(&attachment.network);
        Ok(Attachments { addresses: given.addresses, ports, door })
    }

    /// Gives back what a sandbox has of its network, and the namespace; at once when there is
    /// nothing. A failure is repeated in the background until it is none.
    pub async fn detach(self: &Arc<Self>, id: &SandboxId) -> Result<()> {
        if !self.attached().ids.contains(id) {
            return Ok(());
        }
        let gate = self.gate(id).await;
        let outcome = self.release(id).await;
        if outcome.is_err() {
            self.retry(id, gate);
        }
        outcome
    }

    /// DEL, then the namespace, then the journal's entry. The caller has the sandbox's gate.
    async fn release(self: &Arc<Self>, id: &SandboxId) -> Result<()> {
        let own = id.clone();
        let entry = self
            .blocking(move |network| {
                Ok((network.journal.read(&own)?, network.namespaces.find(&own)))
            })
            .await?;
        if let (Some((attachment, result)), namespace) = &entry {
            let namespace = namespace.as_deref();
            let chain = Chain { plugins: &self.plugins, attachment, namespace };
            chain.del(result.as_ref()).await?;
        }
        let own = id.clone();
        self.blocking(move |network| {
            network.namespaces.remove(&own)?;
            network.journal.end(&own)
        })
        .await?;
        let mut attached = self.attached();
        attached.ids.remove(id);
        attached.gates.remove(id);
        Ok(())
    }

    /// Repeats a sandbox's DEL in the background until it works; once however often it is
    /// asked for. Takes the gate's turn so that nobody comes before the wait begins.
    fn retry(&self, id: &SandboxId, gate: OwnedMutexGuard<()>) {
        drop(gate);
        if !self.attached().retried.insert(id.clone()) {
            return;
        }
        let (own, id) = (self.own.clone(), id.clone());
        tokio::spawn(async move {
            let mut wait = FIRST_WAIT;
            loop {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
                let Some(network) = own.upgrade() else { return };
                match network.release_again(&id).await {
                    Ok(()) => {
                        network.attached().retried.remove(&id);
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(sandbox = %id, %error, "a pod's network is not given back");
                    }
                }
            }
        });
    }

    async fn release_again(self: &Arc<Self>, id: &SandboxId) -> Result<()> {
        if !self.attached().ids.contains(id) {
            return Ok(());
        }
        let _gate = self.gate(id).await;
        self.release(id).await
    }

    /// For a daemon's start, before it serves: `ready` are the sandboxes that live. Gives back,
    /// in the background, what every other one had, over reboots too; looks whether the living
    /// ones' networks are as they were.
    pub async fn recover(self: &Arc<Self>, ready: &BTreeSet<SandboxId>) {
        let kept = self.attached().ids.clone();
        let swept = self
            .blocking({
                let kept = kept.clone();
                move |network| network.namespaces.sweep(|id| kept.contains(id))
            })
            .await;
        if let Err(error) = swept {
            tracing::warn!(%error, "a stray network namespace stays");
        }
        let busy = self.orphaned(&kept).await;
        let (live, gone): (Vec<_>, Vec<_>) = kept.into_iter().partition(|id| ready.contains(id));
        for id in gone {
            let is_busy = busy.contains(&id);
            // Taken here, so that no other call for the sandbox comes first.
            let gate = self.gate(&id).await;
            let network = self.clone();
            tokio::spawn(async move { network.give_back(id, gate, is_busy).await });
        }
        for id in live.iter().filter(|id| busy.contains(*id)).cloned() {
            let gate = self.gate(&id).await;
            let network = self.clone();
            tokio::spawn(async move {
                network.settle(Work::Sandbox(id)).await;
                drop(gate);
            });
        }
        if self.config.garbage == Collection::AtStart {
            self.collect(&live).await;
        }
        if !live.is_empty() {
            let network = self.clone();
            tokio::spawn(async move { network.check(live).await });
        }
    }

    /// The sandboxes of these that a plugin of the last daemon works for. Those of its plugins
    /// that work for none are ended in the background.
    async fn orphaned(self: &Arc<Self>, kept: &BTreeSet<SandboxId>) -> BTreeSet<SandboxId> {
        let network = self.clone();
        tokio::spawn(async move { network.settle(Work::Network).await });
        if kept.is_empty() {
            return BTreeSet::new();
        }
        let found = self.blocking(|network| Ok(network.plugins.owner().orphaned())).await;
        let works = found.unwrap_or_default().into_iter();
        works
            .filter_map(|work| match work {
                Work::Sandbox(id) => Some(id),
                Work::Network => None,
            })
            .collect()
    }

    async fn settle(&self, work: Work) {
        self.plugins.owner().settle(work, self.plugins.limit()).await;
    }

    async fn give_back(self: Arc<Self>, id: SandboxId, gate: OwnedMutexGuard<()>, is_busy: bool) {
        if is_busy {
            self.settle(Work::Sandbox(id.clone())).await;
        }
        match self.release(&id).await {
            Ok(()) => tracing::info!(sandbox = %id, "a gone pod's network is given back"),
            Err(error) => {
                tracing::warn!(sandbox = %id, %error, "a gone pod's network is not given back yet");
                self.retry(&id, gate);
            }
        }
    }

    /// A network that a living pod lost cannot be mended under it, but it can be told.
    async fn check(self: Arc<Self>, live: Vec<SandboxId>) {
        for id in live {
            let _gate = self.gate(&id).await;
            let own = id.clone();
            let entry = self.blocking(move |network| network.journal.read(&own)).await;
            let Ok(Some((attachment, Some(result)))) = entry else { continue };
            let path = self.namespaces.path(&id);
            let chain =
                Chain { plugins: &self.plugins, attachment: &attachment, namespace: Some(&path) };
            if let Err(error) = chain.check(&result).await {
                tracing::warn!(sandbox = %id, %error, "a pod's network is not as it was");
            }
        }
    }

    /// Before anything is attached: what is attached meanwhile would be taken for garbage.
    async fn collect(self: &Arc<Self>, live: &[SandboxId]) {
        let Ok(Choice::Network(network)) = self.choice().await else { return };
        let valid: Vec<(String, String)> =
            live.iter().map(|id| (id.to_string(), INTERFACE.to_owned())).collect();
        if let Err(error) = chain::collect(&self.plugins, &network, &valid).await {
            tracing::warn!(%error, "unused parts of the network are not collected");
        }
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Network) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let network = self.clone();
        tokio::task::spawn_blocking(move || work(&network))
            .await
            .unwrap_or_else(|_| Err(Error::Internal("a network's step panicked".to_owned())))
    }
}
