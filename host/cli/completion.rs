//! `wasmpod completion`: the script that makes a shell complete commands and options.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

/// Print a completion script: `source <(wasmpod completion bash)`.
#[derive(Debug, Args)]
pub struct Completion {
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "wasmpod", &mut script);
        super::output::print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
