//! A container as others hold it: what it is made of, which phase it is in, and how it is
//! started, stopped and changed. Its guest runs on a thread of its own (`life`).

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use super::cpu::{Control, Placed};
use super::exec::Streams;
use super::guest::{Begun, Context, Role};
use super::host::Host;
use super::ids::Acting;
use super::input::Input;
use super::kill::Kill;
use super::ledger::{Budget, Ledger};
use super::log::LogFile;
use super::mounts::Tree;
use super::network::Guard;
use super::phase::{Phase, Verb};
use super::programs::Loaded;
use super::sandbox::Sandbox;
use super::sessions::Sessions;
use super::spec::{ContainerSpec, Patience, SIGKILL, Stop, Update};
use super::stuck::{Part, Stuck};
use super::taps::Taps;
use super::this::This;
use super::wasi::fs::Root;
use super::{ending, lock};
use crate::error::{Error, Result};
use crate::model::container::Exit;
use crate::model::exits::ExitRecord;
use crate::model::ids::ContainerId;
use crate::model::user::User;

/// How long a killed guest's thread is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause between two interruptions of a thread that is to go.
pub const LONGEST_PAUSE: Duration = Duration::from_millis(20);

pub struct Container {
    pub spec: ContainerSpec,
    /// The spec's, for its Stores.
    user: Arc<User>,
    pub sandbox: Arc<Sandbox>,
    pub host: Arc<Host>,
    pub ledger: Arc<Ledger>,
    /// Ends the main program.
    pub kill: Arc<Kill>,
    pub this: Arc<This>,
    guard: Arc<Guard>,
    /// Its threads, and what they may have of the machine.
    pub control: Arc<Control>,
    pub sessions: Arc<Sessions>,
    pub taps: Arc<Taps>,
    phase: watch::Sender<Phase>,
    /// Somebody has claimed to start it, to publish its end.
    started: AtomicBool,
    ended: AtomicBool,
    /// The signal a kill stands for; 0 while there was none.
    signal: AtomicU32,
    pub stuck: Stuck,
    /// The main thread's.
    pub part: Part,
    orders: mpsc::Sender<Order>,
    parts: Mutex<Option<Arc<Parts>>>,
}

/// What the container's thread waits for once everything is built.
pub enum Order {
    /// Answers with the start's time, or why it cannot be.
    Start(oneshot::Sender<Result<i64>>),
    /// Ends a container that never ran; the signal is what its exit says.
    End { signal: u32 },
}

/// What is there from the build to the end.
pub struct Parts {
    pub program: Loaded,
    pub root: Arc<Root>,
    pub tree: Tree,
    pub log: Option<Arc<LogFile>>,
    /// `None`: standard input is empty.
    pub input: Option<Input>,
}

