//! Sessions: a connection each on `streams.sock`, whose first message says what it is and brings
//! the descriptors. The connection is the session's life: when the daemon or its client goes,
//! what it alone wanted goes too.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use wire::session_reply::Reply;
use wire::session_request::{Session, Stream};

use super::container::Container;
use super::exec::{self, ExecSpec, Streams};
use super::guest::Stdin;
use super::input::feed;
use super::kill::Kill;
use super::output::{Discard, Output, Pipe};
use super::processes::Interrupted;
use super::registry::Registry;
use super::spec::{Patience, Stop};
use super::terminal::{Screen, Terminal};
use super::{convert, dial, ending};
use crate::error::{Error, Result};
use crate::model::container::Exit;
use crate::passing::{Inlet, Outlet, halves};
use crate::proto::shim as wire;
use crate::retry;

/// The socket's name in the shim's folder.
const SOCKET: &str = "streams.sock";

/// How long a connection may take to say what it is for.
const OPENING: Duration = Duration::from_secs(10);

/// What the interrupt key stands for.
const SIGINT: u32 = 2;

/// Listens in the shim's folder.
pub fn listen(dir: &Path) -> Result<UnixListener> {
    let path = dir.join(SOCKET);
    let listener =
        UnixListener::bind(&path).map_err(Error::io(format!("listening on {}", path.display())))?;
    listener.set_nonblocking(true).map_err(Error::io("setting the sessions' socket up"))?;
    Ok(listener)
}

/// Serves sessions until dropped.
pub async fn serve(registry: Arc<Registry>, listener: UnixListener) -> Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)
        .map_err(Error::io("taking over the sessions' socket"))?;
    loop {
        let (stream, _) = retry::until_ok(|| listener.accept()).await;
        tokio::spawn(session(registry.clone(), stream));
    }
}

async fn session(registry: Arc<Registry>, stream: UnixStream) {
    let (outlet, mut inlet) = halves(stream);
    let mut line = match tokio::time::timeout(OPENING, inlet.receive()).await {
        Ok(Ok(Some((request, descriptors)))) => {
            return converse(&registry, (request, descriptors), Line { outlet, inlet }).await;
        }
        Ok(Ok(None)) => return,
        Ok(Err(_)) | Err(_) => Line { outlet, inlet },
    };
    line.refuse(Error::Invalid("a session begins with its request".to_owned())).await;
}

async fn converse(
    registry: &Registry,
    (request, descriptors): (wire::SessionRequest, Vec<OwnedFd>),
    mut line: Line,
) {
    let ends = match Ends::of(&request, descriptors) {
        Ok(ends) => ends,
        Err(error) => return line.refuse(error).await,
    };
    let ended = match request.session {
        Some(Session::Exec(asked)) => run(registry, asked, ends, &mut line).await,
        Some(Session::Attach(asked)) => attach(registry, &asked, ends, &mut line).await,
        Some(Session::Dial(asked)) => connect(registry, &asked, &mut line).await.map(|()| None),
        None => Err(Error::Invalid("a session of no kind".to_owned())),
    };
    match ended {
        Ok(Some(exit)) => line.say(Reply::Ended(convert::exit(exit)), &[]).await,
        // The client has gone, or nothing is left to say.
        Ok(None) => {}
        Err(error) => line.refuse(error).await,
    }
}

/// The connection to the daemon.
struct Line {
    outlet: Outlet,
    inlet: Inlet,
}

