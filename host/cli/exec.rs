//! `wasmpod exec`: runs a program in a running container, with this command's streams as its own.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::client::Client;
use super::objects::Snapshot;
use super::{Global, block_on, streams};
use crate::cri::client::RealmScope;
use crate::proto::cri;
use crate::runtime::Wanted;

/// Run a program in a running container; its exit status is this command's.
#[derive(Debug, Args)]
pub struct Exec {
    /// Give it this command's standard input.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give it a terminal.
    #[arg(short = 't', long)]
    tty: bool,
    /// Pod (name, namespace/name or uid) or container id.
    #[arg(value_name = "POD|CONTAINER")]
    target: String,
    /// Container of the pod.
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Seconds after which the program is ended; 0 waits for ever.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u32,
    /// A .wasm file of the container, or its own program's name, and arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Exec {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        let patience = (self.timeout > 0).then(|| Duration::from_secs(self.timeout.into()));
        block_on(async {
            let client = Client::connect(&endpoint).await?;
            let snapshot = Snapshot::fetch(&client).await?;
            let id = snapshot.running(&self.target, self.container.as_deref())?;
            let request = cri::ExecRequest {
                container_id: id,
                cmd: self.command,
                tty: self.tty,
                stdin: self.stdin,
                stdout: true,
                stderr: !self.tty,
            };
            let wanted =
                Wanted { stdin: self.stdin, stdout: true, stderr: !self.tty, terminal: self.tty };
            let mut runtime = client.in_realm(RealmScope::All).runtime();
            let url = runtime.exec(request).await?.into_inner().url;
            let carried = streams::carry(&url, wanted);
            match patience {
                None => carried.await,
                // The program ends with its session.
                Some(patience) => match tokio::time::timeout(patience, carried).await {
                    Ok(ended) => ended,
                    Err(_) => bail!("the program did not end within {} s", self.timeout),
                },
            }
        })
    }
}