impl Container {
    /// A container of `sandbox` and the orders that its thread is to follow.
    pub fn new(
        host: Arc<Host>,
        sandbox: Arc<Sandbox>,
        spec: ContainerSpec,
    ) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (orders, to_follow) = mpsc::channel();
        let memory = Budget::within(sandbox.memory.clone(), spec.limits.memory);
        sandbox.cpus.choose(&spec.id, spec.limits.processor.cpus.clone());
        let stuck = Stuck::default();
        let kill = Arc::new(Kill::new(host.engines.clone()));
        let container = Self {
            ledger: Arc::new(Ledger::new(memory, spec.limits.descriptors, spec.limits.handles)),
            this: Arc::new(This::new(spec.about.clone(), kill.clone())),
            kill,
            guard: Arc::new(Guard::new(spec.network.policy.clone(), sandbox.loopback())),
            control: Control::new(
                (spec.id.clone(), sandbox.cpus.clone()),
                &spec.limits.processor,
                host.means.clone(),
            ),
            sessions: Arc::default(),
            taps: Arc::default(),
            phase: watch::Sender::new(Phase::Created),
            started: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            signal: AtomicU32::new(0),
            part: stuck.part(),
            stuck,
            orders,
            parts: Mutex::new(None),
            user: Arc::new(spec.user.clone()),
            spec,
            sandbox,
            host,
        };
        (Arc::new(container), to_follow)
    }

    pub fn id(&self) -> &ContainerId {
        &self.spec.id
    }

    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub fn is_running(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Running { .. })
    }

    /// What was built; [`Error::Precondition`] before that and after the end.
    pub fn parts(&self) -> Result<Arc<Parts>> {
        lock(&self.parts).clone().ok_or_else(|| {
            Error::Precondition(format!(
                "container {} is {}",
                self.id(),
                self.phase.borrow().name()
            ))
        })
    }

    /// Runs the entry point; returns the time at which it began. [`Error::Start`] says what is
    /// missing, and the container has ended then.
    pub async fn start(&self) -> Result<i64> {
        let wrong = |is: &str| {
            Error::Precondition(format!("container {} is {is}, expected created", self.id()))
        };
        let name = self.phase.borrow().name();
        if name != Phase::Created.name() {
            return Err(wrong(name));
        }
        if self.started.swap(true, Ordering::AcqRel) {
            return Err(wrong("starting"));
        }
        let (answer, answered) = oneshot::channel();
        let sent = self.orders.send(Order::Start(answer));
        sent.map_err(|_| wrong("ending"))?;
        answered.await.unwrap_or_else(|_| Err(wrong("ending")))
    }

    /// Ends the guest: by itself within the grace, else from outside. Returns once its thread,
    /// descriptors and mounts are gone, always with the one exit that it has.
    pub async fn stop(&self, stop: Stop) -> Exit {
        let Stop { signal, grace, patience } = stop;
        let grace = match patience {
            Patience::Hearing if !self.hears() => Duration::ZERO,
            _ => grace,
        };
        // Only a thread that still waits for its start reads this.
        let _ = self.orders.send(Order::End { signal });
        if !grace.is_zero() {
            self.kill.ask();
        }
        if let Ok(exit) = timeout(grace, self.exited()).await {
            return exit;
        }
        let signal = if grace.is_zero() { signal } else { SIGKILL };
        let _ = self.signal.compare_exchange(0, signal, Ordering::AcqRel, Ordering::Acquire);
        self.sessions.close();
        let _lifted = self.control.lift();
        match end(&self.kill, self.exited()).await {
            Some(exit) => exit,
            None => self.leave_behind().await,
        }
    }

    /// Whether its program hears that it is to stop.
    fn hears(&self) -> bool {
        let parts = lock(&self.parts);
        self.this.hears()
            || matches!(parts.as_deref(), Some(Parts { program: Loaded::Ready(program), .. }) if program.hears())
    }

    /// Resolves to the exit once there is one.
    pub async fn exited(&self) -> Exit {
        let mut phase = self.phase.subscribe();
        // The sender lives in self, so waiting ends by the exit alone.
        let exit = phase.wait_for(|phase| phase.exit().is_some()).await.ok();
        exit.and_then(|phase| phase.exit().cloned()).unwrap_or_else(ending::stuck)
    }

    /// Gives up on the thread: its mounts go as soon as its system call returns.
    async fn leave_behind(&self) -> Exit {
        tracing::error!(container = %self.id(), "a thread is stuck in a system call");
        self.part.leave_behind();
        self.taps.close();
        let parts = lock(&self.parts).take();
        if let Some(parts) = parts {
            let taken = on_thread("w-umount", move || parts.tree.take_down());
            if let Ok(Ok(Err(error))) | Ok(Err(error)) = timeout(PATIENCE, taken).await {
                tracing::error!(container = %self.id(), %error, "cannot take a root down");
            }
        }
        self.publish(ending::stuck());
        self.exited().await
    }

    /// Replaces the limits, for running threads too; on an error nothing has changed. Called by
    /// a thread of no container.
    pub fn update(&self, update: &Update) -> Result<()> {
        self.sandbox.allows(update.processor.cpus.as_ref())?;
        self.control.update(&update.processor)?;
        self.ledger.memory.set_limit(update.memory);
        if let Some(descriptors) = update.descriptors {
            self.ledger.descriptors.set_limit(u64::from(descriptors));
        }
        Ok(())
    }

    /// Makes the calling thread one of the container's: its network, its CPUs, its CPU time.
    pub fn enter(&self) -> Result<Placed> {
        self.sandbox.join()?;
        self.control.enter()
    }

    /// Makes the calling thread the container's user.
    pub fn act(&self) -> Result<Acting> {
        Acting::begin(&self.user, self.host.privilege)
    }

    /// For a thread that a guest's has begun, and whose user it has from birth.
    pub fn act_no_more(&self) {
        Acting::end_inherited(&self.user);
    }

    /// What a program of this container is run with.
    pub fn context(self: &Arc<Self>, root: Arc<Root>, run: Run) -> Context {
        Context {
            argv: run.argv,
            env: self.spec.env.clone(),
            root,
            user: self.user.clone(),
            working_dir: self.spec.working_dir.clone(),
            stdin: run.streams.stdin,
            stdout: run.streams.stdout,
            stderr: run.streams.stderr,
            ledger: self.ledger.clone(),
            kill: run.kill,
            control: self.control.clone(),
            ticker: self.host.ticker.clone(),
            guard: self.guard.clone(),
            listen: match run.role {
                Role::Main => self.spec.network.listen.clone(),
                Role::Exec => Vec::new(),
            },
            role: run.role,
            service: self.spec.network.service.clone(),
            crew: Some(Arc::new(self.clone())),
            begun: run.begun,
            this: self.this.clone(),
            process: None,
        }
    }

    /// The signal that a kill of this container stands for.
    pub fn signal(&self) -> u32 {
        match self.signal.load(Ordering::Acquire) {
            0 => SIGKILL,
            signal => signal,
        }
    }

    /// From the container's thread: everything is built.
    pub fn install(&self, parts: Parts) -> Arc<Parts> {
        let parts = Arc::new(parts);
        *lock(&self.parts) = Some(parts.clone());
        parts
    }

    /// From the container's thread: what is to be taken down; nothing when that is being done.
    pub fn uninstall(&self) -> Option<Arc<Parts>> {
        lock(&self.parts).take()
    }

    /// From the container's thread: the guest is about to run.
    pub fn begin(&self, at: i64) {
        self.this.begin(at);
        self.go(Verb::Begin { at });
    }

    /// Tells the exit, first to the journal, then to everybody; only the first exit counts.
    pub fn publish(&self, exit: Exit) {
        if self.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        self.host.exits.record(ExitRecord {
            container: self.id().to_string(),
            sandbox: self.spec.sandbox.to_string(),
            started_at: self.phase.borrow().started_at(),
            exit: exit.clone(),
        });
        self.go(Verb::End(exit));
    }

    /// Ends a container that could not be built, whose end is nobody's news.
    pub fn abandon(&self, exit: Exit) {
        self.ended.store(true, Ordering::Release);
        self.go(Verb::End(exit));
    }

    fn go(&self, verb: Verb) {
        self.phase.send_if_modified(|phase| match phase.after(verb) {
            Some(next) => {
                *phase = next;
                true
            }
            None => false,
        });
    }
}

/// What differs between the main program's run and an exec's.
pub struct Run {
    pub argv: Vec<String>,
    pub streams: Streams,
    pub kill: Arc<Kill>,
    pub role: Role,
    pub begun: Option<Begun>,
}

/// Kills and interrupts until `gone` resolves; `None` when it does not for [`PATIENCE`].
pub async fn end<T>(kill: &Kill, gone: impl Future<Output = T>) -> Option<T> {
    kill.kill();
    let mut gone = std::pin::pin!(gone);
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Ok(result) = timeout(pause, gone.as_mut()).await {
            return Some(result);
        }
        if Instant::now() >= deadline {
            return None;
        }
        kill.interrupt();
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Does something that may block on a short-lived thread.
pub async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (done, is_done) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || done.send(work()))
        .map_err(|error| Error::Exhausted(format!("starting a thread: {error}")))?;
    is_done.await.map_err(|_| Error::Internal(format!("thread {name} failed")))
}