impl Line {
    async fn say(&mut self, reply: Reply, descriptors: &[std::os::fd::BorrowedFd<'_>]) {
        let reply = wire::SessionReply { reply: Some(reply) };
        if let Err(error) = self.outlet.send(&reply, descriptors).await {
            tracing::debug!(%error, "a session's daemon has gone");
        }
    }

    async fn refuse(&mut self, error: Error) {
        let status = convert::status(error);
        let refusal =
            wire::Refusal { code: status.code().into(), message: status.message().to_owned() };
        self.say(Reply::Refused(refusal), &[]).await;
    }

    /// The next wish; `None` once the daemon or the client has gone.
    async fn wish(&mut self) -> Option<wire::TerminalSize> {
        loop {
            let (control, _) = self.inlet.receive::<wire::SessionControl>().await.ok()??;
            if let Some(wire::session_control::Control::Resize(size)) = control.control {
                return Some(size);
            }
        }
    }
}

/// The program's ends of a session's pipes.
#[derive(Default)]
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Ends {
    fn of(request: &wire::SessionRequest, descriptors: Vec<OwnedFd>) -> Result<Self> {
        if request.descriptors.len() != descriptors.len() {
            return Err(Error::Invalid("a session without its descriptors".to_owned()));
        }
        let mut ends = Self::default();
        for (stream, descriptor) in request.descriptors().zip(descriptors) {
            let end = match stream {
                Stream::Stdin => &mut ends.stdin,
                Stream::Stdout => &mut ends.stdout,
                Stream::Stderr => &mut ends.stderr,
            };
            *end = Some(descriptor);
        }
        Ok(ends)
    }
}

/// A program beside the main one; its exit unless the client went before.
async fn run(
    registry: &Registry,
    asked: wire::ExecSession,
    ends: Ends,
    line: &mut Line,
) -> Result<Option<Exit>> {
    let container = registry.container(&convert::container_id(&asked.container_id)?)?;
    let kill = Arc::new(Kill::new(container.host.engines.clone()));
    let interrupted = Arc::new(Notify::new());
    let (streams, view) = if asked.terminal {
        let (streams, view) = View::open((ends, &container), &kill, &interrupted)?;
        (streams, Some(view))
    } else {
        (direct(ends, &kill), None)
    };
    let (own, own_kill) = (container.clone(), kill.clone());
    let (tell_begun, is_begun) = oneshot::channel();
    let spec = ExecSpec {
        code: asked.code.map(convert::code).transpose()?,
        argv: asked.argv,
        timeout: None,
        streams,
        kill,
        // Whoever asked may have gone.
        begun: Some(Box::new(move || tell_begun.send(()).unwrap_or_default())),
    };
    let (caller, caller_gone) = oneshot::channel();
    let mut program = tokio::spawn(exec::exec(container, spec, caller_gone));
    let (mut caller, mut is_begun) = (Some(caller), Some(is_begun));
    let mut is_interrupted = false;
    let ended = loop {
        tokio::select! {
            biased;
            begun = once(&mut is_begun) => {
                is_begun = None;
                if begun {
                    line.say(Reply::Begun(wire::Empty {}), &[]).await;
                }
            }
            wish = line.wish(), if caller.is_some() => match (wish, &view) {
                (Some(size), Some(view)) => resize(&view.terminal, &size),
                (Some(_), None) => {}
                (None, _) => caller = None,
            },
            () = interrupted.notified() => {
                match (own.sandbox.processes.interrupt(&own_kill), &view) {
                    (Interrupted::Children, _) => {}
                    (Interrupted::Held, Some(view)) => view.terminal.enter(),
                    _ => is_interrupted = caller.take().is_some(),
                }
            }
            ended = &mut program => break ended,
        }
    };
    let failed = || Error::Internal("an exec's session failed".to_owned());
    let exit = ended.map_err(|_| failed())??;
    if let Some(view) = view {
        view.over().await;
    }
    Ok(exit.or_else(|| is_interrupted.then(|| ending::signaled(SIGINT))))
}

/// Whether it was told; never, once it has been asked for.
async fn once(told: &mut Option<oneshot::Receiver<()>>) -> bool {
    match told {
        Some(told) => told.await.is_ok(),
        None => std::future::pending().await,
    }
}

/// Streams that go straight to the client's pipes.
fn direct(ends: Ends, kill: &Arc<Kill>) -> Streams {
    let output = |end: Option<OwnedFd>| -> Arc<dyn Output> {
        match end {
            Some(end) => Arc::new(Pipe::new(end, kill.clone())),
            None => Arc::new(Discard),
        }
    };
    Streams {
        stdin: ends.stdin.map_or(Stdin::Empty, Stdin::Descriptor),
        stdout: output(ends.stdout),
        stderr: output(ends.stderr),
    }
}

/// A terminal between an exec and its client.
struct View {
    terminal: Arc<Terminal>,
    typing: Option<JoinHandle<io::Result<()>>>,
    shown: oneshot::Receiver<()>,
}

impl View {
    fn open(
        (ends, container): (Ends, &Container),
        kill: &Arc<Kill>,
        interrupted: &Arc<Notify>,
    ) -> Result<(Streams, Self)> {
        let (terminal, inner) = Terminal::open()?;
        let twin = || Error::io("setting a terminal up");
        let screen = Arc::new(Screen::new(inner.try_clone().map_err(twin())?));
        let sink: Arc<dyn Output> = match ends.stdout {
            Some(end) => Arc::new(Pipe::new(end, kill.clone())),
            None => Arc::new(Discard),
        };
        let shown = terminal.show(sink, container.control.clone())?;
        let keyboard = terminal.keyboard().map_err(twin())?;
        let typing = ends.stdin.map(|end| {
            let (terminal, interrupted) = (terminal.clone(), interrupted.clone());
            tokio::spawn(feed(end, keyboard, move |bytes| {
                if terminal.is_interrupted_by(bytes) {
                    interrupted.notify_one();
                }
            }))
        });
        let streams =
            Streams { stdin: Stdin::Descriptor(inner), stdout: screen.clone(), stderr: screen };
        Ok((streams, Self { terminal, typing, shown }))
    }

