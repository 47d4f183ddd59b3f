//! `wasmpod compile`: with images, their machine code is made by the daemon's store (`warm`). With
//! hidden arguments it is the child that turns one wasm file into machine code; this ends as soon
//! as its parent does, so that a killed daemon leaves no compiler behind.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::store::Place;
use super::{Global, warm};
use crate::error::Error;
use crate::image::compile::{self, Job, JobLimits};
use crate::image::compiler::BAD_INPUT;

/// Make machine code of all programs of images, so that their first start does not wait.
#[derive(Debug, Args)]
pub struct Compile {
    #[command(flatten)]
    place: Place,
    /// Names, ids or unique beginnings of ids.
    #[arg(required_unless_present = "input", value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    child: Child,
}

/// What the daemon tells its child, all of it or nothing.
#[derive(Debug, Args)]
struct Child {
    #[arg(long, value_name = "FILE", hide = true, conflicts_with = "images")]
    input: Option<PathBuf>,
    #[arg(long = "output", value_name = "FILE", hide = true)]
    output_file: Option<PathBuf>,
    /// What the input's digest must be.
    #[arg(long, value_name = "SHA256", hide = true)]
    digest: Option<String>,
    #[arg(long, hide = true, default_value_t = 0)]
    memory_mib: u64,
    /// Of CPU time.
    #[arg(long, hide = true, default_value_t = 0)]
    seconds: u64,
}

impl Compile {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self.child.input.clone() {
            Some(input) => self.child.run(input),
            None => warm::run(self.images, self.place, global),
        }
    }
}

impl Child {
    /// Standard output is the bytes that one run takes, in decimal. The first line on stderr is
    /// the reason of a failure; status 65 says that it is the input's fault.
    fn run(self, input: PathBuf) -> anyhow::Result<ExitCode> {
        std::thread::Builder::new()
            .name("parent".to_owned())
            .spawn(end_with_parent)
            .context("watching the parent process")?;
        let limits = JobLimits { memory_mib: self.memory_mib, seconds: self.seconds };
        let Self { output_file: output, digest, .. } = self;
        let (Some(output), Some(digest)) = (output, digest) else {
            anyhow::bail!("--output and --digest are missing");
        };
        match compile::run(&Job { input, output, digest, limits }) {
            Ok(footprint) => {
                println!("{footprint}");
                Ok(ExitCode::SUCCESS)
            }
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
