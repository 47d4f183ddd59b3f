//! `wasmpod plugin`: for authors of lifecycle plugins, and for who grants them what they ask for.

mod check;
mod diff;
pub(super) mod examine;
mod example;
pub(super) mod ls;
mod new;
mod run;
mod said;
mod sdk;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Global;

/// Make, check and try lifecycle plugins, and list the daemon's.
#[derive(Debug, Args)]
pub struct Plugin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::New),
    Check(check::Check),
    Run(run::Run),
    Ls(ls::Ls),
}

impl Plugin {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::New(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Run(command) => command.run(),
            Command::Ls(command) => command.run(global),
        }
    }
}

/// The command that tells what is wrong with a plugin's file.
pub(super) fn check_of(path: &str) -> String {
    format!("wasmpod plugin check {path}")
}

/// What the plugin of a file is called where nobody gives it a name.
fn name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = stem.chars().map(plain).take(63).collect();
    if name.is_empty() { "plugin".to_owned() } else { name }
}
