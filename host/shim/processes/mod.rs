//! The processes of a pod: containers' main programs, execs, and what a guest starts itself, which
//! is done here. Knows nothing of interfaces.

mod table;

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use table::Entry;
pub use table::{Info, Interrupted, Refused, Table};

use super::container::{Container, Parts, Run};
use super::ending;
use super::exec::Streams;
use super::guest::{Ended, Role, Stdin};
use super::kill::Kill;
use super::ledger::{DescriptorPermit, Taken};
use super::lock;
use super::output::{Discard, Output, Pipe};
use super::programs::{Code, Loaded};
use super::sandbox::thread_name;
use super::wasi::fs::{Node, OpenOptions, uninterrupted};
use crate::engine::THREAD_STACK;
use crate::error::{Error, Result};
use crate::model::container::Reason;

/// One that runs, from its own side. Its number and its children go with the last reference.
pub struct Process {
    pub id: u32,
    container: Weak<Container>,
    /// `None`: the container's main program.
    code: Option<Code>,
    stdin: Option<OwnedFd>,
    stdout: Arc<dyn Output>,
    stderr: Arc<dyn Output>,
    children: Mutex<Vec<Weak<Kill>>>,
}

/// What a process is to the container: see [`Process::begin`].
pub struct Begin<'a> {
    pub arguments: &'a [String],
    pub code: Option<Code>,
    pub kill: &'a Arc<Kill>,
    pub stdin: &'a Stdin,
    pub stdout: &'a Arc<dyn Output>,
    pub stderr: &'a Arc<dyn Output>,
}

impl<'a> Begin<'a> {
    pub fn of(run: &'a Run, code: Option<Code>) -> Self {
        let Run { argv, streams, kill, .. } = run;
        let Streams { stdin, stdout, stderr } = streams;
        Self { arguments: argv, code, kill, stdin, stdout, stderr }
    }
}

impl Process {
    /// The main program or an exec, which are not refused.
    pub fn begin(container: &Arc<Container>, begin: Begin<'_>) -> Option<Arc<Self>> {
        let entry = Entry {
            parent: 0,
            container: Arc::downgrade(container),
            arguments: begin.arguments.to_vec(),
            kill: begin.kill.clone(),
            is_started: false,
            is_foreground: true,
            held: None,
        };
        let id = container.sandbox.processes.enter(entry, None).ok()?;
        Some(Arc::new(Self::numbered(id, container, begin)))
    }

