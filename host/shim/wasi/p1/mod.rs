//! Guests of kind p1: core modules over wasi_snapshot_preview1. They run synchronously on their
//! own thread, so each file call is a plain system call there. Knows nothing of components.

mod clock;
mod descriptor;
mod errno;
mod identity;
mod link;
mod memory;
mod path;
mod poll;
mod process;
mod socket;
mod stream;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustix::io::Errno;
use wasmtime::{Caller, Engine, InstancePre, Module, Store};

use self::errno::Stop;
use self::memory::Memory;
use self::socket::Socket;
use self::table::{Descriptor, Entry, Preopen, Table, rights};
use crate::model::user::User;
use crate::shim::guest::{Context, Ended, Stdin, arm};
use crate::shim::kill::Kill;
use crate::shim::ledger::{Ledger, Limiter};
use crate::shim::output::Output;
use crate::shim::wasi::fs::{Dir, Root};
use crate::shim::wasi::working_dir;

/// A module with its imports bound.
pub struct Program {
    module: InstancePre<Guest>,
}

/// A Store's data: all that the calls of one run need.
struct Guest {
    limiter: Limiter,
    ledger: Arc<Ledger>,
    kill: Arc<Kill>,
    root: Arc<Root>,
    /// The folder "/", whatever the guest does to its descriptor.
    top: Arc<Dir>,
    table: Table,
    argv: Vec<String>,
    env: Vec<String>,
    user: Arc<User>,
    stdin: Stdin,
    stdout: Arc<dyn Output>,
    stderr: Arc<dyn Output>,
    /// Found at the first call, because a start function may call before there is an instance.
    memory: Option<wasmtime::Memory>,
}

/// One call from the guest.
struct Call<'a> {
    memory: Memory<'a>,
    guest: &'a mut Guest,
}

/// How `proc_exit` leaves the guest.
#[derive(Debug, thiserror::Error)]
#[error("exit with code {0}")]
struct Exit(u32);

impl Program {
    /// Links against wasi_snapshot_preview1. `Err` is one sentence naming what is missing.
    pub fn link(engine: &Engine, module: &Module) -> Result<Self, String> {
        link::link(engine, module).map(|module| Self { module })
    }

    /// Runs it to its end on this thread.
    pub fn run(&self, mut context: Context) -> Ended {
        let (reins, begun) = (context.reins(), context.take_begun());
        let ledger = context.ledger.clone();
        let guest = match Guest::new(context) {
            Ok(guest) => guest,
            Err(sentence) => return Ended::NotStarted(sentence),
        };
        let mut store = Store::new(self.module.module().engine(), guest);
        store.limiter(|guest| &mut guest.limiter);
        if arm(&mut store, reins).is_err() {
            return Ended::Killed;
        }
        begun();
        let ran = self.module.instantiate(&mut store).and_then(|instance| {
            instance.get_typed_func::<(), ()>(&mut store, link::ENTRY)?.call(&mut store, ())
        });
        match ran {
            Ok(()) => Ended::Exited(0),
            Err(error) => match error.downcast_ref() {
                Some(Exit(code)) => Ended::Exited(code.cast_signed()),
                None => Ended::from_error(&error, &ledger),
            },
        }
    }
}

impl Guest {
    /// `Err` is one sentence.
    fn new(context: Context) -> Result<Self, String> {
        let open = |error: Errno| format!("cannot open the root: {error}");
        let top = Arc::new(context.root.top().map_err(open)?);
        let mut env = context.env;
        let mut table = Table::default();
        for (descriptor, rights) in [
            (Descriptor::Stdin, rights::STREAM & !rights::WRITE),
            (Descriptor::Stdout, rights::STREAM & !rights::READ),
            (Descriptor::Stderr, rights::STREAM & !rights::READ),
        ] {
            table.add(Entry::new(descriptor, rights));
        }
        // Before the folders: that is where programs look for the sockets that they are given.
        for listen in &context.listen {
            table.add(Entry::listener(Socket::listen(listen, &context.guard)?));
        }
        table.add(Entry::new(Descriptor::Dir(top.clone(), Preopen::Root), rights::DIR));
        if let Some(dir) = working_dir::open(&context.root, &top, &context.working_dir)? {
            // Go joins relative paths to PWD, the C library asks the preopen ".".
            let preopen = Descriptor::Dir(Arc::new(dir), Preopen::WorkingDir);
            table.add(Entry::new(preopen, rights::DIR));
            if !env.iter().any(|variable| variable.starts_with("PWD=")) {
                env.push(format!("PWD={}", context.working_dir));
            }
        }
        Ok(Self {
            limiter: Limiter::new(context.ledger.clone()),
            ledger: context.ledger,
            kill: context.kill,
            root: context.root,
            top,
            table,
            argv: context.argv,
            env,
            user: context.user,
            stdin: context.stdin,
            stdout: context.stdout,
            stderr: context.stderr,
            memory: None,
        })
    }
}

/// Runs one host function: its answer is the ABI's error number, `Err` ends the guest.
fn answer(
    mut caller: Caller<'_, Guest>,
    call: impl FnOnce(&mut Call<'_>) -> errno::Result<()>,
) -> wasmtime::Result<i32> {
    let memory = match caller.data().memory {
        Some(memory) => Some(memory),
        None => {
            let found = caller.get_export("memory").and_then(|export| export.into_memory());
            caller.data_mut().memory = found;
            found
        }
    };
    let stopped = match memory {
        Some(memory) => {
            let (bytes, guest) = memory.data_and_store_mut(&mut caller);
            call(&mut Call { memory: Memory(bytes), guest })
        }
        None => call(&mut Call { memory: Memory(&mut []), guest: caller.data_mut() }),
    };
    match stopped {
        Ok(()) => Ok(0),
        Err(Stop::Code(code)) => {
            // An interrupted call was interrupted for this.
            if code == errno::Code::INTERRUPTED {
                caller.data().kill.check()?;
            }
            Ok(i32::from(code.number()))
        }
        Err(Stop::End(error)) => Err(error),
    }
}
