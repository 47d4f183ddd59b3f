//! The command line: one file per command. A command is a `clap::Args` struct with a `run` that
//! gives the exit status; it is named once in [`Command`] and once in [`Command::run`]. Commands
//! reach the daemon through [`client`] alone.

mod attach;
pub mod client;
mod compile;
mod completion;
mod config;
mod doctor;
mod events;
mod exec;
mod images;
mod import;
mod inspect;
mod load;
mod logs;
mod objects;
pub mod output;
mod plugin;
mod port_forward;
mod private;
mod progress;
mod prune;
mod ps;
mod publish;
mod pull;
mod push;
mod rm;
mod rmi;
mod run;
mod save;
mod serve;
mod shim;
mod stop;
mod store;
mod streams;
mod tag;
mod warm;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};

/// The exit status of a program that wrote into a closed pipe, as shells show it: 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// WebAssembly sandbox runtime for Kubernetes: pods whose containers are WASI programs.
#[derive(Debug, Parser)]
#[command(name = "wasmpod", version, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Socket of the daemon, unix:///path or a path; else $CONTAINER_RUNTIME_ENDPOINT, else the
    /// agent socket of the default configuration.
    #[arg(long, global = true, env = "WASMPOD_ENDPOINT", value_name = "SOCKET")]
    endpoint: Option<String>,
}

/// How the socket to talk to was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// By flag or environment.
    Given(PathBuf),
    /// By nobody; a private daemon may be started there.
    Default(PathBuf),
}

impl Endpoint {
    pub fn path(&self) -> &PathBuf {
        match self {
            Self::Given(path) | Self::Default(path) => path,
        }
    }
}

impl Global {
    /// The socket to talk to. An endpoint that is no unix socket is an error.
    pub fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let given = self
            .endpoint
            .clone()
            .or_else(|| std::env::var("CONTAINER_RUNTIME_ENDPOINT").ok())
            .filter(|text| !text.is_empty());
        match given {
            Some(text) => Ok(Endpoint::Given(client::socket_path(&text)?)),
            None => Ok(Endpoint::Default(crate::config::Config::default().agent_socket())),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Ps(ps::Ps),
    Logs(logs::Logs),
    Exec(exec::Exec),
    Attach(attach::Attach),
    PortForward(port_forward::PortForward),
    Stop(stop::Stop),
    Rm(rm::Rm),
    Inspect(inspect::Inspect),
    Events(events::Events),
    Serve(serve::Serve),
    Config(config::Config),
    Import(import::Import),
    Images(images::Images),
    Pull(pull::Pull),
    Push(push::Push),
    Rmi(rmi::Rmi),
    Tag(tag::Tag),
    Save(save::Save),
    Load(load::Load),
    Compile(compile::Compile),
    Plugin(plugin::Plugin),
    Doctor(doctor::Doctor),
    #[command(hide = true)]
    Shim(shim::Shim),
    Completion(completion::Completion),
}

impl Command {
    fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(command) => command.run(global),
            Self::Ps(command) => command.run(global),
            Self::Logs(command) => command.run(global),
            Self::Exec(command) => command.run(global),
            Self::Attach(command) => command.run(global),
            Self::PortForward(command) => command.run(global),
            Self::Stop(command) => command.run(global),
            Self::Rm(command) => command.run(global),
            Self::Inspect(command) => command.run(global),
            Self::Events(command) => command.run(global),
            Self::Serve(command) => command.run(),
            Self::Config(command) => command.run(),
            Self::Import(command) => command.run(global),
            Self::Images(command) => command.run(global),
            Self::Pull(command) => command.run(global),
            Self::Push(command) => command.run(global),
            Self::Rmi(command) => command.run(global),
            Self::Tag(command) => command.run(global),
            Self::Save(command) => command.run(global),
            Self::Load(command) => command.run(global),
            Self::Compile(command) => command.run(global),
            Self::Plugin(command) => command.run(global),
            Self::Doctor(command) => command.run(global),
            Self::Shim(command) => command.run(),
            Self::Completion(command) => command.run(),
        }
    }
}

/// The whole command line, for completion scripts.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments name. A failed command is one line on stderr and exit
/// status 1; a wrong command line is clap's message and 2.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run(&cli.global) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::from(BROKEN_PIPE),
        Err(error) => {
            eprintln!("wasmpod: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Runs a client command's future on this thread alone.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")?;
    let outcome = runtime.block_on(future);
    // A read of standard input may never return.
    runtime.shutdown_background();
    outcome
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The chain of causes in one line. Of a gRPC status only its message, which names what failed;
/// a cause whose text the one above it already ends with is left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = match cause.downcast_ref::<tonic::Status>() {
            Some(status) if !status.message().is_empty() => status.message().to_owned(),
            Some(status) => status.code().description().to_owned(),
            None => cause.to_string(),
        };
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
        if cause.is::<tonic::Status>() {
            break;
        }
    }
    line.split('\n')
        .map(str::trim_end)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn an_error_is_one_line_that_says_each_cause_once() {
        let error = anyhow::Error::from(tonic::Status::not_found("pod \"a\" not found"))
            .context("stopping\nthe pod");
        assert_eq!(one_line(&error), "stopping the pod: pod \"a\" not found");
        let error =
            anyhow::Error::from(crate::error::Error::io("reading x")(io::Error::other("broken")));
        assert_eq!(one_line(&error), "reading x: broken");
    }
}
