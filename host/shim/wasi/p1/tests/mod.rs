//! Small guests, many of them hostile, run as a container runs them.

mod abi;
mod ends;
mod files;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use wasmtime::Module;

use super::Program;
use crate::model::sockets::{Listen, SocketPolicy};
use crate::model::user::User;
use crate::shim::guest::{Context, Ended, Role, Stdin};
use crate::shim::kill::{Kill, install_wake_signal};
use crate::shim::ledger::{Budget, Ledger};
use crate::shim::network::Guard;
use crate::shim::output::Capture;
use crate::shim::ticker::Ticker;
use crate::shim::wasi::fs::{Devices, Root};

/// One guest to run: its text and what it is given.
struct Guest {
    engines: crate::engine::Engines,
    root: tempfile::TempDir,
    devices: Devices,
    argv: Vec<String>,
    env: Vec<String>,
    user: User,
    working_dir: String,
    stdin: Stdin,
    memory: u64,
    descriptors: u32,
    listen: Vec<Listen>,
    kill: Arc<Kill>,
}

struct Outcome {
    ended: Ended,
    stdout: String,
    ledger: Arc<Ledger>,
    root: tempfile::TempDir,
}

impl Guest {
    fn new() -> Self {
        install_wake_signal();
        let engines = crate::engine::Engines::plain();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dev")).unwrap();
        let devices = Devices::make(&root.path().join("dev")).unwrap();
        Self {
            kill: Arc::new(Kill::new(engines.clone())),
            engines,
            root,
            devices,
            argv: vec!["guest".to_owned()],
            env: Vec::new(),
            user: User::default(),
            working_dir: "/".to_owned(),
            stdin: Stdin::Empty,
            memory: u64::MAX,
            descriptors: 64,
            listen: Vec::new(),
        }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn link(&self, text: &str) -> Result<Program, String> {
        let (engine, bytes) = (&self.engines.mapped, wat::parse_str(text).unwrap());
        Program::link(engine, &Module::new(engine, bytes).unwrap())
    }

    fn run(self, text: &str) -> Outcome {
        let program = self.link(text).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = rustix::fs::open(self.root.path(), flags, Mode::empty()).unwrap();
        let ledger = Arc::new(Ledger::new(Budget::new(self.memory), self.descriptors, 64));
        let stdout = Arc::new(Capture::new(1 << 20));
        let context = Context {
            argv: self.argv,
            env: self.env,
            root: Arc::new(Root::new(dir, ledger.clone(), Arc::new(self.devices))),
            user: Arc::new(self.user),
            working_dir: self.working_dir,
            stdin: self.stdin,
            stdout: stdout.clone(),
            stderr: stdout.clone(),
            ledger: ledger.clone(),
            kill: self.kill.clone(),
            control: crate::shim::cpu::Control::free(&self.engines),
            ticker: Ticker::new(self.engines.clone()),
            guard: Arc::new(Guard::new(SocketPolicy::NOTHING, None)),
            role: Role::Main,
            listen: self.listen,
            service: None,
            crew: None,
            begun: None,
            this: Arc::new(crate::shim::this::This::new(Arc::new([]), self.kill.clone())),
            process: None,
        };
        let _entered = self.kill.enter();
        let ended = program.run(context);
        let stdout = String::from_utf8(stdout.take()).unwrap();
        Outcome { ended, stdout, ledger, root: self.root }
    }

    /// Runs it on a thread of its own and kills it once `ready` says so.
    fn run_and_kill(self, text: &'static str, ready: impl Fn() -> bool) -> Ended {
        let kill = self.kill.clone();
        let guest = std::thread::spawn(move || self.run(text).ended);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !ready() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        kill.kill();
        while !guest.is_finished() {
            assert!(Instant::now() < deadline, "the guest does not end");
            kill.interrupt();
            // A thread that is interrupted without a pause gets nowhere, on a busy machine.
            std::thread::park_timeout(Duration::from_millis(1));
        }
        guest.join().unwrap()
    }
}

/// Every import the guests below use, a page of memory, and two helpers: `$say` writes bytes to
/// standard output, `$check` ends the guest with the given code when a call gave an error.
fn module(body: &str) -> String {
    with_imports("", body)
}

/// The same with imports of other modules.
fn with_imports(others: &str, body: &str) -> String {
    let imports: String = FUNCTIONS
        .iter()
        .map(|(name, types)| {
            let parameters: String =
                types.chars().map(|kind| if kind == 'l' { " i64" } else { " i32" }).collect();
            format!(
                "(import \"wasi_snapshot_preview1\" \"{name}\" \
                 (func ${name} (param{parameters}) (result i32)))\n"
            )
        })
        .collect();
    format!(
        r#"(module {imports} {others}
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (memory (export "memory") 1)
        (func $say (param i32 i32)
            (i32.store (i32.const 60000) (local.get 0))
            (i32.store (i32.const 60004) (local.get 1))
            (drop (call $fd_write (i32.const 1) (i32.const 60000) (i32.const 1)
                (i32.const 60008))))
        (func $check (param i32)
            (if (local.get 0) (then (call $proc_exit (local.get 0)))))
        {body})"#
    )
}

/// All functions but proc_exit: `i` an i32 parameter, `l` an i64.
const FUNCTIONS: [(&str, &str); 45] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_seek", "ilii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_raise", "i"),
    ("sched_yield", ""),
    ("random_get", "ii"),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

fn exited(outcome: &Outcome) -> i32 {
    match &outcome.ended {
        Ended::Exited(code) => *code,
        other => panic!("{other:?}"),
    }
}
