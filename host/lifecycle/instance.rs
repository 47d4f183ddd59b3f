//! A plugin's Store: what its component is linked with, and how a call is kept within its time.

use std::pin::Pin;
use std::time::Instant;

use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::bindings::hooks::Guest;
use super::bindings::{self, Plugin};
use super::functions::View;
use crate::error::{Error, Result};

/// Tables' elements of a plugin.
const MOST_ELEMENTS: usize = 1 << 20;

/// What a plugin may print in its life before it is silenced; the log function has no such end.
const PRINTED: usize = 1 << 20;

/// What a Store holds.
pub struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    memory: u64,
    /// Until when the call under way may take.
    pub deadline: Instant,
    pub view: View,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let _ = current;
        Ok(desired as u64 <= self.memory)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MOST_ELEMENTS)
    }
}

/// A call of an export.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;

/// What a closure that calls an export is.
pub fn asking<T, F>(call: F) -> F
where
    F: for<'a> FnOnce(&'a mut Instance) -> Answering<'a, T> + Send + 'static,
{
    call
}

/// A living plugin.
pub struct Instance {
    pub store: Store<State>,
    pub plugin: Plugin,
}

impl Instance {
    pub async fn new(
        engine: &Engine,
        component: &Component,
        (view, memory, deadline): (View, u64, Instant),
    ) -> Result<Self> {
        let failed = |error: wasmtime::Error| Error::Precondition(brief(&error));
        let mut linker = Linker::<State>::new(engine);
        link(&mut linker).map_err(failed)?;
        let printed = wasmtime_wasi::p2::pipe::MemoryOutputPipe::new(PRINTED);
        let wasi = WasiCtxBuilder::new().stdout(printed.clone()).stderr(printed).build();
        let state = State { wasi, table: ResourceTable::new(), memory, deadline, view };
        let mut store = Store::new(engine, state);
        store.limiter(|state| state);
        store.epoch_deadline_callback(|context| {
            if Instant::now() >= context.data().deadline {
                return Err(wasmtime::Error::msg("its time is over"));
            }
            Ok(UpdateDeadline::Continue(1))
        });
        store.set_epoch_deadline(1);
        let plugin = Plugin::instantiate_async(&mut store, component, &linker);
        let plugin = plugin.await.map_err(failed)?;
        Ok(Self { store, plugin })
    }

    /// The hooks, and the Store to call them in.
    pub fn parts(&mut self) -> (&Guest, &mut Store<State>) {
        (self.plugin.wasmpod_lifecycle_node_hooks(), &mut self.store)
    }

    /// For a call that begins now.
    pub fn limit(&mut self, deadline: Instant) {
        self.store.data_mut().deadline = deadline;
        self.store.set_epoch_deadline(1);
    }
}

fn view(state: &mut State) -> &mut View {
    &mut state.view
}

/// Everything that a plugin could be granted: what one imports was compared with its grants
/// before.
fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    bindings::types::add_to_linker::<_, HasSelf<View>>(linker, view)?;
    bindings::cpu::add_to_linker::<_, HasSelf<View>>(linker, view)?;
    bindings::memory::add_to_linker::<_, HasSelf<View>>(linker, view)?;
    bindings::pods::add_to_linker::<_, HasSelf<View>>(linker, view)?;
    bindings::containers::add_to_linker::<_, HasSelf<View>>(linker, view)?;
    bindings::events::add_to_linker::<_, HasSelf<View>>(linker, view)?;
    bindings::log::add_to_linker::<_, HasSelf<View>>(linker, view)?;
    bindings::config::add_to_linker::<_, HasSelf<View>>(linker, view)?;
    bindings::kv::add_to_linker::<_, HasSelf<View>>(linker, view)
}

/// A trap or another failure of a call, in one line.
pub fn brief(error: &wasmtime::Error) -> String {
    let root = error.root_cause().to_string();
    root.lines().next().unwrap_or_default().to_owned()
}
