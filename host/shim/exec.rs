//! Runs a program in a running container beside its main one: on a thread and in a Store of its
//! own, in the same root, network and CPUs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::container::{Container, Parts, Run, end};
use super::ending;
use super::guest::{Begun, Ended, Program, Role, Stdin};
use super::kill::Kill;
use super::output::Output;
use super::processes::{Begin, Process};
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
    pub streams: Streams,
    /// Ends it.
    pub kill: Arc<Kill>,
    /// Called just before its first instruction.
    pub begun: Option<Begun>,
}

/// A program's standard streams.
pub struct Streams {
    pub stdin: Stdin,
    pub stdout: Arc<dyn Output>,
    pub stderr: Arc<dyn Output>,
}

/// Runs it to its end, or ends it after its timeout or when `caller` resolves (nobody wants it any
/// more): then there is no exit. Its thread has gone when this returns, and its streams with it.
pub async fn exec(
    container: Arc<Container>,
    spec: ExecSpec,
    caller: oneshot::Receiver<()>,
) -> Result<Option<Exit>> {
    let not_running = || {
        let state = container.phase().name();
        Error::Precondition(format!("container {} is {state}, expected running", container.id()))
    };
    if !container.is_running() {
        return Err(not_running());
    }
    let kill = spec.kill.clone();
    let session = container.sessions.begin(kill.clone()).ok_or_else(not_running)?;
    let parts = container.parts()?;
    let timeout = spec.timeout;
    let (done, mut is_done) = oneshot::channel();
    let own = container.clone();
    let part = container.stuck.part();
    let own_part = part.clone();
    std::thread::Builder::new()
        .name(thread_name('x', container.id().as_str()))
        .stack_size(THREAD_STACK)
        .spawn(move || {
            let result = run(&own, &parts, spec);
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
    Ok(match ended {
        Some(ended) => Some(ended.map_err(|_| failed())??),
        None => match end_lifted(&container, &kill, is_done).await {
            Some(ended) if container_ended => Some(ended.map_err(|_| failed())??),
            Some(_) => None,
            None => {
                tracing::error!(container = %container.id(), "an exec is stuck in a system call");
                part.leave_behind();
                container_ended.then(ending::stuck)
            }
        },
    })
}

/// As [`end`]: what the container has used up does not hold the exec's end up.
async fn end_lifted<T>(
    container: &Container,
    kill: &Kill,
    gone: impl Future<Output = T>,
) -> Option<T> {
    let _lifted = container.control.lift();
    end(kill, gone).await
}

async fn elapsed(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

fn run(container: &Arc<Container>, parts: &Parts, spec: ExecSpec) -> Result<Exit> {
    let _placed = container.enter()?;
    let loaded = match &spec.code {
        Some(code) => container.host.programs.load_within(code, &container.ledger)?,
        None => parts.program.clone(),
    };
    let stderr = spec.streams.stderr.clone();
    let exit = match loaded {
        Loaded::Ready(program) => {
            let _acting = container.act()?;
            run_loaded(&program, (container, parts), spec)
        }
        Loaded::Unlinkable(sentence) => return Err(Error::Start(sentence)),
        Loaded::TooLarge(sentence) => {
            ending::exit_of(Ended::out_of_memory(&container.ledger, sentence), SIGKILL)
        }
    };
    if exit.reason != Reason::Completed && !exit.message.is_empty() {
        // What a main program gets in its log; a full capture drops it, and so does a client
        // that has gone.
        let _ = stderr.write(format!("{}\n", exit.message).as_bytes());
    }
    Ok(exit)
}

fn run_loaded(
    program: &Program,
    (container, parts): (&Arc<Container>, &Parts),
    spec: ExecSpec,
) -> Exit {
    let run = Run {
        argv: spec.argv,
        streams: spec.streams,
        kill: spec.kill,
        role: Role::Exec,
        begun: spec.begun,
    };
    let process = Process::begin(container, Begin::of(&run, spec.code));
    let mut context = container.context(parts.root.clone(), run);
    context.process = process.clone();
    match catch_unwind(AssertUnwindSafe(|| program.run(context))) {
        Ok(ended) => ending::exit_of(ended, SIGKILL),
        Err(panic) => ending::host_fault(&*panic),
    }
}
