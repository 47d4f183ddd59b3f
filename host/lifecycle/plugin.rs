//! One plugin: how it is, how it is asked, and what becomes of it when it fails. Its
//! supervisor loads it, begins it anew after a trap, and puts a changed file in its place.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use wasmtime::Engine;

use super::bindings::types as wit;
use super::circuit::Circuit;
use super::instance::{Answering, Instance, asking};
use super::load::{Loaded, Loader};
use super::lock;
use super::manifest::Grants;
use super::miss::{Miss, cut, said};
use super::report::{Past, Report, State, names};
use super::thread::{self, Job, Jobs, serve};
use crate::config::{FailPolicy, PluginConfig};
use crate::error::{Error, Result};
use crate::image::ImageStore;
use crate::interface::brief;

/// How long a plugin that failed waits before it begins anew; doubled each time it fails again.
const AGAIN: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// How long after its deadline a spinning guest is ended.
const SLACK: Duration = Duration::from_millis(1);

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
    jobs: Jobs,
    engine: Engine,
    pub wanted: wit::Hooks,
    pub grants: Grants,
    gone: watch::Receiver<bool>,
}

pub struct Plugin {
    pub name: String,
    pub config: PluginConfig,
    standing: watch::Sender<Standing>,
    circuit: Mutex<Circuit>,
    past: Mutex<Past>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).finish_non_exhaustive()
    }
}

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
        let seat = match tokio::time::timeout_at(deadline.into(), self.ready()).await {
            Ok(Ok(seat)) => seat,
            Ok(Err(why)) => return self.missing(hook, &format!("is not there: {why}")),
            Err(_) => return self.missing(hook, "is still starting"),
        };
        let is_hidden = namespace.is_some_and(|namespace| !seat.grants.sees(namespace));
        if is_hidden || !seat.wanted.contains(wants) {
            return Ok(None);
        }
        match self.call(&seat, deadline, call).await {
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
    fn begin_anew(&self) {
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
        let mut standing = self.standing.subscribe();
        let settled = standing.wait_for(|standing| !matches!(standing, Standing::Starting)).await;
        match settled.as_deref() {
            Ok(Standing::Ready(seat)) => Ok(seat.clone()),
            Ok(Standing::Failed(why)) => Err(why.clone()),
            _ => Err("the daemon is ending".to_owned()),
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        seat: &Seat,
        deadline: Instant,
        call: impl for<'a> FnOnce(&'a mut Instance) -> Answering<'a, T> + Send + 'static,
    ) -> Result<T, Miss> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |instance| {
            Box::pin(async move {
                if Instant::now() >= deadline {
                    // Nobody waits any more.
                    return true;
                }
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

    /// Keeps the plugin alive until `ended`.
    pub async fn supervise(self: Arc<Self>, loader: Loader, images: Arc<ImageStore>) {
        let mut wait = AGAIN;
        let mut watch = loader.watch();
        let mut loaded = None;
        loop {
            self.standing.send_replace(Standing::Starting);
            let next = match loaded.take() {
                Some(loaded) => loaded,
                None => loader.load(&images).await,
            };
            let begun = match next {
                Ok(loaded) => self.begin(&loader, loaded).await,
                Err(error) => Err(error.to_string()),
            };
            match begun {
                Ok(seat) => {
                    wait = AGAIN;
                    lock(&self.past).asked = Some((seat.wanted, seat.grants.clone()));
                    tracing::info!(plugin = self.name, "a plugin is ready");
                    let mut gone = seat.gone.clone();
                    self.standing.send_replace(Standing::Ready(seat.clone()));
                    let is_changed = tokio::select! {
                        _ = gone.wait_for(|gone| *gone) => false,
                        () = loader.changed(&mut watch) => true,
                    };
                    if is_changed {
                        // It answers until the new file is compiled.
                        loaded = Some(loader.load(&images).await);
                        self.standing.send_replace(Standing::Starting);
                        self.retire(&seat).await;
                        self.begin_anew();
                    }
                }
                Err(why) => {
                    tracing::error!(plugin = self.name, why, "a plugin cannot be used");
                    lock(&self.past).fault.clone_from(&why);
                    self.standing.send_replace(Standing::Failed(why));
                    // Again when its file changes, or after a while: what it needs may be there.
                    if tokio::time::timeout(wait, loader.changed(&mut watch)).await.is_ok() {
                        self.begin_anew();
                    }
                    wait = (wait * 2).min(LONGEST);
                }
            }
        }
    }

    /// Starts a thread with the component, and lets it see what there is.
    async fn begin(&self, loader: &Loader, loaded: Loaded) -> Result<Arc<Seat>, String> {
        let (jobs, queue) = thread::queue().map_err(|error| format!("no pipe for it: {error}"))?;
        let (is_gone, gone) = watch::channel(false);
        let deadline = Instant::now() + self.config.deadline();
        let (made, is_made) = oneshot::channel();
        let (memory, view) = (self.config.memory, loader.view(&loaded.grants));
        let component = loaded.component;
        let engine = component.engine().clone();
        let thread = std::thread::Builder::new().name(format!("plugin {}", self.name));
        let spawned = thread.stack_size(crate::engine::THREAD_STACK).spawn(move || {
            let begun = thread::runtime().map_err(|error| error.to_string()).and_then(|runtime| {
                let begun = Instance::new(&component, (view, memory, deadline));
                let begun = async { tokio::time::timeout_at(deadline.into(), begun).await };
                match runtime.block_on(begun) {
                    Ok(begun) => Ok((runtime, begun.map_err(|error| error.to_string())?)),
                    Err(_) => Err("it took too long to begin".to_owned()),
                }
            });
            let (ready, begun) = match begun {
                Ok(begun) => (Ok(()), Some(begun)),
                Err(why) => (Err(why), None),
            };
            // Who waited may have gone: then there are no jobs.
            let _ = made.send(ready);
            if let Some((runtime, instance)) = begun {
                serve(&runtime, instance, queue);
            }
            is_gone.send_replace(true);
        });
        spawned.map_err(|error| format!("no thread for it: {error}"))?;
        match tokio::time::timeout_at((deadline + SLACK).into(), is_made).await {
            Ok(Ok(made)) => made?,
            Ok(Err(_)) => return Err("its thread ended".to_owned()),
            Err(_) => {
                engine.increment_epoch();
                return Err("it took too long to begin".to_owned());
            }
        }
        let (wanted, grants) = (wit::Hooks::empty(), loaded.grants);
        let mut seat = Seat { jobs, engine, wanted, grants, gone };
        seat.wanted = self.configure(&seat).await?;
        loader.synchronize(self, &seat).await?;
        Ok(Arc::new(seat))
    }

    async fn configure(&self, seat: &Seat) -> Result<wit::Hooks, String> {
        let info = wit::RuntimeInfo {
            name: "wasmpod".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plugin: self.name.clone(),
            deadline_milliseconds: self.config.deadline_ms,
        };
        let settings = serde_json::to_string(&self.config.settings).unwrap_or_default();
        let call = asking(move |instance| {
            Box::pin(async move {
                let hooks = instance.plugin.wasmpod_lifecycle_node_hooks();
                hooks.call_configure(&mut instance.store, &info, &settings).await
            })
        });
        let called = self.call(seat, Instant::now() + self.config.deadline(), call).await;
        said("configure", called)
    }

    /// Calls what has to be answered before the plugin is ready.
    pub async fn prepare<T: Send + 'static>(
        &self,
        seat: &Seat,
        call: impl for<'a> FnOnce(&'a mut Instance) -> Answering<'a, Result<T, String>> + Send + 'static,
    ) -> Result<T, String> {
        said("synchronize", self.call(seat, Instant::now() + self.config.deadline(), call).await)
    }

    /// Its last call, if it wants to hear of it.
    async fn retire(&self, seat: &Seat) {
        let call = asking(move |instance| {
            Box::pin(async move {
                let hooks = instance.plugin.wasmpod_lifecycle_node_hooks();
                hooks.call_shutdown(&mut instance.store).await
            })
        });
        // One that fails at its very end ends too.
        let _ = self.call(seat, Instant::now() + self.config.deadline(), call).await;
    }

    /// For a daemon that ends in order.
    pub async fn end(&self) {
        let standing = self.standing.send_replace(Standing::Ended);
        if let Standing::Ready(seat) = standing {
            self.retire(&seat).await;
        }
    }
}
