//! What tests of component guests share: a context over a folder, and runs on a thread.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Engines;
use crate::model::sockets::SocketPolicy;
use crate::shim::guest::{Context, Ended, Role, Stdin};
use crate::shim::kill::Kill;
use crate::shim::ledger::{Budget, Ledger};
use crate::shim::network::Guard;
use crate::shim::output::Capture;
use crate::shim::ticker::Ticker;
use crate::shim::wasi::fs::{Devices, Root};

/// A guest's surroundings, kept to look at afterwards.
pub struct World {
    pub engines: Engines,
    pub dir: tempfile::TempDir,
    pub devices: Arc<Devices>,
    pub ledger: Arc<Ledger>,
    pub kill: Arc<Kill>,
    pub stdout: Arc<Capture>,
    pub stderr: Arc<Capture>,
}

impl World {
    /// A root with /tmp and /dev; 64 MiB, 32 descriptors, 256 handles.
    pub fn new() -> Self {
        let engines = Engines::plain();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        std::fs::create_dir(dir.path().join("dev")).unwrap();
        let devices = Arc::new(Devices::make(&dir.path().join("dev")).unwrap());
        let ledger = Arc::new(Ledger::new(Budget::new(64 << 20), 32, 256));
        Self {
            kill: Arc::new(Kill::new(engines.clone())),
            engines,
            dir,
            devices,
            ledger,
            stdout: Arc::new(Capture::new(1 << 20)),
            stderr: Arc::new(Capture::new(1 << 20)),
        }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub fn context(&self, argv: &[&str]) -> Context {
        let open = |path: &Path| {
            use rustix::fs::{Mode, OFlags};
            rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        Context {
            argv: argv.iter().map(ToString::to_string).collect(),
            env: vec!["NAME=value".to_owned()],
            root: Arc::new(Root::new(
                open(self.dir.path()),
                self.ledger.clone(),
                self.devices.clone(),
            )),
            user: Arc::default(),
            working_dir: "/tmp".to_owned(),
            stdin: Stdin::Empty,
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
            ledger: self.ledger.clone(),
            kill: self.kill.clone(),
            control: crate::shim::cpu::Control::free(&self.engines),
            ticker: Ticker::new(self.engines.clone()),
            guard: Arc::new(Guard::new(SocketPolicy::EVERYTHING, None)),
            role: Role::Main,
            listen: Vec::new(),
            service: None,
            crew: None,
            begun: None,
            this: Arc::new(crate::shim::this::This::new(Arc::new([]), self.kill.clone())),
            process: None,
        }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8(self.stdout.take()).unwrap()
    }

    /// Runs `run` on a thread and kills the guest once `ready` says so.
    pub fn killed_when(
        &self,
        run: impl FnOnce() -> Ended + Send,
        ready: impl Fn() -> bool,
    ) -> Ended {
        crate::shim::kill::install_wake_signal();
        std::thread::scope(|scope| {
            let guest = scope.spawn(run);
            wait_for(|| ready() || guest.is_finished());
            self.kill.kill();
            wait_for(|| {
                self.kill.interrupt();
                // A thread that is interrupted without a pause gets nowhere, on a busy machine.
                std::thread::park_timeout(Duration::from_millis(1));
                guest.is_finished()
            });
            guest.join().unwrap()
        })
    }
}

/// Waits for a condition that must come within ten seconds.
pub fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::yield_now();
    }
}
