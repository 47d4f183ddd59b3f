//! Sessions with programs: an exec's, an attachment's, a connection into a pod. Each is a
//! connection of its own to the shim, which gets the program's ends of the pipes. Dropping one
//! ends what it alone wanted. Knows nothing of clients or how they talk.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use wire::session_reply::Reply;
use wire::session_request::{Session as Asked, Stream};

use super::Runtime;
use super::client::{PATIENCE, failure};
use super::shims::Shim;
use crate::error::{Error, Result};
use crate::model::container::{Container, Exit};
use crate::model::sandbox::{Sandbox, SandboxState};
use crate::passing::{Inlet, Outlet, halves};
use crate::proto::shim as wire;

/// Bytes that an output's pipe holds, so that a fast program and a fast client seldom wait for
/// each other.
const OUTPUT_PIPE: usize = 1 << 20;

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    /// Not with a terminal, whose outputs are one.
    pub stderr: bool,
    pub terminal: bool,
}

/// The client's ends; each ends with the program or the container.
pub struct Session {
    pub stdin: Option<pipe::Sender>,
    pub stdout: Option<pipe::Receiver>,
    pub stderr: Option<pipe::Receiver>,
    pub control: Control,
}

/// What steers a session. Dropping it ends the session.
pub struct Control {
    sizes: mpsc::Sender<wire::TerminalSize>,
    inlet: Inlet,
    /// Of a program that ended before its first instruction.
    early: Option<wire::Exit>,
    _lives: oneshot::Sender<()>,
}

impl Control {
    /// Where a terminal's sizes go; whoever holds it does not keep the session.
    pub fn terminal(&self) -> Resizer {
        Resizer(self.sizes.clone())
    }

    /// Waits for the end of the program: of an exec, or of the container's main one.
    pub async fn ended(&mut self) -> Result<Exit> {
        if let Some(exit) = self.early.take() {
            return Ok(exit.into());
        }
        match next(&mut self.inlet).await? {
            (Reply::Ended(exit), _) => Ok(exit.into()),
            _ => Err(strange()),
        }
    }
}

/// Sets the size of a session's terminal.
#[derive(Clone)]
pub struct Resizer(mpsc::Sender<wire::TerminalSize>);

impl Resizer {
    /// Columns and rows. A client that resizes faster than the shim listens loses sizes.
    pub fn resize(&self, width: u16, height: u16) {
        let size = wire::TerminalSize { width: width.into(), height: height.into() };
        let _ = self.0.try_send(size);
    }
}

/// Pipes whose far ends are on their way to the shim.
#[derive(Default)]
struct Pipes {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    streams: Vec<i32>,
    far: Vec<OwnedFd>,
}

impl Pipes {
    fn open(wanted: Wanted) -> Result<Self> {
        let mut pipes = Self::default();
        let doing = || Error::io("opening a session's pipe");
        if wanted.stdin {
            let (reader, writer) = pipes.pair(Stream::Stdin)?;
            pipes.far.push(reader);
            pipes.stdin = Some(pipe::Sender::from_owned_fd(writer).map_err(doing())?);
        }
        let is_wanted = [wanted.stdout, wanted.stderr && !wanted.terminal];
        for (stream, wanted) in [Stream::Stdout, Stream::Stderr].into_iter().zip(is_wanted) {
            if !wanted {
                continue;
            }
            let (reader, writer) = pipes.pair(stream)?;
            // An ordinary user may have too many large ones already.
            let _ = fcntl_setpipe_size(&reader, OUTPUT_PIPE);
            pipes.far.push(writer);
            let reader = pipe::Receiver::from_owned_fd(reader).map_err(doing())?;
            match stream {
                Stream::Stderr => pipes.stderr = Some(reader),
                _ => pipes.stdout = Some(reader),
            }
        }
        Ok(pipes)
    }

    fn pair(&mut self, stream: Stream) -> Result<(OwnedFd, OwnedFd)> {
        self.streams.push(stream.into());
        pipe_with(PipeFlags::CLOEXEC).map_err(Error::sys("making a session's pipe"))
    }
}

impl Runtime {
    pub(super) async fn begin_exec(
        self: Arc<Self>,
        container: Arc<Container>,
        argv: Vec<String>,
        wanted: Wanted,
    ) -> Result<Session> {
        let mut program = self.prepare(&container, &argv).await?;
        let pipes = Pipes::open(wanted)?;
        let asked = |code: &Option<wire::Code>| {
            Asked::Exec(wire::ExecSession {
                container_id: container.id.to_string(),
                code: code.clone(),
                argv: argv.clone(),
                terminal: wanted.terminal,
            })
        };
        let mut begun = begin(&program.shim, asked(&program.code), &pipes).await;
        if let Err(Error::StaleCode(why)) = &begun {
            self.renew(&mut program, why).await?;
            begun = begin(&program.shim, asked(&program.code), &pipes).await;
        }
        self.let_exec_codes_go().await;
        begun.map(|control| session(pipes, control))
    }

