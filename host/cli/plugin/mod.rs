//! `wasmpod plugin`: for authors of lifecycle plugins, and for who grants them what they ask for.

mod check;
mod examine;
mod new;
mod sdk;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Make and check lifecycle plugins.
#[derive(Debug, Args)]
pub struct Plugin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::New),
    Check(check::Check),
}

impl Plugin {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::New(command) => command.run(),
            Command::Check(command) => command.run(),
        }
    }
}
