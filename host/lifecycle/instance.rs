//! A plugin's Store: its component in it, and how a call is kept within its time.

use std::pin::Pin;
use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use super::functions::View;
use crate::error::{Error, Result};
use crate::interface::hooks::Guest;
use crate::interface::{self, Bounds, Plugin, State, brief, link};

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
    pub store: Store<State<View>>,
    pub plugin: Plugin,
}

impl Instance {
    pub async fn new(
        component: &Component,
        (view, memory, deadline): (View, u64, Instant),
    ) -> Result<Self> {
        let failed = |error: wasmtime::Error| Error::Precondition(brief(&error));
        let engine = component.engine();
        let mut linker = Linker::new(engine);
        link(&mut linker).map_err(failed)?;
        let mut store = interface::store(engine, view, Bounds { memory, deadline });
        let plugin = Plugin::instantiate_async(&mut store, component, &linker);
        let plugin = plugin.await.map_err(failed)?;
        Ok(Self { store, plugin })
    }

    /// The hooks, and the Store to call them in.
    pub fn parts(&mut self) -> (&Guest, &mut Store<State<View>>) {
        (self.plugin.wasmpod_lifecycle_node_hooks(), &mut self.store)
    }

    /// For a call that begins now, of no pod so far.
    pub fn limit(&mut self, deadline: Instant) {
        let state = self.store.data_mut();
        state.limit(deadline);
        state.view.realm = None;
        self.store.set_epoch_deadline(1);
    }
}
