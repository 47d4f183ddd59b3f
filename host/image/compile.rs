//! The compile child's work: limits itself, reads one wasm file, writes its machine code. Runs
//! in a process of its own, because the compiler meets hostile code here: whatever becomes of
//! this process, the daemon sees an exit status and a line.

mod footprint;
mod proposals;
mod purpose;

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use wasmtime::Engine;

use crate::engine;
use crate::error::{Error, Result};
use crate::image::CodeForm;
use crate::image::blobs::digest_of;
use crate::image::kind::Kind;

/// A wasm file larger than that is not read, in bytes (wasmparser's own limit for modules).
pub const MAX_WASM: u64 = 1 << 30;

/// What one child is to do.
#[derive(Clone, Debug)]
pub struct Job {
    pub input: PathBuf,
    /// Written anew; the caller renames it into place.
    pub output: PathBuf,
    /// "sha256:..." that the input must have.
    pub digest: String,
    pub limits: JobLimits,
}

#[derive(Clone, Copy, Debug)]
pub struct JobLimits {
    /// MiB of memory that can be written to.
    pub memory_mib: u64,
    /// Seconds of CPU time.
    pub seconds: u64,
}

/// Limits this process for good and does the job. Returns the bytes that one run of the program
/// takes beside its memories and tables. The error is a clause without the file's name,
/// `Error::Invalid` when the input is at fault.
pub fn run(job: &Job) -> Result<u64> {
    limit(job.limits)?;
    let bytes = read(&job.input)?;
    // Hashed while it is compiled: nothing is written of what is not what it should be.
    let (found, made) = std::thread::scope(|scope| {
        let found = scope.spawn(|| digest_of(&bytes));
        let made = precompile(&bytes);
        (found.join(), made)
    });
    let found = found.map_err(|_| Error::Internal("hashing the input panicked".to_owned()))?;
    if found != job.digest {
        return Err(Error::Invalid(format!(
            "its content changed: its digest is {found} instead of {}",
            job.digest
        )));
    }
    let (code, footprint) = made?;
    write(&job.output, &code)?;
    Ok(footprint)
}

/// Machine code, and what one run takes.
fn precompile(bytes: &[u8]) -> Result<(Vec<u8>, u64)> {
    let form = Kind::of(bytes).wasm("it")?;
    proposals::check(bytes).map_err(Error::Invalid)?;
    let engine = Engine::new(&engine::config(purpose::of(bytes)))
        .map_err(|error| Error::Internal(format!("setting up the compiler: {error:#}")))?;
    let code = match form {
        CodeForm::Module => engine.precompile_module(bytes),
        CodeForm::Component => engine.precompile_component(bytes),
    };
    let code = code.map_err(|error| Error::Invalid(fault(&format!("{error:#}"))))?;
    Ok((code, footprint::of(bytes, form)?))
}

/// Data, not address space: the allocator and threads reserve much that they never touch.
fn limit(limits: JobLimits) -> Result<()> {
    let set = |resource, (value, most), name: &str| {
        let both = Rlimit { current: Some(value), maximum: Some(most) };
        setrlimit(resource, both).map_err(Error::sys(format!("limiting {name}")))
    };
    let memory = limits.memory_mib.saturating_mul(1 << 20);
    // A second apart, for the first is told by SIGXCPU: a SIGKILL is then somebody else's.
    let seconds = limits.seconds.max(1);
    set(Resource::Core, (0, 0), "core files")?;
    set(Resource::Data, (memory, memory), "memory")?;
    set(Resource::Cpu, (seconds, seconds.saturating_add(1)), "CPU time")?;
    // Being nice is a courtesy; where it is not allowed, the limits still hold.
    let _ = nice(10);
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let doing = || format!("reading {}", path.display());
    let file = std::fs::File::open(path).map_err(Error::io(doing()))?;
    let mut bytes = Vec::new();
    file.take(MAX_WASM + 1).read_to_end(&mut bytes).map_err(Error::io(doing()))?;
    if bytes.len() as u64 > MAX_WASM {
        return Err(Error::Invalid(format!("it is larger than {} MiB", MAX_WASM >> 20)));
    }
    Ok(bytes)
}

fn write(path: &Path, code: &[u8]) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)
        .map_err(Error::io(doing()))?;
    file.write_all(code).map_err(Error::io(doing()))?;
    file.sync_all().map_err(Error::io(doing()))
}

/// wasmtime's error chain as one clause that says first what kind of fault it is.
fn fault(chain: &str) -> String {
    let line = chain.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(fault) = proposals::fault(&line) {
        return fault;
    }
    let kind = if line.contains("unexpected end") || line.contains("extends past end") {
        "it is truncated"
    } else if line.contains("exceeds limit")
        || line.contains("too large")
        || line.contains("limit of")
    {
        "it is larger than a module may be"
    } else {
        "it is not valid WebAssembly"
    };
    format!("{kind}: {line}")
}
