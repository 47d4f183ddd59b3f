//! `wasmpod shim`: the role that the daemon starts for itself; not for people.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::model::cpu_time::CpuControl;
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
    /// By what containers are held to their CPU time: auto, cgroup or epoch.
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = CpuControl::parse)]
    cpu_control: CpuControl,
}

impl Shim {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        shim::main(&self.dir, Options { max_pods: self.max_pods, cpu_control: self.cpu_control })?;
        Ok(ExitCode::SUCCESS)
    }
}
