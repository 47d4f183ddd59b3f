//! One run of a component: the runtime, the Store, the guest beside its kill switch, the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use wasmtime::component::ResourceTableError;
use wasmtime::{Engine, Store, Trap};
use wasmtime_wasi::I32Exit;

use super::link::Linked;
use super::state::{Shared, State};
use crate::shim::cpu::Control;
use crate::shim::guest::{self, CALL_COPY, Context, Ended, Stdin};

/// How long a thread for a call that blocks stays; it holds the pod's namespaces meanwhile.
const HELPER_STAY: Duration = Duration::from_millis(100);

/// Where a guest's call failed.
pub enum Failure {
    Instantiate(wasmtime::Error),
    Run(wasmtime::Error),
}

/// Runs a guest to its end on this thread. `call` instantiates it and calls its entry, which
/// says like a process whether it succeeded.
pub fn run<C>(linked: &Linked, context: Context, call: C) -> Ended
where
    C: AsyncFnOnce(&mut Store<State>) -> Result<Result<(), ()>, Failure>,
{
    let watches = linked.has_sockets || matches!(context.stdin, Stdin::Descriptor(_));
    let watch = if watches { Watch::Descriptors } else { Watch::TimeOnly };
    let runtime = match runtime(watch, &context.control) {
        Ok(runtime) => runtime,
        Err(error) => return Ended::NotStarted(format!("no runtime for the guest: {error}")),
    };
    let kill = context.kill.clone();
    let ended = runtime.block_on(async {
        tokio::select! {
            biased;
            () = kill.killed() => Ended::Killed,
            ended = guest(linked.pre.engine(), context, call) => ended,
        }
    });
    // What blocks on a thread of the runtime's holds nothing of the container's and is not waited
    // for.
    runtime.shutdown_background();
    ended
}

/// The Store lives and ends in here.
async fn guest<C>(engine: &Engine, mut context: Context, call: C) -> Ended
where
    C: AsyncFnOnce(&mut Store<State>) -> Result<Result<(), ()>, Failure>,
{
    let (kill, ledger) = (context.kill.clone(), context.ledger.clone());
    let reins = context.reins();
    let begun = context.take_begun();
    let state = match Shared::open(&context).and_then(|shared| State::new(context, shared)) {
        Ok(state) => state,
        Err(sentence) => return Ended::NotStarted(sentence),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(CALL_COPY);
    // Those of its own resources, streams and futures too; the table of those that the host gives
    // is full before, which a guest is told.
    store.set_max_component_handles(2 * ledger.handles as usize);
    if guest::arm(&mut store, reins).is_err() {
        return Ended::Killed;
    }
    begun();
    let (error, started) = match call(&mut store).await {
        Ok(Ok(())) => return Ended::Exited(0),
        Ok(Err(())) => return Ended::Exited(1),
        Err(Failure::Instantiate(error)) => (error, false),
        Err(Failure::Run(error)) => (error, true),
    };
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Ended::Exited(exit.0);
    }
    if kill.is_killed() {
        return Ended::Killed;
    }
    // wasmtime has no type for the second.
    let full = matches!(error.downcast_ref(), Some(ResourceTableError::Full))
        || error.root_cause().to_string().contains("handle limit exceeded");
    let error = if full {
        let limit = ledger.handles;
        error.context(format!("too many resource handles: the limit is {limit}"))
    } else {
        error
    };
    match Ended::from_error(&error, &ledger) {
        // A start function may trap too; all else means that nothing ran.
        Ended::Trapped(_) if !started && !error.is::<Trap>() => {
            Ended::NotStarted(format!("the component cannot be instantiated: {error:#}"))
        }
        ended => ended,
    }
}

/// What a runtime can wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    TimeOnly,
    /// Costs four descriptors.
    Descriptors,
}

fn runtime(watch: Watch, control: &Arc<Control>) -> std::io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().max_blocking_threads(1).thread_keep_alive(HELPER_STAY);
    builder.thread_name(control.thread_name('b'));
    let control = control.clone();
    builder.on_thread_start(move || control.adopt());
    if watch == Watch::Descriptors {
        builder.enable_io();
    }
    builder.build()
}
