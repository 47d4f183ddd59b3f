//! What a guest is given and how it ends, whatever its kind. `Program` is the one place that
//! knows which worlds there are; the kinds themselves live in `wasi`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use wasmtime::component::Component;
use wasmtime::{Engine, GcHeapOutOfMemory, Store, UpdateDeadline, WasmBacktrace};

use super::cpu::Control;
use super::kill::{Kill, Killed};
use super::ledger::{Ledger, OutOfMemory, Taken};
use super::network::Guard;
use super::output::Output;
use super::processes::Process;
use super::this::This;
use super::ticker::Ticker;
use super::wasi::fs::Root;
use super::wasi::{component, http, p1, p2, p3};
use crate::engine::{Engines, Purpose, config};
use crate::error::cut;
use crate::model::service::ServiceOptions;
use crate::model::sockets::Listen;
use crate::model::user::User;

/// A guest's standard input.
pub enum Stdin {
    /// Ends at once.
    Empty,
    /// The reading end of a pipe or a file.
    Descriptor(OwnedFd),
}

/// Everything one run of a program gets. Made on the guest's own thread.
pub struct Context {
    pub argv: Vec<String>,
    /// NAME=value.
    pub env: Vec<String>,
    pub root: Arc<Root>,
    pub user: Arc<User>,
    /// Absolute path inside the root.
    pub working_dir: String,
    pub stdin: Stdin,
    pub stdout: Arc<dyn Output>,
    pub stderr: Arc<dyn Output>,
    pub ledger: Arc<Ledger>,
    pub kill: Arc<Kill>,
    /// Its container's share of the machine.
    pub control: Arc<Control>,
    /// For guests that share a thread.
    pub ticker: Arc<Ticker>,
    /// What its sockets may do.
    pub guard: Arc<Guard>,
    pub role: Role,
    /// Sockets that it begins with: the main program's alone.
    pub listen: Vec<Listen>,
    /// How a service is served; `None`: the container names no port that it could have.
    pub service: Option<ServiceOptions>,
    /// Threads for guests that several may serve; `None`: its own is the only one.
    pub crew: Option<Arc<dyn Crew>>,
    /// Called when all that is not the guest's own doing has succeeded, just before its first
    /// instruction: from then on it runs. Never called for one that cannot be begun.
    pub begun: Option<Begun>,
    /// What its container is told of itself.
    pub this: Arc<This>,
    /// The process that this run is, for guests that start others.
    pub process: Option<Arc<Process>>,
}

/// A container's threads beside its guest's own.
pub trait Crew: Send + Sync {
    /// How many threads can work at once on the container's CPUs.
    fn size(&self) -> usize;

    /// Starts one more: on the container's CPUs, in its network, ended by its kill.
    fn begin(&self, work: Box<dyn FnOnce() + Send>) -> std::io::Result<JoinHandle<()>>;
}

/// What a run is to its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Main,
    Exec,
}

/// Bytes that one call may make the host copy out of a component: far above what streams move,
/// room for a file written by one call.
pub const CALL_COPY: usize = 16 << 20;

/// See [`Context::begun`].
pub type Begun = Box<dyn FnOnce() + Send + Sync>;

impl Context {
    pub fn reins(&self) -> Reins {
        Reins { kill: self.kill.clone(), control: self.control.clone() }
    }

    /// The same for another Store of the same program: without input and what it begins with.
    pub fn again(&self) -> Self {
        Self {
            argv: self.argv.clone(),
            env: self.env.clone(),
            root: self.root.clone(),
            user: self.user.clone(),
            working_dir: self.working_dir.clone(),
            stdin: Stdin::Empty,
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
            ledger: self.ledger.clone(),
            kill: self.kill.clone(),
            control: self.control.clone(),
            ticker: self.ticker.clone(),
            guard: self.guard.clone(),
            role: self.role,
            listen: Vec::new(),
            service: None,
            crew: None,
            begun: None,
            this: self.this.clone(),
            process: None,
        }
    }

