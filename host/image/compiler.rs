//! Runs compile children: one process per wasm file, at most one per CPU at a time, killed when
//! nobody waits any more. Turns whatever becomes of a child into one sentence.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use std::os::unix::process::ExitStatusExt;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::config::CompileConfig;
use crate::error::Error;

/// The child's exit status when its input is at fault (sysexits' EX_DATAERR).
pub const BAD_INPUT: u8 = 65;
/// No file gets more time for being larger than this.
const MAX_EXTRA_MIB: u64 = 300;
/// Of what a child tells when it succeeds, in bytes.
const MAX_TOLD: u64 = 64;
/// Of what a child says, in bytes.
const MAX_SAID: u64 = 64 << 10;

/// Why there is no machine code. Cloned to everybody who waits for it.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The file's fault: a sentence about it.
    Input(String),
    /// The child's or the machine's.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(sentence) | Self::Other(sentence) => f.write_str(sentence),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Input(sentence) => Error::Invalid(sentence),
            Failure::Other(sentence) => Error::Internal(sentence),
        }
    }
}

pub struct Compiler {
    program: PathBuf,
    limits: CompileConfig,
    /// One permit per CPU.
    room: Semaphore,
    /// One permit per MiB of memory that all children may take together, by what their files'
    /// sizes promise.
    memory: Semaphore,
    /// How many there are.
    memory_mib: u32,
}

impl Compiler {
    pub fn new(limits: &CompileConfig) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        // This very executable, even when another one has taken its place on disk: machine
        // code has to fit this version's engine.
        let program = limits.program.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let memory_mib = memory_mib();
        let (room, memory) = (Semaphore::new(cpus), Semaphore::new(memory_mib as usize));
        Self { program, limits: limits.clone(), room, memory, memory_mib }
    }

    /// Compiles `input`, whose digest is known, into `output`, and tells what one run of it takes
    /// of the host's memory, in bytes. Dropping the future kills the child.
    pub async fn compile(&self, digest: &str, input: &Path, output: &Path) -> Result<u64, Failure> {
        let shown = input.display();
        let closed = |error| Failure::Other(format!("compiling {shown}: {error}"));
        // Memory first: a large file that waits for it holds up no CPU.
        let promised = self.promised_mib(input);
        let _memory = self.memory.acquire_many(promised).await.map_err(closed)?;
        let _permit = self.room.acquire().await.map_err(closed)?;
        let seconds = self.seconds(input);
        let mut child = self.spawn(digest, input, output, seconds).map_err(|error| {
            Failure::Other(format!(
                "starting {} to compile {shown}: {error}",
                self.program.display()
            ))
        })?;
        // Kept open until the child has ended: it ends itself when we are gone.
        let alive = child.stdin.take();
        let deadline = Duration::from_secs(seconds.saturating_mul(4) + 10);
        let outcome = tokio::time::timeout(deadline, end(&mut child)).await;
        drop(alive);
        let (status, told, said) = match outcome {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => {
                return Err(Failure::Other(format!(
                    "waiting for the compiler of {shown}: {error}"
                )));
            }
            Err(_) => {
                return Err(Failure::Input(format!(
                    "{shown} could not be compiled within {} seconds",
                    deadline.as_secs()
                )));
            }
        };
        if !status.success() {
            return Err(self.failure((input, seconds), status, &said));
        }
        told.trim().parse().map_err(|_| {
            Failure::Other(format!("the compiler of {shown} did not tell what a run of it takes"))
        })
    }

    /// MiB that compiling a file takes as a rule: 28 times its size were measured for 66 MiB.
    fn promised_mib(&self, input: &Path) -> u32 {
        let bytes = std::fs::metadata(input).map_or(0, |found| found.len());
        let mib = (bytes / (1 << 20)).saturating_mul(28).saturating_add(64);
        let most = self.memory_mib.min(u32::try_from(self.limits.memory_mib).unwrap_or(u32::MAX));
        u32::try_from(mib).unwrap_or(u32::MAX).min(most.max(1))
    }

    /// CPU seconds that a file may take: what the configuration says, and as much again for every
    /// 30 MiB, so that a large program compiles and a small bomb does not last.
    fn seconds(&self, input: &Path) -> u64 {
        let mib = std::fs::metadata(input).map_or(0, |found| found.len() >> 20).min(MAX_EXTRA_MIB);
        let base = self.limits.seconds.max(1);
        base.saturating_add(base.saturating_mul(mib) / 30)
    }

    fn spawn(
        &self,
        digest: &str,
        input: &Path,
        output: &Path,
        seconds: u64,
    ) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg("compile")
            .arg("--input")
            .arg(input)
            .arg("--output")
            .arg(output)
            .args(["--digest", digest])
            .args(["--memory-mib", &self.limits.memory_mib.to_string()])
            .args(["--seconds", &seconds.to_string()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    fn failure(&self, (input, seconds): (&Path, u64), status: ExitStatus, said: &str) -> Failure {
        let shown = input.display();
        let memory_mib = self.limits.memory_mib;
        let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        if status.code() == Some(BAD_INPUT.into()) {
            return Failure::Input(format!("{shown}: {line}"));
        }
        if status.signal() == Some(rustix::process::Signal::XCPU.as_raw()) {
            return Failure::Input(format!(
                "{shown} needs more than the {seconds} seconds of CPU time that compiling may take"
            ));
        }
        if status.signal() == Some(rustix::process::Signal::KILL.as_raw()) {
            return Failure::Other(format!(
                "the compiler of {shown} was killed, as the kernel does when memory runs out: it \
                 may have {memory_mib} MiB (compile.memory_mib)"
            ));
        }
        // How Rust's and wasmtime's allocations fail.
        let memory = [
            "memory allocation",
            "Cannot allocate memory",
            "ThreadPoolBuildError",
            "out of memory",
        ];
        if memory.iter().any(|words| said.contains(words)) {
            return Failure::Input(format!(
                "{shown} needs more than the {memory_mib} MiB of memory that compiling may take"
            ));
        }
        Failure::Other(format!("the compiler of {shown} failed ({status}): {line}"))
    }
}

/// Half of this machine's memory, in MiB: the rest is the pods'.
fn memory_mib() -> u32 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    u32::try_from(kib.unwrap_or(1 << 20) / 1024 / 2)
        .unwrap_or(u32::MAX >> 4)
        .clamp(64, u32::MAX >> 4)
}

/// How it ended, what it wrote to standard output, and what to standard error.
async fn end(child: &mut Child) -> std::io::Result<(ExitStatus, String, String)> {
    let (mut told, mut said) = (Vec::new(), Vec::new());
    if let Some(stderr) = child.stderr.take() {
        let mut stderr = stderr;
        (&mut stderr).take(MAX_SAID).read_to_end(&mut said).await?;
        // The rest goes nowhere, so that the child is not held up by a full pipe.
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
    }
    if let Some(stdout) = child.stdout.take() {
        // What is told fits into the pipe.
        stdout.take(MAX_TOLD).read_to_end(&mut told).await?;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((child.wait().await?, text(&told), text(&said)))
}
