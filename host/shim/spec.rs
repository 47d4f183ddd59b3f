//! What a container is made of, how it may change and how it is to end: what calls ask for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::cpu::Processor;
use super::mounts::{Covers, MountSpec, RootAccess};
use super::network::NetworkSpec;
use super::programs::Code;
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::user::User;

/// The signal that a kill stands for.
pub const SIGKILL: u32 = 9;

/// What CreateContainer asked for.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub code: Code,
    /// What guests may start besides.
    pub programs: Vec<Code>,
    pub root: RootFs,
    pub mounts: Vec<MountSpec>,
    pub covers: Covers,
    pub argv: Vec<String>,
    /// NAME=value.
    pub env: Vec<String>,
    pub user: User,
    pub working_dir: String,
    /// What it is told of itself: JSON of the interface's `About`.
    pub about: Arc<[u8]>,
    /// The entry module's path inside the root.
    pub entry_path: String,
    pub stdin: StdinSource,
    /// `None` discards output.
    pub log_path: Option<PathBuf>,
    pub limits: Limits,
    pub network: NetworkSpec,
}

/// Where a main program's standard input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdinSource {
    /// It ends at once.
    Nothing,
    /// A pipe whose other end the container holds; with `once` until the first attachment ends.
    Pipe { once: bool },
    /// A terminal, which is standard output and error as well.
    Terminal { once: bool },
}

#[derive(Clone, Debug)]
pub struct RootFs {
    /// The topmost first.
    pub layers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub access: RootAccess,
}

#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes; `u64::MAX` sets no limit.
    pub memory: u64,
    pub descriptors: u32,
    pub handles: u32,
    /// That guests may have started at once; 0 is none.
    pub processes: u32,
    /// Without CPUs: the sandbox's.
    pub processor: Processor,
}

/// The limits that can change while a container or sandbox lives.
#[derive(Clone, Debug)]
pub struct Update {
    /// Bytes; `u64::MAX` sets no limit.
    pub memory: u64,
    /// `None` leaves it as it is; a sandbox has none.
    pub descriptors: Option<u32>,
    /// Without CPUs: those of what it is in.
    pub processor: Processor,
}

/// How a container is to be ended.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// Linux number.
    pub signal: u32,
    pub grace: Duration,
    pub patience: Patience,
}

impl Stop {
    pub const KILL: Self =
        Self { signal: SIGKILL, grace: Duration::ZERO, patience: Patience::Hearing };
}

/// Whom a stop's grace is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Who hears of the stop; any other is ended at once.
    Hearing,
    All,
}
