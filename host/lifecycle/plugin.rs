//! One plugin: how it is, how it is asked, and what becomes of it when it fails.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use wasmtime::Engine;

use super::bindings::types as wit;
use super::circuit::Circuit;
use super::instance::{Answering, Instance};
use super::lock;
use super::manifest::Grants;
use super::miss::{Miss, cut};
use super::report::{Past, Report, State, names};
use super::thread::{Job, Jobs};
use crate::config::{FailPolicy, PluginConfig};
use crate::error::{Error, Result};
use crate::interface::brief;

/// How long after its deadline a spinning guest is ended.
pub(super) const SLACK: Duration = Duration::from_millis(1);

/// How a plugin is.
#[derive(Clone, Debug)]
pub enum Standing {
    Starting,
    Ready(Arc<Seat>),
    /// One sentence.
    Failed(String),
    Ended,
}

/// A plugin that answers.
#[derive(Debug)]
pub struct Seat {
    pub(super) jobs: Jobs,
    pub(super) engine: Engine,
    pub wanted: wit::Hooks,
    pub grants: Grants,
    pub(super) gone: watch::Receiver<bool>,
}

pub struct Plugin {
    pub name: String,
    pub config: PluginConfig,
    pub(super) standing: watch::Sender<Standing>,
    circuit: Mutex<Circuit>,
    pub(super) past: Mutex<Past>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A call, until it begins.
type Slot<F> = Arc<Mutex<Option<F>>>;

impl Plugin {
    pub fn new(name: String, config: PluginConfig) -> Arc<Self> {
        let standing = watch::Sender::new(Standing::Starting);
        let (circuit, past) = (Mutex::default(), Mutex::default());
        Arc::new(Self { name, config, standing, circuit, past })
    }

    /// What it is and how it is.
    pub fn report(&self) -> Report {
        let Past { breakdowns, fault, asked } = lock(&self.past).clone();
        let state = match &*self.standing.borrow() {
            Standing::Failed(_) => State::Refused,
            Standing::Ended => State::Ended,
            _ if !lock(&self.circuit).is_closed(Instant::now()) => State::CircuitOpen,
            Standing::Ready(_) => State::Running,
            Standing::Starting if fault.is_empty() => State::Starting,
            Standing::Starting => State::Restarting,
        };
        Report {
            name: self.name.clone(),
            index: self.config.index,
            state,
            breakdowns,
            fault,
            hooks: names(asked.map_or(wit::Hooks::empty(), |(wanted, _)| wanted)),
            fail: self.config.fail,
            path: self.config.path.clone(),
        }
    }

    /// Whether it is known not to want a hook, or a namespace's pods, by what it or an instance
    /// before of the same file said: then it is not to be asked, nor to be waited for.
    pub fn is_deaf(&self, wants: wit::Hooks, namespace: Option<&str>) -> bool {
        let is_deaf = |wanted: wit::Hooks, grants: &Grants| {
            !wanted.contains(wants) || namespace.is_some_and(|namespace| !grants.sees(namespace))
        };
        if let Standing::Ready(seat) = &*self.standing.borrow() {
            return is_deaf(seat.wanted, &seat.grants);
        }
        lock(&self.past).asked.as_ref().is_some_and(|(wanted, grants)| is_deaf(*wanted, grants))
    }

    /// Asks a hook that `wants` finds among those it wants, of a namespace's pods. `None`: it does
    /// not want this one, does not see the namespace, or could not be asked and its fail policy is
    /// open. Errors name the plugin.
    pub async fn ask<T: Send + 'static>(
        &self,
        (hook, wants, namespace): (&'static str, wit::Hooks, Option<&str>),
        call: impl for<'a> FnOnce(&'a mut Instance) -> Answering<'a, Result<T, String>> + Send + 'static,
    ) -> Result<Option<(T, Arc<Seat>)>> {
        let deadline = Instant::now() + self.config.deadline();
        if !lock(&self.circuit).is_closed(Instant::now()) {
            return self.missing(hook, "is given up for a while after three misses");
        }
        let slot = Arc::new(Mutex::new(Some(call)));
        let mut before = None;
        let (seat, called) = loop {
            let ready = self.ready_after(before.as_ref());
            let seat = match tokio::time::timeout_at(deadline.into(), ready).await {
                Ok(Ok(seat)) => seat,
                Ok(Err(why)) => return self.missing(hook, &format!("is not there: {why}")),
                Err(_) => return self.missing(hook, "is still starting"),
            };
            let is_hidden = namespace.is_some_and(|namespace| !seat.grants.sees(namespace));
            if is_hidden || !seat.wanted.contains(wants) {
                return Ok(None);
            }
            match self.call(&seat, deadline, &slot).await {
                // Another one's call ended the instance while this one was queued behind it.
                Err(Miss::Gone) if lock(&slot).is_some() => before = Some(seat),
                called => break (seat, called),
            }
        };
        match called {
            Ok(Ok(value)) => {
                lock(&self.circuit).answered();
                Ok(Some((value, seat)))
            }
            Ok(Err(words)) => {
                lock(&self.circuit).answered();
                Err(Error::Denied(format!("plugin {}: {hook}: {}", self.name, cut(&words))))
            }
            Err(miss) => {
                let why = miss.within(self.config.deadline_ms);
                self.leave(&seat, format!("{why} ({hook})"));
                if lock(&self.circuit).missed(Instant::now()) {
                    tracing::warn!(plugin = self.name, "a plugin is given up for a while");
                }
                self.missing(hook, &why)
            }
        }
    }