    /// For the kinds: see [`Context::begun`].
    pub fn take_begun(&mut self) -> Begun {
        self.begun.take().unwrap_or_else(|| Box::new(|| {}))
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a trap: one line, then the wasm backtrace.
    Trapped(String),
    OutOfMemory(String),
    Killed,
    /// Nothing of it ran: one sentence.
    NotStarted(String),
}

impl Ended {
    /// Reads the end out of the error that a guest's call returned. Exit codes are read by the
    /// kinds before, since each has its own exit error.
    pub fn from_error(error: &wasmtime::Error, ledger: &Ledger) -> Self {
        if error.is::<Killed>() {
            return Self::Killed;
        }
        if let Some(out) = error.downcast_ref::<OutOfMemory>() {
            return Self::out_of_memory(ledger, out.to_string());
        }
        if error.is::<GcHeapOutOfMemory<()>>() {
            return Self::out_of_memory(ledger, ledger.full_heap().to_string());
        }
        Self::Trapped(describe(error))
    }

    /// The shim ends a guest for memory's sake, which is counted. `why` is one sentence.
    pub fn out_of_memory(ledger: &Ledger, why: String) -> Self {
        ledger.memory.count_kill();
        Self::OutOfMemory(why)
    }
}

/// Frames of a wasm backtrace that are shown, innermost first.
const FRAMES: usize = 32;

/// Bytes of the fault and of one frame: functions' names are the guest's.
const MOST_CAUSE: usize = 2 << 10;
const MOST_FRAME: usize = 240;

/// The fault in one line, then the wasm frames, one a line.
fn describe(error: &wasmtime::Error) -> String {
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::to_string);
    let causes: Vec<_> = error
        .chain()
        .map(ToString::to_string)
        .filter(|cause| Some(cause) != frames.as_ref())
        .map(|cause| cause.lines().collect::<Vec<_>>().join(" "))
        .collect();
    let mut text = cut(causes.join(": "), MOST_CAUSE);
    // The first line only says that a backtrace follows.
    for line in frames.iter().flat_map(|frames| frames.lines().skip(1).take(FRAMES)) {
        text.push('\n');
        text.push_str(&cut(line.to_owned(), MOST_FRAME));
    }
    text
}

/// A loaded program. Shared by every container and exec that runs it.
pub struct Program {
    pub kind: Kind,
    /// Bytes of the host's memory that one run takes beside the guest's memories and tables.
    pub footprint: u64,
}

/// A program of either kind, linked as far as it can be without a Store.
pub enum Kind {
    P1(p1::Program),
    P2(p2::Program),
    P3(p3::Program),
    Http(http::Program),
}

/// Why a service is not run beside its container's main program.
const SERVICE_RUNS: &str = "this program is a service, which answers HTTP requests and runs as a \
     container's main program only";

/// Why a component is not given listening sockets.
const COMPONENT_LISTENS: &str = "annotation wasmpod.dev/listen is for WASI 0.1 modules: this \
     program is a component, which opens its sockets itself";

/// Which file form machine code has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Module,
    Component,
}

impl Kind {
    /// Maps machine code that has been verified. `Err` is one sentence that names what is
    /// missing (an import, an entry point).
    ///
    /// # Safety
    /// `path` names a file that this wasmpod's compile child wrote, unchanged since.
    #[allow(unsafe_code)]
    pub unsafe fn load(engines: &Engines, path: &Path, form: Form) -> Result<Self, LoadError> {
        match form {
            Form::Module => {
                // SAFETY: the caller's contract.
                let module = unsafe { wasmtime::Module::deserialize_file(&engines.mapped, path) }
                    .map_err(LoadError::Code)?;
                p1::Program::link(&engines.mapped, &module).map(Self::P1).map_err(LoadError::Link)
            }
            Form::Component => {
                // SAFETY: the caller's contract.
                let component = unsafe { load_component(engines, path) };
                let component = component.map_err(LoadError::Code)?;
                let engine = component.engine();
                let exports = component::exports(engine, &component);
                let has = |name: &str| exports.iter().any(|export| export.starts_with(name));
                let linked = if has(p3::COMMAND) {
                    p3::Program::link(engine, &component).map(Self::P3)
                } else if !has(p2::COMMAND) && http::exports_service(&exports) {
                    http::Program::link(engine, &component).map(Self::Http)
                } else {
                    p2::Program::link(engine, &component).map(Self::P2)
                };
                linked.map_err(LoadError::Link)
            }
        }
    }
}

