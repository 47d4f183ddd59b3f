//! `wasmpod plugin`: for authors of lifecycle plugins, and for who grants them what they ask for.

mod check;
mod examine;
mod ls;
mod new;
mod sdk;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Global;

/// Make and check lifecycle plugins, and list the daemon's.
#[derive(Debug, Args)]
pub struct Plugin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::New),
    Check(check::Check),
    Ls(ls::Ls),
}

impl Plugin {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::New(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Ls(command) => command.run(global),
        }
    }
}
