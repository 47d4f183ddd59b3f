//! `wasmpod compile`: the daemon's hidden child that turns one wasm file into machine code. Ends
//! as soon as its parent does, so that a killed daemon leaves no compiler behind.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::error::Error;
use crate::image::compile::{self, Job, JobLimits};
use crate::image::compiler::BAD_INPUT;

/// Compile one wasm file, as the daemon asks.
#[derive(Debug, Args)]
pub struct Compile {
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// What the input's digest must be.
    #[arg(long, value_name = "SHA256")]
    digest: String,
    #[arg(long)]
    memory_mib: u64,
    /// Of CPU time.
    #[arg(long)]
    seconds: u64,
}

impl Compile {
    /// The first line on stderr is the reason of a failure; status 65 says that it is the
    /// input's fault.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        std::thread::Builder::new()
            .name("parent".to_owned())
            .spawn(end_with_parent)
            .context("watching the parent process")?;
        let limits = JobLimits { memory_mib: self.memory_mib, seconds: self.seconds };
        let Self { input, output, digest, .. } = self;
        match compile::run(&Job { input, output, digest, limits }) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(Error::Invalid(fault)) => {
                eprintln!("{fault}");
                Ok(ExitCode::from(BAD_INPUT))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The parent holds the other end of stdin and never writes.
fn end_with_parent() {
    let mut byte = [0u8; 1];
    let mut stdin = std::io::stdin().lock();
    while stdin.read(&mut byte).is_ok_and(|count| count > 0) {}
    std::process::exit(1);
}