    pub(super) async fn begin_attach(
        self: Arc<Self>,
        container: Arc<Container>,
        wanted: Wanted,
    ) -> Result<Session> {
        let wanted = Wanted { terminal: container.config.tty, ..wanted };
        let shim = self.shim_of(&container)?;
        let pipes = Pipes::open(wanted)?;
        let asked = wire::AttachSession { container_id: container.id.to_string() };
        let control = begin(&shim, Asked::Attach(asked), &pipes).await?;
        Ok(session(pipes, control))
    }

    pub(super) async fn connect(&self, sandbox: &Sandbox, port: u16) -> Result<TcpStream> {
        if sandbox.state != SandboxState::Ready {
            let (id, state) = (&sandbox.id, &sandbox.state);
            return Err(Error::Precondition(format!("sandbox {id} is {state}, expected ready")));
        }
        let shim = self.shims.get(sandbox.shim.as_ref())?;
        let asked = wire::DialSession { sandbox_id: sandbox.id.to_string(), port: port.into() };
        let (_outlet, mut inlet) = ask(&shim, Asked::Dial(asked), &Pipes::default()).await?;
        let reply = tokio::time::timeout(PATIENCE, next(&mut inlet)).await;
        let (_, mut descriptors) = reply.map_err(|_| silent())??;
        let stream = std::net::TcpStream::from(descriptors.pop().ok_or_else(strange)?);
        let doing = || Error::io("taking a connection over");
        stream.set_nonblocking(true).map_err(doing())?;
        TcpStream::from_std(stream).map_err(doing())
    }
}

/// The far ends go with this: from now on the program alone has them.
fn session(pipes: Pipes, control: Control) -> Session {
    Session { stdin: pipes.stdin, stdout: pipes.stdout, stderr: pipes.stderr, control }
}

/// Asks for a session and waits until it has begun.
async fn begin(shim: &Shim, asked: Asked, pipes: &Pipes) -> Result<Control> {
    control(ask(shim, asked, pipes).await?).await
}

async fn control((mut outlet, mut inlet): (Outlet, Inlet)) -> Result<Control> {
    // No limit: loading a program may wait for a slow disk, and who asked can go away.
    let early = match next(&mut inlet).await? {
        (Reply::Ended(exit), _) => Some(exit),
        _ => None,
    };
    let (sizes, mut wanted) = mpsc::channel::<wire::TerminalSize>(16);
    let (lives, mut is_over) = oneshot::channel();
    tokio::spawn(async move {
        loop {
            let size = tokio::select! {
                size = wanted.recv() => size,
                // The sender is dropped with the session.
                _ = &mut is_over => None,
            };
            let Some(size) = size else { return };
            let control = wire::session_control::Control::Resize(size);
            let control = wire::SessionControl { control: Some(control) };
            if outlet.send(&control, &[]).await.is_err() {
                return;
            }
        }
    });
    Ok(Control { sizes, inlet, early, _lives: lives })
}

async fn ask(shim: &Shim, asked: Asked, pipes: &Pipes) -> Result<(Outlet, Inlet)> {
    let path = shim.folder.streams();
    let stream = UnixStream::connect(&path).await.map_err(|error| {
        Error::Unavailable(format!(
            "the pod's shim takes no sessions at {} ({error}): a shim of an older wasmpod does \
             not, start the pod anew",
            path.display()
        ))
    })?;
    request(stream, asked, pipes).await
}

async fn request(stream: UnixStream, asked: Asked, pipes: &Pipes) -> Result<(Outlet, Inlet)> {
    let (mut outlet, inlet) = halves(stream);
    let request = wire::SessionRequest { descriptors: pipes.streams.clone(), session: Some(asked) };
    let far: Vec<BorrowedFd<'_>> = pipes.far.iter().map(AsFd::as_fd).collect();
    let sent = tokio::time::timeout(Duration::from_secs(10), outlet.send(&request, &far)).await;
    sent.map_err(|_| silent())?.map_err(Error::io("asking a shim for a session"))?;
    Ok((outlet, inlet))
}

/// The shim's next word; its refusal is the error.
async fn next(inlet: &mut Inlet) -> Result<(Reply, Vec<OwnedFd>)> {
    let gone = || Error::Unavailable("the pod's shim has gone".to_owned());
    let message = inlet.receive::<wire::SessionReply>().await.map_err(|_| gone())?;
    let (message, descriptors) = message.ok_or_else(gone)?;
    match message.reply {
        Some(Reply::Refused(refusal)) => {
            let code = tonic::Code::from_i32(refusal.code);
            Err(failure("opening a session", &tonic::Status::new(code, refusal.message)))
        }
        Some(reply) => Ok((reply, descriptors)),
        None => Err(strange()),
    }
}

/// A session with whoever has the other end of `stream`, as with a shim.
#[cfg(test)]
pub async fn session_over(stream: UnixStream, wanted: Wanted) -> Result<Session> {
    let pipes = Pipes::open(wanted)?;
    let asked = Asked::Exec(wire::ExecSession::default());
    let control = control(request(stream, asked, &pipes).await?).await?;
    Ok(session(pipes, control))
}

fn silent() -> Error {
    Error::Unavailable("opening a session: the shim does not answer".to_owned())
}

fn strange() -> Error {
    Error::Internal("the shim's answer about a session is not understood".to_owned())
}