    /// The program is gone: waits until the client has got all of what it showed.
    async fn over(self) {
        if let Some(typing) = self.typing {
            typing.abort();
        }
        let _ = self.shown.await;
    }
}

fn resize(terminal: &Terminal, size: &wire::TerminalSize) {
    let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    terminal.resize(number(size.width), number(size.height));
}

/// The main program's streams; its exit unless the client went before.
async fn attach(
    registry: &Registry,
    asked: &wire::AttachSession,
    ends: Ends,
    line: &mut Line,
) -> Result<Option<Exit>> {
    let container = registry.container(&convert::container_id(&asked.container_id)?)?;
    if !container.is_running() {
        let (id, state) = (container.id(), container.phase().name());
        return Err(Error::Precondition(format!("container {id} is {state}, expected running")));
    }
    let parts = container.parts()?;
    let input = parts.input.as_ref();
    let terminal = input.and_then(|input| input.terminal());
    // A terminal's two outputs are one.
    let stderr = ends.stderr.filter(|_| terminal.is_none());
    let look = container.taps.look(ends.stdout, stderr)?;
    let typing = match ends.stdin {
        Some(end) => Some(type_into(&container, (end, terminal.clone()))?),
        None => None,
    };
    drop(parts);
    line.say(Reply::Begun(wire::Empty {}), &[]).await;
    let exit = loop {
        tokio::select! {
            exit = container.exited() => break Some(exit),
            wish = line.wish() => match (wish, &terminal) {
                (Some(size), Some(terminal)) => resize(terminal, &size),
                (Some(_), None) => {}
                (None, _) => break None,
            },
        }
    };
    drop(look);
    if let Some(typing) = typing {
        typing.abort();
    }
    Ok(exit)
}

/// Feeds the container's standard input for as long as the task lives.
fn type_into(
    container: &Arc<Container>,
    (from, terminal): (OwnedFd, Option<Arc<Terminal>>),
) -> Result<JoinHandle<()>> {
    let parts = container.parts()?;
    let none = || {
        let id = container.id();
        Error::Precondition(format!("container {id} takes no input: give it stdin: true"))
    };
    let input = parts.input.as_ref().ok_or_else(none)?;
    let writer = input.writer().map_err(Error::io("opening a container's input"))?;
    let writer = writer.ok_or_else(|| {
        Error::Precondition(format!("the input of container {} has ended", container.id()))
    })?;
    let attachment = Attachment(container.clone());
    let container = container.clone();
    Ok(tokio::spawn(async move {
        let _attachment = attachment;
        let interrupt = |bytes: &[u8]| {
            let Some(terminal) = terminal.as_ref().filter(|own| own.is_interrupted_by(bytes))
            else {
                return;
            };
            match container.sandbox.processes.interrupt(&container.kill) {
                Interrupted::Children => {}
                Interrupted::Held => terminal.enter(),
                Interrupted::Itself => {
                    let container = container.clone();
                    tokio::spawn(async move { container.stop(INTERRUPT).await });
                }
            }
        };
        if let Err(error) = feed(from, writer, interrupt).await {
            tracing::debug!(%error, "a container takes no more input");
        }
    }))
}

const INTERRUPT: Stop = Stop { signal: SIGINT, grace: Duration::ZERO, patience: Patience::Hearing };

/// One that gives input; over when dropped.
struct Attachment(Arc<Container>);

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Ok(parts) = self.0.parts()
            && let Some(input) = &parts.input
        {
            input.attachment_is_over();
        }
    }
}

async fn connect(registry: &Registry, asked: &wire::DialSession, line: &mut Line) -> Result<()> {
    let id = convert::sandbox_id(&asked.sandbox_id)?;
    let sandbox = registry.sandbox(&id)?;
    let port = u16::try_from(asked.port).ok().filter(|&port| port != 0);
    let port = port.ok_or_else(|| Error::Invalid(format!("{} is no port", asked.port)))?;
    let stream = dial::dial(sandbox, port).await?;
    line.say(Reply::Begun(wire::Empty {}), &[stream.as_fd()]).await;
    Ok(())
}
