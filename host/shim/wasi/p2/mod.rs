//! Guests of kind p2: components that export wasi:cli/run of 0.2. Files are on the path layer;
//! clocks, randomness, streams and sockets are wasmtime-wasi's.

mod convert;
mod filesystem;
mod link;
mod lookup;
mod loopback;
mod sockets;

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime_wasi::p2::bindings::CommandPre;

pub use link::linker;

use super::component::{Failure, Linked, State, exports, no_command, run};
use crate::shim::guest::{Context, Ended};

/// What a command exports, in front of its version.
pub const COMMAND: &str = "wasi:cli/run@0.2.";

pub struct Program {
    linked: Linked,
    command: CommandPre<State>,
}

impl Program {
    /// Links against the command world of 0.2, any minor version of it. `Err` is one sentence
    /// naming what is missing.
    pub fn link(engine: &Engine, component: &Component) -> Result<Self, String> {
        let exports = exports(engine, component);
        if !exports.iter().any(|name| name.starts_with(COMMAND)) {
            return Err(no_command(&exports));
        }
        let linker = linker(engine).map_err(|error| format!("no linker for p2: {error:#}"))?;
        let linked = Linked::new(&linker, component)?;
        let command = CommandPre::new(linked.pre.clone())
            .map_err(|error| format!("the component is no command: {error:#}"))?;
        Ok(Self { linked, command })
    }

    /// Runs it to its end on this thread.
    pub fn run(&self, context: Context) -> Ended {
        run(&self.linked, context, async |store| {
            let command =
                self.command.instantiate_async(&mut *store).await.map_err(Failure::Instantiate)?;
            command.wasi_cli_run().call_run(store).await.map_err(Failure::Run)
        })
    }
}

#[cfg(test)]
mod tests;
