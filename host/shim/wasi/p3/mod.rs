//! Guests of kind p3: components that export wasi:cli/run of 0.3. Files are on the path layer;
//! clocks, randomness, standard streams and sockets are wasmtime-wasi's. The imports of p2 are
//! there too, because languages' standard libraries still use them.

mod accepting;
mod convert;
mod filesystem;
mod loopback;
mod sockets;
mod streams;

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi::p3::bindings::CommandPre;
use wasmtime_wasi::p3::bindings::filesystem::{preopens, types};

use super::component::{Failure, HasFiles, Linked, State, exports, no_command, run};
use crate::shim::guest::{Context, Ended};

/// What a command exports, in front of its version.
pub const COMMAND: &str = "wasi:cli/run@0.3.";

pub struct Program {
    linked: Linked,
    command: CommandPre<State>,
}

impl Program {
    /// Links against the command world of 0.3, any minor version of it. `Err` is one sentence
    /// naming what is missing.
    pub fn link(engine: &Engine, component: &Component) -> Result<Self, String> {
        let linker = linker(engine).map_err(|error| format!("no linker for p3: {error:#}"))?;
        let linked = Linked::new(&linker, component)?;
        let command = CommandPre::new(linked.pre.clone())
            .map_err(|_| no_command(&exports(engine, component)))?;
        Ok(Self { linked, command })
    }

    /// Runs it to its end on this thread.
    pub fn run(&self, context: Context) -> Ended {
        run(&self.linked, context, async |store| {
            let command =
                self.command.instantiate_async(&mut *store).await.map_err(Failure::Instantiate)?;
            let called = store
                .run_concurrent(async |store| command.wasi_cli_run().call_run(store).await)
                .await;
            called.and_then(|called| called).map_err(Failure::Run)
        })
    }
}

/// All of wasi:cli/command 0.3 and 0.2, and wasi:http.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = super::p2::linker(engine)?;
    let l = &mut linker;
    wasmtime_wasi_http::p3::add_to_linker(l)?;
    wasmtime_wasi::p3::cli::add_to_linker(l)?;
    wasmtime_wasi::p3::clocks::add_to_linker(l)?;
    wasmtime_wasi::p3::random::add_to_linker(l)?;
    sockets::add_to_linker(l)?;
    types::add_to_linker::<State, HasFiles>(l, State::files)?;
    preopens::add_to_linker::<State, HasFiles>(l, State::files)?;
    Ok(linker)
}

#[cfg(test)]
mod tests;
