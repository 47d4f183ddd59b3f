//! `wasmpod shim`: the role that the daemon starts for itself; not for people.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::shim::{self, Options};

/// Hold sandboxes; the listening socket is standard input.
#[derive(Debug, Args)]
pub struct Shim {
    /// The shim's own folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Sandboxes it takes at most.
    #[arg(long, value_name = "COUNT")]
    max_pods: u32,
}

impl Shim {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        shim::main(&self.dir, Options { max_pods: self.max_pods })?;
        Ok(ExitCode::SUCCESS)
    }
}