    fn numbered(id: u32, container: &Arc<Container>, begin: Begin<'_>) -> Self {
        let own = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).ok();
        Self {
            id,
            container: Arc::downgrade(container),
            code: begin.code,
            stdin: match begin.stdin {
                Stdin::Descriptor(fd) if container.spec.limits.processes > 0 => own(fd),
                _ => None,
            },
            stdout: begin.stdout.clone(),
            stderr: begin.stderr.clone(),
            children: Mutex::default(),
        }
    }

    fn container(&self) -> Result<Arc<Container>, Refused> {
        let container = self.container.upgrade().ok_or(Refused::Missing)?;
        if container.spec.limits.processes == 0 {
            return Err(Refused::Denied);
        }
        Ok(container)
    }

    /// The pod's.
    pub fn all(&self) -> Result<Vec<Info>, Refused> {
        Ok(self.container()?.sandbox.processes.all())
    }

    /// Where bytes come out, and where they go in.
    pub fn pipe(&self) -> Result<(End, End), Refused> {
        let container = self.container()?;
        let permit = || {
            let most = container.ledger.descriptors.limit();
            let full = || Refused::Other(format!("too many open files: the limit is {most}"));
            container.ledger.descriptor().ok_or_else(full)
        };
        let (reading, writing) = (permit()?, permit()?);
        let made = pipe_with(PipeFlags::CLOEXEC);
        let (reader, writer) =
            made.map_err(|errno| Refused::Other(format!("making a pipe: {errno}")))?;
        Ok((End { fd: reader, _permit: reading }, End { fd: writer, _permit: writing }))
    }

    /// Lives through the interrupt key.
    pub fn hold_interrupts(&self) {
        if let Some(container) = self.container.upgrade() {
            container.sandbox.processes.hold(self.id, Some(false));
        }
    }

    /// No longer; whether the key came meanwhile.
    pub fn release_interrupts(&self) -> bool {
        let container = self.container.upgrade();
        container.is_some_and(|container| container.sandbox.processes.hold(self.id, None))
    }

    pub fn kill(&self, id: u32) -> Result<(), Refused> {
        let container = self.container()?;
        container.sandbox.processes.kill(id, container.id())
    }

    /// Starts a process.
    pub fn start(&self, command: Command) -> Result<Child, Refused> {
        let container = self.container()?;
        let ending = || Error::Precondition(format!("container {} is ending", container.id()));
        let kill = Arc::new(Kill::new(container.host.engines.clone()));
        let session = container.sessions.begin(kill.clone()).ok_or_else(ending)?;
        let parts = container.parts()?;
        let is_foreground = !matches!(command.stdin, Input::Nothing);
        let held = match &command.stdin {
            Input::Bytes(bytes) => bytes.len() as u64,
            _ => 0,
        };
        let held = Taken::take(container.ledger.clone(), held)
            .map_err(|refused| Refused::Other(refused.to_string()))?;
        let stdin = match command.stdin {
            Input::Inherit => match &self.stdin {
                Some(fd) => Stdin::Descriptor(copy(fd)?),
                None => Stdin::Empty,
            },
            Input::Nothing => Stdin::Empty,
            Input::Pipe(fd) => Stdin::Descriptor(fd),
            Input::Bytes(bytes) => Stdin::Descriptor(file_of(&bytes)?),
        };
        let output = |to: Target| -> Arc<dyn Output> {
            match to {
                Target::Stdout => self.stdout.clone(),
                Target::Stderr => self.stderr.clone(),
                Target::Nothing => Arc::new(Discard),
                Target::Pipe(writer) => Arc::new(Pipe::new(writer, kill.clone())),
            }
        };
        let stdout = output(command.stdout);
        let stderr = output(command.stderr);
        let code = match command.program {
            Program::Own => self.code.clone(),
            Program::Main => None,
            Program::File(path) => Some(code_of(&container, &parts, &path, &kill)?),
        };
        let entry = Entry {
            parent: self.id,
            container: Arc::downgrade(&container),
            arguments: command.arguments.clone(),
            kill: kill.clone(),
            is_started: true,
            is_foreground,
            held: None,
        };
        let id = container.sandbox.processes.enter(entry, Some(container.spec.limits.processes))?;
        let run = Run {
            argv: command.arguments,
            streams: Streams { stdin, stdout, stderr },
            kill: kill.clone(),
            role: Role::Exec,
            begun: None,
        };
        let process = Arc::new(Self::numbered(id, &container, Begin::of(&run, code.clone())));
        let (ended, exit) = watch::channel(None);
        let (own, own_kill) = (container.clone(), kill.clone());
        let mut context = container.context(parts.root.clone(), run);
        context.env = command.environment;
        context.working_dir = command.working_folder;
        context.process = Some(process.clone());
        std::thread::Builder::new()
            .name(thread_name('p', container.id().as_str()))
            .stack_size(THREAD_STACK)
            .spawn(move || {
                // What it needs before the guest runs is the shim's to have.
                own.act_no_more();
                let code = match own.enter() {
                    Ok(_placed) => {
                        let loaded = match &code {
                            Some(code) => own.host.programs.load_within(code, &own.ledger),
                            None => Ok(parts.program.clone()),
                        };
                        run_program(loaded, (&own, context))
                    }
                    Err(_) => ending::exit_of(Ended::Killed, own_kill.signal()).code,
                };
                // Its children end with it, and its root waits for the session, which goes last.
                drop((process, own_kill, parts, held));
                own.host.programs.released();
                drop(own);
                drop(session);
                // Whoever started it may have gone.
                let _ = ended.send(Some(code));
            })
            .map_err(|error| Refused::Other(format!("starting a process's thread: {error}")))?;
        let mut children = lock(&self.children);
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&kill));
        Ok(Child { id, exit })
    }
}

