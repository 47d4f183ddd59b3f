//! Runs a program in a running container beside its main one: on a thread and in a Store of its
//! own, in the same root, network and CPUs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::container::{Container, Parts, Run, end};
use super::ending;
use super::guest::{Ended, Program, Role, Stdin};
use super::kill::Kill;
use super::output::{Capture, Output};
use super::programs::{Code, Loaded};
use super::sandbox::thread_name;
use crate::engine::THREAD_STACK;
use crate::error::{Error, Result};
use crate::model::container::{Exit, Reason};

/// The signal that an exec's end from outside counts as.
const SIGKILL: u32 = 9;

pub struct ExecSpec {
    /// `None` runs the container's own entry module.
    pub code: Option<Code>,
    pub argv: Vec<String>,
    /// `None` waits for ever.
    pub timeout: Option<Duration>,
    /// Bytes kept of each stream.
    pub max_output: usize,
}

pub struct ExecOutcome {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// `None` when the timeout ended it.
    pub exit: Option<Exit>,
}

/// Runs it to its end, or ends it after its timeout or when `caller` resolves (nobody wants the
/// outcome any more). Its thread has gone when this returns.
pub async fn exec(
    container: Arc<Container>,
    spec: ExecSpec,
    caller: oneshot::Receiver<()>,
) -> Result<ExecOutcome> {
    let not_running = || {
        let state = container.phase().name();
        Error::Precondition(format!("container {} is {state}, expected running", container.id()))
    };
    if !container.is_running() {
        return Err(not_running());
    }
    let kill = Arc::new(Kill::new(container.host.engine.clone()));
    let session = container.sessions.begin(kill.clone()).ok_or_else(not_running)?;
    let parts = container.parts()?;
    let outputs = Outputs {
        stdout: Arc::new(Capture::new(spec.max_output)),
        stderr: Arc::new(Capture::new(spec.max_output)),
    };
    let timeout = spec.timeout;
    let (done, mut is_done) = oneshot::channel();
    let (own, own_kill, own_outputs) = (container.clone(), kill.clone(), outputs.clone());
    let part = container.stuck.part();
    let own_part = part.clone();
    std::thread::Builder::new()
        .name(thread_name('x', container.id().as_str()))
        .stack_size(THREAD_STACK)
        .spawn(move || {
            let result = run(&own, &parts, spec, (own_kill, own_outputs));
            // The container's root waits for the session, so it goes last.
            drop(parts);
            own.host.programs.released();
            drop(own);
            drop(session);
            own_part.over();
            // Whoever asked may have given up.
            let _ = done.send(result);
        })
        .map_err(|error| Error::Exhausted(format!("starting an exec's thread: {error}")))?;

    let (ended, container_ended) = tokio::select! {
        ended = &mut is_done => (Some(ended), false),
        () = elapsed(timeout) => (None, false),
        _ = caller => (None, false),
        // Its sessions have been ended by then; one that stays is not waited for.
        _ = container.exited() => (None, true),
    };
    let failed = || Error::Internal("an exec's thread failed".to_owned());
    let exit = match ended {
        Some(ended) => Some(ended.map_err(|_| failed())??),
        None => match end(&kill, is_done).await {
            Some(ended) if container_ended => Some(ended.map_err(|_| failed())??),
            Some(_) => None,
            None => {
                tracing::error!(container = %container.id(), "an exec is stuck in a system call");
                part.leave_behind();
                container_ended.then(ending::stuck)
            }
        },
    };
    Ok(ExecOutcome { stdout: outputs.stdout.take(), stderr: outputs.stderr.take(), exit })
}

async fn elapsed(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

#[derive(Clone)]
struct Outputs {
    stdout: Arc<Capture>,
    stderr: Arc<Capture>,
}

fn run(
    container: &Container,
    parts: &Parts,
    spec: ExecSpec,
    (kill, outputs): (Arc<Kill>, Outputs),
) -> Result<Exit> {
    let _member = container.enter()?;
    let loaded = match &spec.code {
        Some(code) => container.host.programs.load_within(code, &container.ledger)?,
        None => parts.program.clone(),
    };
    let stderr = outputs.stderr.clone();
    let exit = match loaded {
        Loaded::Ready(program) => {
            run_loaded(&program, (container, parts), spec.argv, (kill, outputs))
        }
        Loaded::Unlinkable(sentence) => return Err(Error::Start(sentence)),
        Loaded::TooLarge(sentence) => ending::exit_of(Ended::OutOfMemory(sentence), SIGKILL),
    };
    if exit.reason != Reason::Completed && !exit.message.is_empty() {
        // What a main program gets in its log; a full capture drops it.
        let _ = stderr.write(format!("{}\n", exit.message).as_bytes());
    }
    Ok(exit)
}

fn run_loaded(
    program: &Program,
    (container, parts): (&Container, &Parts),
    argv: Vec<String>,
    (kill, outputs): (Arc<Kill>, Outputs),
) -> Exit {
    let context = container.context(
        parts.root.clone(),
        Run {
            argv,
            // CRI's ExecSync has no input.
            stdin: Stdin::Empty,
            stdout: outputs.stdout,
            stderr: outputs.stderr,
            kill,
            role: Role::Exec,
            begun: None,
        },
    );
    match catch_unwind(AssertUnwindSafe(|| program.run(context))) {
        Ok(ended) => ending::exit_of(ended, SIGKILL),
        Err(panic) => ending::host_fault(&*panic),
    }
}
