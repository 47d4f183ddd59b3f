//! The Store of a plugin or of a pod's own hooks: what it is linked with, and how it is kept within
//! its memory and its time.

use std::time::Instant;

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::{config, containers, cpu, events, kv, log, memory, pods, types};

/// Bytes that a table's element costs on the host.
const ELEMENT: u64 = 16;

/// What a component may print in its life before it is silenced; the log function has no such end.
const PRINTED: usize = 1 << 20;

/// Bytes that one call may make the host copy out of the component.
const CALL_COPY: usize = 16 << 20;

/// How much a component may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of memories and tables.
    pub memory: u64,
    /// Until when its instantiation or the call under way may take.
    pub deadline: Instant,
}

/// Whoever answers a component's calls.
pub trait Holder: Send + 'static {
    /// Whether `bytes` more may be taken, besides the bounds of the component itself.
    fn takes(&mut self, _bytes: u64) -> bool {
        true
    }

    /// Whether somebody still waits for the call under way.
    fn is_awaited(&self) -> bool {
        true
    }
}

/// What such a Store holds.
pub struct State<V> {
    wasi: WasiCtx,
    table: ResourceTable,
    bounds: Bounds,
    taken: u64,
    pub view: V,
}

impl<V: Holder> State<V> {
    fn take(&mut self, current: usize, desired: usize, unit: u64) -> bool {
        let bytes = (desired.saturating_sub(current) as u64).saturating_mul(unit);
        let sum = self.taken.saturating_add(bytes);
        let is_taken = sum <= self.bounds.memory && self.view.takes(bytes);
        if is_taken {
            self.taken = sum;
        }
        is_taken
    }
}

impl<V: Send + 'static> WasiView for State<V> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl<V: Holder> ResourceLimiter for State<V> {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.take(current, desired, 1))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.take(current, desired, ELEMENT))
    }
}

/// A Store without a component yet.
pub fn store<V: Holder>(engine: &Engine, view: V, bounds: Bounds) -> Store<State<V>> {
    let printed = wasmtime_wasi::p2::pipe::MemoryOutputPipe::new(PRINTED);
    let wasi = WasiCtxBuilder::new().stdout(printed.clone()).stderr(printed).build();
    let state = State { wasi, table: ResourceTable::new(), bounds, taken: 0, view };
    let mut store = Store::new(engine, state);
    store.limiter(|state| state);
    store.set_hostcall_fuel(CALL_COPY);
    store.epoch_deadline_callback(|context| {
        let state = context.data();
        if Instant::now() >= state.bounds.deadline || !state.view.is_awaited() {
            return Err(wasmtime::Error::msg("its time is over"));
        }
        Ok(UpdateDeadline::Continue(1))
    });
    store.set_epoch_deadline(1);
    store
}

impl<V: Holder> State<V> {
    /// For a call that begins now; the Store's epoch deadline is to be set anew.
    pub fn limit(&mut self, deadline: Instant) {
        self.bounds.deadline = deadline;
    }
}

fn view<V>(state: &mut State<V>) -> &mut V {
    &mut state.view
}

/// Everything that a component could be granted: what one imports was compared with its grants
/// before.
pub fn link<V>(linker: &mut Linker<State<V>>) -> wasmtime::Result<()>
where
    V: Holder
        + types::Host
        + cpu::Host
        + memory::Host
        + pods::Host
        + containers::Host
        + events::Host
        + log::Host
        + config::Host
        + kv::Host,
{
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    types::add_to_linker::<_, HasSelf<V>>(linker, view)?;
    cpu::add_to_linker::<_, HasSelf<V>>(linker, view)?;
    memory::add_to_linker::<_, HasSelf<V>>(linker, view)?;
    pods::add_to_linker::<_, HasSelf<V>>(linker, view)?;
    containers::add_to_linker::<_, HasSelf<V>>(linker, view)?;
    events::add_to_linker::<_, HasSelf<V>>(linker, view)?;
    log::add_to_linker::<_, HasSelf<V>>(linker, view)?;
    config::add_to_linker::<_, HasSelf<V>>(linker, view)?;
    kv::add_to_linker::<_, HasSelf<V>>(linker, view)
}

/// A trap or another failure of a call, in one line.
pub fn brief(error: &wasmtime::Error) -> String {
    let root = error.root_cause().to_string();
    root.lines().next().unwrap_or_default().to_owned()
}
