//! The pool of shims: which there are, which has room, when one is begun and when one is ended.
//! Knows of pods only how many sit where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cgroup::{self, Group};
use super::change::Change;
use super::client::{Client, NoContact};
use super::exits;
use super::index::ShimRecord;
use super::records::Records;
use super::shim_process::{Orders, ShimFolder};
use crate::error::{Error, Result};
use crate::model::cpu_time::CpuControl;
use crate::model::handler::ProcessPlace;
use crate::model::ids::{SandboxId, ShimId};
use crate::proto::SHIM_PROTOCOLS;
use crate::proto::shim as wire;

/// After how many sandboxes a shim is asked whether it has room still.
const ASK_EVERY: u32 = 16;

/// What the pool is told once.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `<state>/shims`.
    pub folders: PathBuf,
    /// What is run as `PROGRAM shim ...`.
    pub program: PathBuf,
    /// Pods in one shared shim.
    pub max_pods: u32,
    /// By what they hold containers to their CPU time.
    pub cpu_control: CpuControl,
    /// What machine code of this daemon is made under.
    pub engine: String,
}

pub struct Shims {
    setup: Setup,
    records: Arc<Records>,
    pool: Mutex<Pool>,
    /// Held while a shared shim is begun, so that a crowd begins one and not many.
    beginning: tokio::sync::Mutex<()>,
    told_of_cgroups: AtomicBool,
}

#[derive(Default)]
struct Pool {
    alive: BTreeMap<ShimId, Arc<Shim>>,
    /// Living processes that cannot be served, and why.
    strange: BTreeMap<ShimId, String>,
}

/// A living shim.
pub struct Shim {
    pub id: ShimId,
    pub place: ProcessPlace,
    pub client: Client,
    pub folder: ShimFolder,
    /// Sandboxes that it holds or is being given.
    held: AtomicU32,
    /// It said that it has no room, and has lost no sandbox since.
    full: AtomicBool,
    /// Sandboxes that it was given by this daemon.
    given: AtomicU32,
    /// It maps the machine code that this daemon has made, and understands all that it says.
    is_current: bool,
}

impl Shim {
    pub fn wire(&self) -> wire::shim_client::ShimClient<tonic::transport::Channel> {
        self.client.wire()
    }

    /// Whether machine code of this daemon runs in it: not in one of another build.
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    fn room(&self, max_pods: u32) -> u32 {
        let open = self.place == ProcessPlace::Shared
            && self.is_current
            && !self.full.load(Ordering::Relaxed);
        if open { max_pods.saturating_sub(self.held.load(Ordering::Relaxed)) } else { 0 }
    }

    /// It lost a sandbox.
    pub fn release(&self) {
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        self.full.store(false, Ordering::Relaxed);
    }
}

/// A sandbox's place in a shim, given back when dropped unless it is kept.
pub struct Seat {
    shim: Arc<Shim>,
    kept: bool,
}

impl Seat {
    fn take(shim: &Arc<Shim>) -> Self {
        shim.held.fetch_add(1, Ordering::Relaxed);
        Self { shim: shim.clone(), kept: false }
    }

    pub fn shim(&self) -> &Arc<Shim> {
        &self.shim
    }

    /// The shim holds the sandbox until [`Shim::release`].
    pub fn keep(mut self) {
        self.kept = true;
        let given = self.shim.given.fetch_add(1, Ordering::Relaxed);
        if given % ASK_EVERY == ASK_EVERY - 1 {
            tokio::spawn(ask_room(self.shim.clone()));
        }
    }

    /// The shim said that it has no room: it is not asked again before it loses a sandbox.
    pub fn refused(self) {
        let shim = self.shim.clone();
        drop(self);
        shim.full.store(true, Ordering::Relaxed);
    }
}