    /// Its instance is no good any more: who comes now waits for the next one.
    fn leave(&self, seat: &Arc<Seat>, fault: String) {
        self.standing.send_if_modified(|standing| {
            let is_this = matches!(standing, Standing::Ready(now) if Arc::ptr_eq(now, seat));
            if is_this {
                let mut past = lock(&self.past);
                past.breakdowns = past.breakdowns.saturating_add(1);
                past.fault = fault;
                *standing = Standing::Starting;
            }
            is_this
        });
    }

    /// Another file is another plugin.
    pub(super) fn begin_anew(&self) {
        lock(&self.circuit).answered();
        *lock(&self.past) = Past::default();
    }

    fn missing<T>(&self, hook: &str, why: &str) -> Result<Option<T>> {
        let sentence = format!("plugin {} {why} ({hook})", self.name);
        match self.config.fail {
            FailPolicy::Closed => Err(Error::Unavailable(format!(
                "{sentence}; mend it, or set plugins.{}.fail = \"open\"",
                self.name
            ))),
            FailPolicy::Open => {
                tracing::warn!("{sentence}; it is passed over");
                Ok(None)
            }
        }
    }

    /// Waits until it is ready; the error says why it cannot be.
    pub async fn settled(&self) -> Result<(), String> {
        self.ready().await.map(drop)
    }

    async fn ready(&self) -> Result<Arc<Seat>, String> {
        self.ready_after(None).await
    }

    /// As [`Plugin::ready`], of the instance that comes after one that has gone.
    async fn ready_after(&self, before: Option<&Arc<Seat>>) -> Result<Arc<Seat>, String> {
        let mut standing = self.standing.subscribe();
        let is_settled = |standing: &Standing| match (standing, before) {
            (Standing::Starting, _) => false,
            (Standing::Ready(seat), Some(before)) => !Arc::ptr_eq(seat, before),
            _ => true,
        };
        let settled = standing.wait_for(is_settled).await;
        match settled.as_deref() {
            Ok(Standing::Ready(seat)) => Ok(seat.clone()),
            Ok(Standing::Failed(why)) => Err(why.clone()),
            _ => Err("the daemon is ending".to_owned()),
        }
    }

    /// Asks what is in the slot, which is there still after a call that never began.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        seat: &Seat,
        deadline: Instant,
        slot: &Slot<impl for<'a> FnOnce(&'a mut Instance) -> Answering<'a, T> + Send + 'static>,
    ) -> Result<T, Miss> {
        let (answer, answered) = oneshot::channel();
        let slot = slot.clone();
        let job: Job = Box::new(move |instance| {
            Box::pin(async move {
                if Instant::now() >= deadline {
                    // Nobody waits any more.
                    return true;
                }
                let Some(call) = lock(&slot).take() else { return true };
                instance.limit(deadline);
                let called = tokio::time::timeout_at(deadline.into(), call(instance)).await;
                let outcome = match called {
                    Ok(Ok(value)) => Ok(value),
                    Ok(Err(_)) if Instant::now() >= deadline => Err(Miss::Late),
                    Ok(Err(error)) => Err(Miss::Trapped(brief(&error))),
                    Err(_) => Err(Miss::Late),
                };
                let is_well = outcome.is_ok();
                let _ = answer.send(outcome);
                is_well
            })
        });
        if !seat.jobs.put(job) {
            return Err(Miss::Gone);
        }
        match tokio::time::timeout_at((deadline + SLACK).into(), answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Miss::Gone),
            Err(_) => {
                // Wakes a guest that spins, whose time is over now; others go on.
                seat.engine.increment_epoch();
                Err(Miss::Late)
            }
        }
    }
}
