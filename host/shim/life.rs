//! A container's thread, from the build of its root to the news of its exit. Nothing of this
//! runs on the server's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::container::{Container, Order, Parts, Run};
use super::cpu::Placed;
use super::exec::Streams;
use super::guest::{Ended, Program, Role, Stdin};
use super::input::Input;
use super::log::{LogFile, Stream};
use super::mounts::{self, RootSpec};
use super::output::{Discard, Output};
use super::processes::{Begin, Process};
use super::programs::Loaded;
use super::sandbox::thread_name;
use super::taps::Tapped;
use super::terminal::Screen;
use super::wasi::fs::Root;
use super::{clock, ending, lock};
use crate::engine::THREAD_STACK;
use crate::error::{Error, Result};
use crate::model::container::{Exit, Reason};

/// How long sessions are waited for when the main program has ended.
const SESSIONS_PATIENCE: Duration = Duration::from_secs(5);

/// Starts the container's thread; returns once the container is built. On an error nothing of
/// it is left.
pub async fn begin(container: &Arc<Container>, orders: mpsc::Receiver<Order>) -> Result<()> {
    let (built, is_built) = oneshot::channel();
    let own = container.clone();
    let timing = Timing::of(container)?;
    let spawned = std::thread::Builder::new()
        .name(thread_name('c', container.id().as_str()))
        .stack_size(THREAD_STACK)
        .spawn(move || live(&own, (built, timing), &orders));
    if let Err(error) = spawned {
        container.abandon(ending::exit_of(Ended::NotStarted(error.to_string()), 0));
        return Err(Error::Exhausted(format!("starting a container's thread: {error}")));
    }
    is_built
        .await
        .unwrap_or_else(|_| Err(Error::Internal("a container's thread ended early".to_owned())))
}

/// Holds a container's CPU time while it is built: the kernel takes milliseconds to put a thread
/// into a group. On a thread of its own, which is in none.
struct Timing {
    entered: mpsc::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Timing {
    /// `None` where the container names no CPU time.
    fn of(container: &Container) -> Result<Option<Self>> {
        let control = container.control.clone();
        if !control.has_time() {
            return Ok(None);
        }
        let (entered, has_entered) = mpsc::channel();
        let spawned = std::thread::Builder::new().name("w-time".to_owned()).spawn(move || {
            // Without the container's thread there is nobody to hold.
            if has_entered.recv().is_ok() { control.begin_time() } else { Ok(()) }
        });
        let thread = spawned
            .map_err(|error| Error::Exhausted(format!("starting a container's thread: {error}")))?;
        Ok(Some(Self { entered, thread }))
    }

    /// The container's thread is one of its threads now.
    fn begin(&self) {
        // It waits for nothing else.
        let _ = self.entered.send(());
    }

    fn wait(self) -> Result<()> {
        let failed = || Error::Internal("holding a container's CPU time failed".to_owned());
        self.thread.join().unwrap_or_else(|_| Err(failed()))
    }
}

fn live(
    container: &Arc<Container>,
    (built, timing): (oneshot::Sender<Result<()>>, Option<Timing>),
    orders: &mpsc::Receiver<Order>,
) {
    let (placed, parts) = match container.enter() {
        Ok(placed) => {
            timing.iter().for_each(Timing::begin);
            (Some(placed), guarded(|| build(container)))
        }
        Err(error) => (None, Err(error)),
    };
    let parts = match parts {
        Ok(parts) => parts,
        Err(error) => {
            dismantle(container);
            container.host.programs.released();
            leave(container, placed);
            container.abandon(ending::exit_of(Ended::NotStarted(error.to_string()), 0));
            // Whoever asked may have gone.
            let _ = built.send(Err(error));
            return;
        }
    };
    // Whoever asked may have gone: the container waits until it is started or ended.
    let _ = built.send(Ok(()));
    let (exit, refusal) = follow(container, (parts, timing), orders);
    // What it used up does not hold its end up.
    let lifted = container.control.lift();
    // Whoever waits for a session counts one that stays.
    let left = container.sessions.end(SESSIONS_PATIENCE);
    if left > 0 {
        tracing::error!(container = %container.id(), left, "sessions are stuck in system calls");
    }
    note(container, &exit);
    dismantle(container);
    container.host.programs.released();
    drop(lifted);
    leave(container, placed);
    container.part.over();
    container.publish(exit);
    if let Some(refusal) = refusal {
        refusal.tell();
    }
}

/// The calling thread, the container's last, is none of it any more.
fn leave(container: &Container, placed: Option<Placed>) {
    drop(placed);
    container.control.end();
}

/// A start that is under way: answered when the guest begins, or with why it could not.
struct Start {
    container: Arc<Container>,
    answer: Mutex<Option<oneshot::Sender<Result<i64>>>>,
}

impl Start {
    /// The guest runs from now on; told once.
    fn begin(&self) {
        let Some(answer) = lock(&self.answer).take() else { return };
        let started_at = clock::now();
        self.container.begin(started_at);
        // Whoever asked may have gone; the guest runs all the same.
        let _ = answer.send(Ok(started_at));
    }

