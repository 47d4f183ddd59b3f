//! The one task that owns a pod: observes it through CRI, asks `sync` what is next, and does it,
//! until the pod has ended and may be forgotten.
//!
//!     observe ──> report exits ──> order or deadline? ──> end
//!        ^                              │no
//!        └──── wait <── start, kill <── sync::actions

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::backoff::Backoff;
use super::events::{self, Event};
use super::observe::{Observation, Observer};
use super::pod::Pod;
use super::record::{Ending, Mode, PodPhase, Record};
use super::remote::Remote;
use super::status::{self, Waiting};
use super::stopping::Stopper;
use super::store::{self, Store};
use super::sync::{self, View};
use super::volumes::Volumes;
use crate::error::Result;

/// How long an attached pod waits for its owner, at its beginning and after a daemon's restart.
const OWNERLESS: Duration = Duration::from_secs(10);
/// Between two looks while nobody tells of changes.
const POLL: Duration = Duration::from_millis(200);
/// After a step failed for want of CRI.
const RETRY: Duration = Duration::from_secs(1);

/// What every worker needs of the agent.
#[derive(Clone, Debug)]
pub struct Tools {
    pub remote: Remote,
    pub store: Store,
    /// Of the back-off, as the kubelet's 10 s and 300 s.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// Whether CRI's event stream rings [`Pod::wake`].
    pub told: watch::Receiver<bool>,
}

/// See the module.
#[derive(Debug)]
pub struct Worker {
    pub(super) pod: Arc<Pod>,
    pub(super) record: Record,
    pub(super) tools: Tools,
    observer: Observer,
    /// Of crashed containers.
    pub(super) restarts: Backoff,
    /// Of what could not be made at all: sandbox, volumes, images, containers.
    pub(super) failures: Backoff,
    /// When each of these failed last.
    pub(super) failed_at: BTreeMap<String, i64>,
    pub(super) waiting: BTreeMap<String, Waiting>,
    /// What events have been told of once.
    pub(super) told: HashSet<String>,
    pub(super) volumes: Option<Volumes>,
    ownerless: Option<Instant>,
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Again,
    /// For a change, at most for that long.
    Wait(Option<Duration>),
    Over,
}

impl Worker {
    pub fn new(pod: Arc<Pod>, record: Record, tools: Tools) -> Self {
        let backoff = || Backoff::new(tools.first_wait, tools.longest_wait);
        let (events, _) = pod.events.since(0);
        let exits = events.into_iter().filter(|event| event.exit_code.is_some());
        Self {
            restarts: backoff(),
            failures: backoff(),
            failed_at: BTreeMap::new(),
            waiting: BTreeMap::new(),
            told: exits.map(|event| format!("exit {}", event.container_id)).collect(),
            volumes: None,
            observer: Observer::default(),
            ownerless: None,
            pod,
            record,
            tools,
        }
    }