fn run_program(
    loaded: Result<Loaded>,
    (container, context): (&Container, super::guest::Context),
) -> i32 {
    let (stderr, kill) = (context.stderr.clone(), context.kill.clone());
    let ended = match loaded {
        Ok(Loaded::Ready(program)) => match container.act() {
            Ok(_acting) => match catch_unwind(AssertUnwindSafe(|| program.run(context))) {
                Ok(ended) => ending::exit_of(ended, kill.signal()),
                Err(panic) => ending::host_fault(&*panic),
            },
            Err(error) => ending::exit_of(Ended::NotStarted(error.to_string()), 0),
        },
        Ok(Loaded::Unlinkable(sentence)) => ending::exit_of(Ended::NotStarted(sentence), 0),
        Ok(Loaded::TooLarge(sentence)) => {
            ending::exit_of(Ended::out_of_memory(&container.ledger, sentence), 0)
        }
        Err(error) => ending::exit_of(Ended::NotStarted(error.to_string()), 0),
    };
    let failed = ended.reason != Reason::Completed && !kill.is_killed();
    if failed && !ended.message.is_empty() {
        // Nobody may read it any more.
        let _ = stderr.write(format!("{}\n", ended.message).as_bytes());
    }
    ended.code
}

impl Drop for Process {
    fn drop(&mut self) {
        for kill in lock(&self.children).iter().filter_map(Weak::upgrade) {
            kill.kill();
            kill.interrupt();
        }
        if let Some(container) = self.container.upgrade() {
            container.sandbox.processes.leave(self.id);
        }
    }
}

/// What to start: see wit/process/process.wit.
pub struct Command {
    pub program: Program,
    pub arguments: Vec<String>,
    /// NAME=value.
    pub environment: Vec<String>,
    pub working_folder: String,
    pub stdin: Input,
    pub stdout: Target,
    pub stderr: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    Own,
    Main,
    /// An absolute path in the container.
    File(String),
}

pub enum Input {
    Inherit,
    Nothing,
    Pipe(OwnedFd),
    Bytes(Vec<u8>),
}

pub enum Target {
    /// The starting process's.
    Stdout,
    Stderr,
    Nothing,
    Pipe(OwnedFd),
}

/// A process from its parent's side.
#[derive(Clone)]
pub struct Child {
    pub id: u32,
    exit: watch::Receiver<Option<i32>>,
}

impl Child {
    pub fn exit_code(&self) -> Option<i32> {
        *self.exit.borrow()
    }

    pub async fn ended(&mut self) {
        // A sender that has gone is an end, too.
        let _ = self.exit.wait_for(Option::is_some).await;
    }
}

/// An end of a pipe that a guest holds: one of its container's descriptors.
pub struct End {
    fd: OwnedFd,
    _permit: DescriptorPermit,
}

impl End {
    /// A descriptor of one's own for the same end.
    pub fn copy(&self) -> Result<OwnedFd, Refused> {
        copy(&self.fd)
    }
}

fn copy(fd: impl AsFd) -> Result<OwnedFd, Refused> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
        .map_err(|errno| Refused::Other(format!("giving a pipe on: {errno}")))
}

/// The machine code of a file in the container, which has to be one of its image's programs: only
/// the daemon can make more.
fn code_of(container: &Container, parts: &Parts, path: &str, kill: &Kill) -> Result<Code, Refused> {
    let told = |errno: Errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Refused::Other("No such file or directory".to_owned()),
        errno => Refused::Other(errno.to_string()),
    };
    let top = parts.root.top().map_err(told)?;
    let options = OpenOptions::default();
    let open = || parts.root.open(&top, path.as_bytes(), &options);
    let Node::File(file) = uninterrupted(kill, open).map_err(told)? else {
        return Err(Refused::Other("it is no file".to_owned()));
    };
    let (mut hasher, mut bytes, mut at) = (Sha256::new(), vec![0; 1 << 17], 0);
    loop {
        let count = uninterrupted(kill, || file.read_at(&mut bytes, at)).map_err(told)?;
        if count == 0 {
            break;
        }
        at += count as u64;
        hasher.update(bytes.get(..count).unwrap_or_default());
    }
    let digest = format!("sha256:{}", hex::encode(hasher.finalize()));
    let codes = container.spec.programs.iter().chain([&container.spec.code]);
    codes.into_iter().find(|code| code.module == digest).cloned().ok_or_else(|| {
        Refused::Other("it is none of the image's programs, which alone can be started".to_owned())
    })
}

/// A file in memory that holds these bytes.
fn file_of(bytes: &[u8]) -> Result<OwnedFd, Refused> {
    let told =
        |error: std::io::Error| Refused::Other(format!("keeping a process's input: {error}"));
    let fd = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|errno| told(errno.into()))?;
    let mut file = File::from(fd);
    file.write_all(bytes).and_then(|()| file.rewind()).map_err(told)?;
    Ok(file.into())
}
