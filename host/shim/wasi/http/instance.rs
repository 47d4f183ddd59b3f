//! The instances of a service: how one is made, how many requests it answers, when it goes. Each
//! has a Store of its own; all take turns on the container's one thread.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as Waiting, Poll};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{Sleep, sleep, sleep_until};
use wasmtime::component::GuestTaskId;
use wasmtime::{Engine, Store, StoreContextMut, UpdateDeadline};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

use super::serve::{Asked, Report};
use crate::shim::guest::{CALL_COPY, Context, Reins};
use crate::shim::kill::Kill;
use crate::shim::ledger::Taken;
use crate::shim::lock;
use crate::shim::ticker::Ticking;
use crate::shim::wasi::component::{Shared, State};

/// How long an instance that could answer more requests waits for the next.
const IDLE: Duration = Duration::from_secs(1);

/// How requests share instances. The defaults are those of `wasmtime serve`.
#[derive(Clone, Copy, Debug)]
pub struct Sharing {
    /// Requests that one instance answers in its life.
    pub reuse: u32,
    /// Of these at once.
    pub at_once: u32,
}

impl Sharing {
    pub fn of<T>(pre: &ProxyPre<T>, reuse: Option<u32>) -> Self {
        match pre {
            // A call of 0.2 has its instance to itself until it returns.
            ProxyPre::P2(_) => Self { reuse: reuse.unwrap_or(1), at_once: 1 },
            ProxyPre::P3(_) => {
                let reuse = reuse.unwrap_or(128);
                Self { reuse, at_once: reuse.min(16) }
            }
        }
    }
}

/// How many there are of something.
#[derive(Clone, Default)]
pub struct Living(Arc<watch::Sender<usize>>);

/// One of them, until it is dropped.
pub struct Life(Arc<watch::Sender<usize>>);

impl Living {
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    pub fn begin(&self) -> Life {
        self.0.send_modify(|count| *count += 1);
        Life(self.0.clone())
    }

    /// Resolves once there is none.
    pub async fn none(&self) {
        self.are(|&count| count == 0).await;
    }

    /// Resolves once there are some.
    pub async fn some(&self) {
        self.are(|&count| count > 0).await;
    }

    async fn are(&self, wanted: impl FnMut(&usize) -> bool) {
        let mut count = self.0.subscribe();
        // The sender lives in self, so waiting ends only by what is waited for.
        let _ = count.wait_for(wanted).await;
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Makes instances.
pub struct Maker {
    pub engine: Engine,
    pub pre: Arc<ProxyPre<State>>,
    /// Bytes that each takes beside its memories.
    pub footprint: u64,
    pub surroundings: Context,
    pub shared: Shared,
    pub sharing: Sharing,
    pub patience: Duration,
    pub report: Arc<Report>,
    pub living: Living,
}

impl Maker {
    /// The same for another thread.
    pub fn again(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            pre: self.pre.clone(),
            footprint: self.footprint,
            surroundings: self.surroundings.again(),
            shared: self.shared.clone(),
            sharing: self.sharing,
            patience: self.patience,
            report: self.report.clone(),
            living: Living::default(),
        }
    }
}

impl HandlerState for Maker {
    type StoreData = State;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Expiration, Worker>> {
        let kill = self.surroundings.kill.clone();
        let (ticking, life) = (self.surroundings.ticker.tick(), self.living.begin());
        let taken = Taken::take(self.surroundings.ledger.clone(), self.footprint)?;
        let state = State::new(self.surroundings.again(), self.shared.clone())
            .map_err(wasmtime::Error::msg)?;
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(CALL_COPY);
        store.set_epoch_deadline(1);
        let Reins { kill: seen, control } = self.surroundings.reins();
        let mut moves = 0;
        store.epoch_deadline_callback(move |_| {
            control.look(&mut moves, &seen)?;
            Ok(UpdateDeadline::Yield(1))
        });
        kill.check()?;
        let made = tokio::time::timeout(self.patience, self.pre.instantiate_async(&mut store));
        let proxy = made.await.map_err(|_| wasmtime::Error::msg("the start takes too long"))??;
        Ok(Instance {
            store,
            proxy,
            view: State::http,
            expiration: Expiration::new(kill, self.patience),
            state: Worker {
                sharing: self.sharing,
                patience: self.patience,
                report: self.report.clone(),
                answering: Mutex::default(),
                _ticking: ticking,
                _life: life,
                _taken: taken,
            },
        })
    }
}

/// What an instance is asked while it lives.
pub struct Worker {
    sharing: Sharing,
    patience: Duration,
    report: Arc<Report>,
    /// Its requests; of those that are answered some.
    answering: Mutex<Vec<Arc<Asked>>>,
    /// It may run whenever it exists.
    _ticking: Ticking,
    _life: Life,
    _taken: Taken,
}

impl WorkerState for Worker {
    type StoreData = State;
    type RequestData = Arc<Asked>;

    fn should_accept_request(&self, at_once: usize, total: usize) -> ShouldAccept {
        if total >= self.sharing.reuse as usize {
            ShouldAccept::Never
        } else if at_once >= self.sharing.at_once as usize {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, State>,
        asked: Arc<Asked>,
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        let mut answering = lock(&self.answering);
        answering.retain(is_awaited);
        answering.push(asked);
        Box::pin(sleep(self.patience))
    }

    fn drop(&self, store: Store<State>, result: Result<(), wasmtime::Error>) {
        // Its descriptors and memory go before anybody hears of it.
        drop(store);
        if let Err(error) = result {
            let mut answering = lock(&self.answering);
            answering.retain(is_awaited);
            self.report.instance(&answering, &error);
        }
    }
}

/// Whoever waits for an answer holds the request too.
fn is_awaited(asked: &Arc<Asked>) -> bool {
    Arc::strong_count(asked) > 1
}

/// When an instance goes although nothing went wrong.
pub struct Expiration {
    patience: Duration,
    /// Since when it is in the state that `sleep` is set for.
    since: Option<(WorkerStatus, Instant)>,
    sleep: Pin<Box<Sleep>>,
    asked: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    is_asked: bool,
}

impl Expiration {
    fn new(kill: Arc<Kill>, patience: Duration) -> Self {
        Self {
            patience,
            since: None,
            sleep: Box::pin(sleep(patience)),
            asked: Box::pin(async move { kill.asked().await }),
            is_asked: false,
        }
    }
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Waiting<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        if !self.is_asked {
            self.is_asked = self.asked.as_mut().poll(cx).is_ready();
        }
        if self.is_asked && status == WorkerStatus::Idle {
            return Poll::Ready(());
        }
        if self.since != Some((status, start)) {
            self.since = Some((status, start));
            let left = match status {
                WorkerStatus::Idle => IDLE,
                // A request's own time is up a little before, so that it is told why.
                WorkerStatus::Requests | WorkerStatus::PostReturn => self.patience + IDLE,
            };
            let end = sleep_until((start + left).into()).deadline();
            self.sleep.as_mut().reset(end);
        }
        self.sleep.as_mut().poll(cx)
    }
}