    /// Plays the pod to its end and, once told to, removes it.
    pub async fn run(mut self) {
        let mut orders = self.pod.orders.subscribe();
        loop {
            orders.mark_unchanged();
            let next = tokio::select! {
                biased;
                // A new order cuts short whatever is being waited for.
                _ = orders.changed() => continue,
                next = self.step() => next,
            };
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Wait(limit)) => self.wait(limit).await,
                Ok(Next::Over) => break,
                Err(error) => {
                    tracing::warn!(%error, pod = self.record.title(), "syncing a pod failed");
                    self.wait(Some(RETRY)).await;
                }
            }
        }
        self.outlive().await;
    }

    async fn step(&mut self) -> Result<Next> {
        let observation = self.observe().await?;
        if self.record.ending.is_some() {
            self.publish(&observation);
            return Ok(Next::Over);
        }
        let ordered = self.pod.orders.borrow().stop.clone();
        if ordered != self.record.stop {
            self.record.stop = ordered;
            self.tools.store.save(&self.record).await?;
        }
        self.forget_waits(&observation);
        let phase = self.publish(&observation);
        if let Some(stop) = self.record.stop.clone() {
            return self.end(observation, stop.grace, None).await;
        }
        let left = self.time_left();
        if left == Some(Duration::ZERO) {
            return self.end(observation, None, Some("DeadlineExceeded")).await;
        }
        if matches!(phase, PodPhase::Succeeded | PodPhase::Failed) {
            return self.end(observation, None, None).await;
        }
        let owner = self.owner_left();
        if owner == Some(Duration::ZERO) {
            tracing::info!(pod = self.record.title(), "ending a pod whose owner is gone");
            self.pod.order_stop(None);
            return Ok(Next::Again);
        }
        self.prune(&observation).await?;
        if self.run_due_hooks(&observation).await? {
            return Ok(Next::Again);
        }
        let seen: Vec<_> =
            self.pod.wanted.iter().map(|wanted| observation.seen(&wanted.name)).collect();
        let actions = sync::actions(&View {
            wanted: &self.pod.wanted,
            seen: &seen,
            sandbox: observation.sandbox_seen(),
        });
        if actions.kill_pod && actions.create.is_none() {
            return self.end(observation, None, None).await;
        }
        let next = self.act(actions, &observation).await?;
        self.publish(&observation);
        Ok(match next {
            Next::Wait(limit) => Next::Wait(shortest([limit, left, owner])),
            other => other,
        })
    }

    pub(super) async fn observe(&mut self) -> Result<Observation> {
        let remote = self.tools.remote.clone();
        let observation = self.observer.observe(&remote, &self.record.uid).await?;
        self.report_exits(&observation).await;
        Ok(observation)
    }

    fn publish(&self, observation: &Observation) -> PodPhase {
        let mut status = status::status(&self.pod.wanted, observation, &self.waiting);
        if let Some(ending) = &self.record.ending {
            status.phase = ending.phase;
            status.reason = ending.reason.clone();
            status.ending = Some(ending.clone());
        }
        let phase = status.phase;
        self.pod.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
        phase
    }

    /// A container that runs is not waiting for anything.
    fn forget_waits(&mut self, observation: &Observation) {
        self.waiting
            .retain(|name, _| observation.newest(name).is_none_or(|attempt| !attempt.is_alive()));
    }

    /// What is left of activeDeadlineSeconds.
    fn time_left(&self) -> Option<Duration> {
        let spec = self.record.manifest.pod.spec.as_ref()?;
        let seconds = spec.active_deadline_seconds?;
        let end = self.record.created_at.saturating_add(seconds.saturating_mul(1_000_000_000));
        let left = end.saturating_sub(events::now());
        Some(Duration::from_nanos(u64::try_from(left).unwrap_or(0)))
    }

    /// How long an attached pod still waits for an owner; `None` while it needs none.
    fn owner_left(&mut self) -> Option<Duration> {
        if self.record.mode == Mode::Detached || *self.pod.owners.borrow() > 0 {
            self.ownerless = None;
            return None;
        }
        let since = *self.ownerless.get_or_insert_with(Instant::now);
        Some(OWNERLESS.saturating_sub(since.elapsed()))
    }

    /// Waits for a change of the pod, an owner or an order.
    async fn wait(&self, limit: Option<Duration>) {
        let limit = if *self.tools.told.borrow() {
            limit
        } else {
            Some(limit.map_or(POLL, |limit| limit.min(POLL)))
        };
        let timer = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let (mut owners, mut orders) = (self.pod.owners.subscribe(), self.pod.orders.subscribe());
        // An order that came while the step ran is not overslept.
        let ordered = orders.borrow_and_update().stop != self.record.stop;
        if ordered {
            return;
        }
        tokio::select! {
            () = timer => {}
            () = self.pod.wake.notified() => {}
            _ = owners.changed() => {}
            _ = orders.changed() => {}
        }
    }

    /// Ends the pod for good: its containers, its sandboxes, its record.
    async fn end(
        &mut self,
        observation: Observation,
        grace: Option<i64>,
        reason: Option<&str>,
    ) -> Result<Next> {
        if let Some(reason) = reason.filter(|reason| self.told.insert((*reason).to_owned())) {
            let text = "Pod was active on the node longer than the specified deadline";
            self.pod.events.add(Event::warning(reason, text));
        }
        self.kill(&observation, grace).await?;
        let observation = self.observe().await?;
        let mut ending = status::ending(&self.pod.wanted, &observation);
        if let Some(reason) = reason {
            let message = "pod was active longer than its activeDeadlineSeconds".to_owned();
            let exit_code = if ending.exit_code == 0 { 1 } else { ending.exit_code };
            let phase = PodPhase::Failed;
            ending = Ending { phase, exit_code, reason: reason.to_owned(), message };
        }
        self.record.ending = Some(ending);
        self.tools.store.save(&self.record).await?;
        self.waiting.clear();
        self.publish(&observation);
        Ok(Next::Over)
    }

    /// Ends every container and sandbox.
    pub(super) async fn kill(
        &mut self,
        observation: &Observation,
        grace: Option<i64>,
    ) -> Result<()> {
        let grace = grace.map(|grace| Duration::from_secs(u64::try_from(grace).unwrap_or(0)));
        let stopper = Stopper {
            pod: &self.pod,
            manifest: &self.record.manifest,
            remote: &self.tools.remote,
            grace,
        };
        stopper.all(observation, &mut self.told).await?;
        for sandbox in &observation.sandboxes {
            self.tools.remote.stop_sandbox(&sandbox.id).await?;
        }
        Ok(())
    }

    /// After the end: waits until the pod may be forgotten, then removes every trace of it.
    async fn outlive(mut self) {
        let mut orders = self.pod.orders.subscribe();
        loop {
            let forget = orders.borrow_and_update().remove;
            let owner = self.owner_left();
            if forget || owner == Some(Duration::ZERO) {
                match self.remove().await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::warn!(%error, pod = self.record.title(), "removing a pod failed");
                        tokio::time::sleep(RETRY).await;
                    }
                }
                continue;
            }
            let mut owners = self.pod.owners.subscribe();
            let timer = async {
                match owner {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                _ = owners.changed() => {}
                _ = orders.changed() => {}
            }
        }
        self.pod.gone.send_replace(true);
    }

    async fn remove(&mut self) -> Result<()> {
        for sandbox in self.tools.remote.sandboxes(&self.record.uid).await? {
            self.tools.remote.remove_sandbox(&sandbox.id).await?;
        }
        self.tools.store.remove(&self.record.uid).await
    }

    /// Keeps of each container the newest attempt and the one before, and the sandboxes that
    /// these need.
    async fn prune(&mut self, observation: &Observation) -> Result<()> {
        let mut needed: HashSet<&str> = HashSet::new();
        needed.extend(observation.sandbox().map(|sandbox| sandbox.id.as_str()));
        for attempt in &observation.attempts {
            let newest = observation.newest(attempt.name()).map_or(0, |newest| newest.number());
            if attempt.is_alive() || attempt.number().saturating_add(1) >= newest {
                needed.insert(&attempt.sandbox);
                continue;
            }
            self.tools.remote.remove(attempt.id()).await?;
            let logs = self.pod.dirs.logs().join(attempt.name());
            let prefix = format!("{}.log", attempt.number());
            store::blocking(move || {
                remove_files(&logs, &prefix);
                Ok(())
            })
            .await?;
        }
        for sandbox in observation.sandboxes.iter().filter(|s| !needed.contains(s.id.as_str())) {
            self.tools.remote.remove_sandbox(&sandbox.id).await?;
        }
        Ok(())
    }
}

/// Removes a log and what rotation made of it; a file that stays costs only its space.
fn remove_files(folder: &std::path::Path, prefix: &str) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

pub(super) fn shortest(limits: impl IntoIterator<Item = Option<Duration>>) -> Option<Duration> {
    limits.into_iter().flatten().min()
}