    /// What is to be told of an `exit` that came before the guest could begin.
    fn refusal(&self, exit: &Exit) -> Option<Refusal> {
        if exit.reason != Reason::StartError {
            // Killed at this very moment: as if it had run.
            self.begin();
        }
        let answer = lock(&self.answer).take()?;
        Some(Refusal { answer, sentence: exit.message.clone() })
    }
}

/// A start that could not be, to be told once the container has ended for it.
struct Refusal {
    answer: oneshot::Sender<Result<i64>>,
    sentence: String,
}

impl Refusal {
    fn tell(self) {
        let _ = self.answer.send(Err(Error::Start(self.sentence)));
    }
}

/// Waits for the order and carries it out.
fn follow(
    container: &Arc<Container>,
    (parts, timing): (Arc<Parts>, Option<Timing>),
    orders: &mpsc::Receiver<Order>,
) -> (Exit, Option<Refusal>) {
    let answer = match orders.recv() {
        Ok(Order::Start(answer)) => answer,
        Ok(Order::End { signal }) => return (ending::signaled(signal), None),
        Err(mpsc::RecvError) => return (ending::signaled(container.signal()), None),
    };
    let start = Arc::new(Start { container: container.clone(), answer: Mutex::new(Some(answer)) });
    let held = timing.map_or(Ok(()), Timing::wait);
    let exit = match &parts.program {
        _ if held.is_err() => {
            let why = held.err().map_or_else(String::new, |error| error.to_string());
            ending::exit_of(Ended::NotStarted(why), 0)
        }
        Loaded::Ready(program) => run(container, &parts, (program, &start)),
        Loaded::Unlinkable(sentence) => ending::exit_of(Ended::NotStarted(sentence.clone()), 0),
        Loaded::TooLarge(sentence) => {
            ending::exit_of(Ended::out_of_memory(&container.ledger, sentence.clone()), 0)
        }
    };
    let refusal = start.refusal(&exit);
    (exit, refusal)
}

fn run(
    container: &Arc<Container>,
    parts: &Parts,
    (program, start): (&Program, &Arc<Start>),
) -> Exit {
    let (streams, shown) = match streams(container, parts) {
        Ok(streams) => streams,
        Err(error) => return ending::exit_of(Ended::NotStarted(error.to_string()), 0),
    };
    let begun = start.clone();
    let run = Run {
        argv: container.spec.argv.clone(),
        streams,
        kill: container.kill.clone(),
        role: Role::Main,
        begun: Some(Box::new(move || begun.begin())),
    };
    let process = Process::begin(container, Begin::of(&run, None));
    let mut context = container.context(parts.root.clone(), run);
    context.process = process.clone();
    // Made by root, as runc does, where it is missing; who cannot have it is told by his open.
    if let Ok(top) = parts.root.top() {
        let _ = parts.root.make_dirs(&top, container.spec.working_dir.as_bytes());
    }
    let _acting = match container.act() {
        Ok(acting) => acting,
        Err(error) => return ending::exit_of(Ended::NotStarted(error.to_string()), 0),
    };
    let exit = match catch_unwind(AssertUnwindSafe(|| program.run(context))) {
        Ok(ended) => {
            let own = container.this.code().filter(|_| matches!(ended, Ended::Killed));
            let ended = own.map_or(ended, |code| Ended::Exited(code.into()));
            ending::exit_of(ended, container.signal())
        }
        Err(panic) => ending::host_fault(&*panic),
    };
    // It holds the terminal's inner side.
    drop(process);
    if let Some(shown) = shown {
        // The last of what a terminal shows belongs into the log before the container has ended.
        let _ = shown.blocking_recv();
    }
    exit
}

/// The main program's standard streams, and for a terminal what resolves once all of it was shown.
fn streams(
    container: &Container,
    parts: &Parts,
) -> Result<(Streams, Option<oneshot::Receiver<()>>)> {
    let output = |stream| -> Arc<dyn Output> {
        let log = parts.log.as_ref();
        let log =
            log.map_or_else(|| Arc::new(Discard) as Arc<dyn Output>, |log| log.output(stream));
        Arc::new(Tapped { log, taps: container.taps.clone(), stream })
    };
    let guests = parts.input.as_ref().and_then(Input::take_guests);
    let terminal = parts.input.as_ref().and_then(Input::terminal);
    if let (Some(terminal), Some(guests)) = (terminal, &guests) {
        let inner = || guests.try_clone().map_err(Error::io("setting a terminal up"));
        let (stdin, screen) = (Stdin::Descriptor(inner()?), Arc::new(Screen::new(inner()?)));
        let shown = terminal.show(output(Stream::Stdout), container.control.clone())?;
        return Ok((Streams { stdin, stdout: screen.clone(), stderr: screen }, Some(shown)));
    }
    let stdin = guests.map_or(Stdin::Empty, Stdin::Descriptor);
    let (stdout, stderr) = (output(Stream::Stdout), output(Stream::Stderr));
    Ok((Streams { stdin, stdout, stderr }, None))
}

fn build(container: &Container) -> Result<Arc<Parts>> {
    // A stop during the build interrupts what it waits for.
    let _interruptible = container.kill.enter();
    let (spec, host) = (&container.spec, &container.host);
    let stopped = |_| Error::Precondition(format!("container {} was stopped", spec.id));
    let program = host.programs.load_within(&spec.code, &container.ledger)?;
    container.kill.check().map_err(stopped)?;
    let log = spec.log_path.as_deref().map(LogFile::open).transpose()?;
    let input = Input::open(spec.stdin)?;
    let at = host.roots.join(spec.id.as_str());
    std::fs::create_dir(&at).map_err(Error::io(format!("making {}", at.display())))?;
    let layers = container.sandbox.spec.etc_layer.iter().chain(&spec.root.layers);
    let root = RootSpec {
        layers: layers.cloned().collect(),
        upper: spec.root.upper.clone(),
        work: spec.root.work.clone(),
        access: spec.root.access,
        dev: host.dev.clone(),
        mounts: spec.mounts.clone(),
        covers: spec.covers.clone(),
        privilege: host.privilege,
    };
    let tree = match mounts::assemble(&at, &root) {
        Ok(tree) => tree,
        Err(error) => {
            // Its folder may be gone with what was mounted there.
            let _ = std::fs::remove_dir(&at);
            return Err(error);
        }
    };
    let open = tree.open_root();
    let dir = match open {
        Ok(dir) => dir,
        Err(error) => {
            tree.take_down()?;
            return Err(error);
        }
    };
    let root = Arc::new(Root::new(dir, container.ledger.clone(), host.devices.clone()));
    let parts = container.install(Parts { program, root, tree, log, input });
    container.kill.check().map_err(stopped)?;
    Ok(parts)
}

/// Takes down what the container was made of; its descriptors are closed when this returns.
fn dismantle(container: &Container) {
    container.taps.close();
    let Some(parts) = container.uninstall() else { return };
    if let Err(error) = parts.tree.take_down() {
        tracing::error!(container = %container.id(), %error, "cannot take a root down");
    }
    if let Some(log) = &parts.log {
        log.finish();
    }
}

/// Says in the container's log why it ended, where the guest could not say it.
fn note(container: &Container, exit: &Exit) {
    let is_ours = match exit.reason {
        Reason::OomKilled | Reason::StartError => true,
        Reason::Error => matches!(exit.code, 134 | 255) && !exit.message.is_empty(),
        Reason::Completed | Reason::Unknown => false,
    };
    if is_ours
        && let Ok(parts) = container.parts()
        && let Some(log) = &parts.log
    {
        log.note(&exit.message);
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Error::Internal(ending::host_fault(&*panic).message)))
}