/// Maps a component's machine code, whichever engine it is for.
///
/// # Safety
/// As [`Kind::load`].
#[allow(unsafe_code)]
pub unsafe fn load_component(engines: &Engines, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the caller's contract.
    let load = |engine: &Engine| unsafe { Component::deserialize_file(engine, path) };
    // Code is for one of them; the others refuse it by what its first bytes say. A plugin of the
    // node is loaded to be told by its exports that it is no program.
    let plugin = |_| load(&Engine::new(&config(Purpose::Plugin))?);
    load(&engines.mapped).or_else(|_| load(&engines.copied)).or_else(plugin)
}

impl Program {
    /// Whether it hears of [`Kill::ask`].
    pub fn hears(&self) -> bool {
        matches!(self.kind, Kind::Http(_))
    }

    /// Runs it to its end on this thread, which must be the guest's own.
    pub fn run(&self, context: Context) -> Ended {
        if matches!(self.kind, Kind::Http(_)) && context.role == Role::Exec {
            return Ended::NotStarted(SERVICE_RUNS.to_owned());
        }
        if !matches!(self.kind, Kind::P1(_)) && !context.listen.is_empty() {
            return Ended::NotStarted(COMPONENT_LISTENS.to_owned());
        }
        let kill = context.kill.clone();
        let _entered = kill.enter();
        // Held until the Store is gone; a service's instances take each for itself.
        let own = if self.hears() { 0 } else { self.footprint };
        let _taken = match Taken::take(context.ledger.clone(), own) {
            Ok(taken) => taken,
            Err(refused) => return Ended::out_of_memory(&context.ledger, refused.to_string()),
        };
        match &self.kind {
            Kind::P1(program) => program.run(context),
            Kind::P2(program) => program.run(context),
            Kind::P3(program) => program.run(context),
            Kind::Http(program) => {
                context.this.serve();
                program.run(context, self.footprint)
            }
        }
    }
}

#[derive(Debug)]
pub enum LoadError {
    /// The file is not machine code for this engine: it is to be made anew.
    Code(wasmtime::Error),
    /// It never can run here; one sentence.
    Link(String),
}

/// Who may interrupt a guest: its end, and its container's share of the machine.
pub struct Reins {
    pub kill: Arc<Kill>,
    pub control: Arc<Control>,
}

/// Makes `store` end when the kill says so, and rest while its quota is used up; `Err` when it is
/// to end already. Every Store that runs guest code on its own thread needs it.
pub fn arm<T: Send + 'static>(store: &mut Store<T>, reins: Reins) -> Result<(), Killed> {
    let Reins { kill, control } = reins;
    store.set_epoch_deadline(1);
    let (seen, mut moves) = (kill.clone(), 0);
    store.epoch_deadline_callback(move |_| {
        control.look(&mut moves, &seen)?;
        Ok(UpdateDeadline::Continue(1))
    });
    kill.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the trap that a module's `run` ends in.
    fn trap_of(wat: &str) -> String {
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, wat::parse_str(wat).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        let error = run.call(&mut store, ()).unwrap_err();
        let ledger = Ledger::new(crate::shim::ledger::Budget::new(0), 0, 0);
        let Ended::Trapped(text) = Ended::from_error(&error, &ledger) else {
            panic!("not a trap");
        };
        text
    }

    #[test]
    fn names_as_long_as_a_guest_likes_do_not_make_a_long_message() {
        let name = "n".repeat(100_000);
        let wat = format!(
            "(module (func ${name} (param i32) (if (i32.eqz (local.get 0)) (then unreachable)) \
             (call ${name} (i32.sub (local.get 0) (i32.const 1)))) \
             (func (export \"run\") (call ${name} (i32.const 20))))"
        );
        let text = trap_of(&wat);
        assert!(text.len() < 8 << 10 && text.lines().count() > 20, "{}", text.len());
    }

    #[test]
    fn a_trap_reads_as_its_fault_and_its_frames() {
        let wat = r#"(module $app (func $inner unreachable) (func (export "run") call $inner))"#;
        let text = trap_of(wat);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("wasm trap: wasm `unreachable`"), "{text}");
        assert!(lines[1].contains("0: ") && lines[1].ends_with("app!inner"), "{text}");
        assert_eq!(lines.len(), 3, "{text}");
    }
}