/// Descriptors, mappings or threads may run out before the number of pods does.
async fn ask_room(shim: Arc<Shim>) {
    let mut wire = shim.wire();
    let hello = wire.hello(wire::HelloRequest { versions: SHIM_PROTOCOLS.to_vec() });
    if hello.await.is_ok_and(|hello| hello.into_inner().room == 0) {
        shim.full.store(true, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.kept {
            self.shim.release();
        }
    }
}

impl Shims {
    pub fn new(setup: Setup, records: Arc<Records>) -> Arc<Self> {
        Arc::new(Self {
            setup,
            records,
            pool: Mutex::default(),
            beginning: tokio::sync::Mutex::new(()),
            told_of_cgroups: AtomicBool::new(false),
        })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn records(&self) -> &Arc<Records> {
        &self.records
    }

    pub fn folder(&self, id: &ShimId) -> ShimFolder {
        ShimFolder::of(&self.setup.folders, id)
    }

    pub fn alive(&self) -> Vec<Arc<Shim>> {
        self.pool().alive.values().cloned().collect()
    }

    /// A living shim. [`Error::Unavailable`] says why there is none.
    pub fn get(&self, id: Option<&ShimId>) -> Result<Arc<Shim>> {
        let gone = || Error::Unavailable("the sandbox's shim is gone".to_owned());
        let id = id.ok_or_else(gone)?;
        let pool = self.pool();
        if let Some(shim) = pool.alive.get(id) {
            return Ok(shim.clone());
        }
        Err(pool.strange.get(id).map_or_else(gone, |why| Error::Unavailable(why.clone())))
    }

    /// Whether a process of that id lives, served or not.
    pub fn is_known(&self, id: Option<&ShimId>) -> bool {
        let pool = self.pool();
        id.is_some_and(|id| pool.alive.contains_key(id) || pool.strange.contains_key(id))
    }

    pub fn is_alive(&self, id: &ShimId) -> bool {
        self.pool().alive.contains_key(id)
    }

    /// Takes the shim out of the pool; what is left of it is cleared away by [`exits::bury`].
    pub fn drop_out(&self, id: &ShimId) {
        let mut pool = self.pool();
        pool.alive.remove(id);
        pool.strange.remove(id);
    }

    /// A place in a shared shim: in the first with room, else in a new one. Begins the next
    /// shim before it is needed.
    pub async fn shared_seat(self: &Arc<Self>) -> Result<Seat> {
        let seat = match self.seat_with_room() {
            Some(seat) => seat,
            None => {
                let _beginning = self.beginning.lock().await;
                match self.seat_with_room() {
                    Some(seat) => seat,
                    None => self.begin_shared().await?,
                }
            }
        };
        if self.room() <= self.setup.max_pods / 8 {
            self.begin_ahead();
        }
        Ok(seat)
    }

    fn seat_with_room(&self) -> Option<Seat> {
        let pool = self.pool();
        pool.alive.values().find(|shim| shim.room(self.setup.max_pods) > 0).map(Seat::take)
    }

    /// Sandboxes that the living shared shims can still take.
    pub fn room(&self) -> u32 {
        let rooms = self.alive().into_iter().map(|shim| shim.room(self.setup.max_pods));
        rooms.fold(0, u32::saturating_add)
    }

    /// Begins a shared shim behind the caller's back unless one is being begun.
    pub fn begin_ahead(self: &Arc<Self>) {
        let shims = self.clone();
        tokio::spawn(async move {
            let Ok(_beginning) = shims.beginning.try_lock() else { return };
            if shims.room() <= shims.setup.max_pods / 8
                && let Err(error) = shims.begin_shared().await
            {
                tracing::warn!(%error, "a shim cannot be begun ahead of need");
            }
        });
    }

    async fn begin_shared(self: &Arc<Self>) -> Result<Seat> {
        let id = ShimId::random();
        let cgroups = cgroup::folders(Group::Shim(&id))?;
        let place = ProcessPlace::Shared;
        self.begin(ShimRecord { id, place, cgroups, parent_cgroups: Vec::new() }).await
    }

    /// A shim of the sandbox's own, in the pod's cgroup.
    pub async fn own_seat(self: &Arc<Self>, sandbox: &SandboxId, parent: &str) -> Result<Seat> {
        let cgroups = cgroup::folders(Group::Pod { parent, sandbox })?;
        let id = ShimId::random();
        let place = ProcessPlace::Pod;
        let parent_cgroups = if parent.is_empty() {
            Vec::new()
        } else {
            // The last pod below a parent removes it, whichever pod it was made for.
            let index = self.records.read();
            let ours = index.shims.values().flat_map(|shim| &shim.parent_cgroups).collect();
            cgroup::missing_above(&cgroups, &ours)
        };
        self.begin(ShimRecord { id, place, cgroups, parent_cgroups }).await
    }

    /// Begins a shim. Its record comes first, so that a daemon which is killed after any step
    /// finds the shim, or its remains, again. It is born with a seat taken, so that nobody ends
    /// it as empty.
    async fn begin(self: &Arc<Self>, record: ShimRecord) -> Result<Seat> {
        let id = record.id.clone();
        self.records.change(vec![Change::AddShim(record.clone())]).await?;
        let begun = self.begin_recorded(&record).await;
        if begun.is_err() {
            exits::bury(self, &id).await;
        }
        begun
    }

    async fn begin_recorded(self: &Arc<Self>, record: &ShimRecord) -> Result<Seat> {
        let folder = self.folder(&record.id);
        let max_pods = match record.place {
            ProcessPlace::Shared => self.setup.max_pods,
            ProcessPlace::Pod => 1,
        };
        let cpu_control = self.setup.cpu_control;
        let mut child = folder.begin(&self.setup.program, Orders { max_pods, cpu_control })?;
        let pid = child.id().unwrap_or_default();
        if let Err(error) = cgroup::enter(&record.cgroups, pid)
            && !self.told_of_cgroups.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "shims stay in the daemon's cgroup where they cannot leave it");
        }
        let connected = tokio::select! {
            connected = Client::connect(folder.socket()) => connected,
            ended = child.wait() => {
                let how = ended.map_or_else(|e| e.to_string(), |status| status.to_string());
                let words = folder.last_words();
                return Err(Error::Unavailable(format!("a new shim ended ({how}): {words}")));
            }
        };
        let client = match connected {
            Ok(client) => client,
            Err(no_contact) => {
                let _ = child.kill().await;
                return Err(match no_contact {
                    NoContact::Strange(error) => error,
                    NoContact::Gone => {
                        Error::Unavailable(format!("a new shim ended: {}", folder.last_words()))
                    }
                });
            }
        };
        tokio::spawn(async move { child.wait().await });
        Ok(Seat { shim: self.admit(record, client, 1), kept: false })
    }

    /// Takes a shim that answers, and holds `held` sandboxes, into the pool and listens to it.
    pub fn admit(self: &Arc<Self>, record: &ShimRecord, client: Client, held: u32) -> Arc<Shim> {
        let shim = Arc::new(Shim {
            id: record.id.clone(),
            place: record.place,
            folder: self.folder(&record.id),
            held: AtomicU32::new(held),
            full: AtomicBool::new(client.hello.room == 0),
            given: AtomicU32::new(0),
            is_current: client.hello.engine == self.setup.engine
                && client.hello.version == SHIM_PROTOCOLS[0],
            client,
        });
        self.pool().alive.insert(shim.id.clone(), shim.clone());
        tokio::spawn(exits::watch(Arc::downgrade(self), shim.clone()));
        shim
    }

    /// The engines of all living shims; `None` when one does not say.
    pub fn engines(&self) -> Option<BTreeSet<String>> {
        let pool = self.pool();
        let known = pool.strange.is_empty();
        known.then(|| pool.alive.values().map(|shim| shim.client.hello.engine.clone()).collect())
    }

    /// Keeps a living process that cannot be served out of the way.
    pub fn set_aside(&self, id: &ShimId, why: &Error) {
        tracing::warn!(shim = %id, %why, "a shim is left alone");
        self.pool().strange.insert(id.clone(), why.to_string());
    }

    /// Ends shims that nobody needs: a pod's own without its pod, those of another build, and
    /// all empty shared ones but one.
    pub async fn end_surplus(self: &Arc<Self>) {
        let mut spared = false;
        self.end_empty(|shim| {
            let spare = shim.place == ProcessPlace::Shared && shim.is_current && !spared;
            spared |= spare;
            !spare
        })
        .await;
    }

    /// Ends every shim without a sandbox: the daemon is going to stop.
    pub async fn end_all_empty(self: &Arc<Self>) {
        self.end_empty(|_| true).await;
    }

    async fn end_empty(self: &Arc<Self>, mut unwanted: impl FnMut(&Shim) -> bool) {
        let surplus: Vec<Arc<Shim>> = {
            let mut pool = self.pool();
            let empty = pool.alive.values().filter(|s| s.held.load(Ordering::Relaxed) == 0);
            let surplus: Vec<_> = empty.filter(|shim| unwanted(shim)).cloned().collect();
            // Out of the pool under one lock with the look, so that nobody takes a seat.
            for shim in &surplus {
                pool.alive.remove(&shim.id);
            }
            surplus
        };
        futures::future::join_all(surplus.iter().map(|shim| self.end(shim))).await;
    }

    /// Ends a shim that is out of the pool; nothing of it is left.
    async fn end(self: &Arc<Self>, shim: &Shim) {
        let mut wire = shim.wire();
        let asked =
            tokio::time::timeout(Duration::from_secs(2), wire.shutdown(wire::Empty {})).await;
        let polls = if matches!(asked, Ok(Ok(_))) { 600 } else { 1 };
        if !shim.folder.wait_gone(polls).await {
            tracing::warn!(shim = %shim.id, "a shim does not end when asked and is killed");
            shim.folder.kill(shim.client.hello.pid).await;
            shim.folder.wait_gone(600).await;
        }
        exits::bury(self, &shim.id).await;
    }
}
