//! `wasmpod exec`: runs a program in a running container and prints what it wrote.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::client::Client;
use super::objects::{Found, Snapshot, container_name};
use super::{Global, block_on};
use crate::cri::client::RealmScope;
use crate::proto::cri;

/// Run a program in a running container; its output is printed when it has ended.
#[derive(Debug, Args)]
pub struct Exec {
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
        let answer = block_on(async {
            let client = Client::connect(&endpoint).await?;
            let snapshot = Snapshot::fetch(&client).await?;
            let id = self.choose(&snapshot)?;
            let request = cri::ExecSyncRequest {
                container_id: id,
                cmd: self.command.clone(),
                timeout: i64::from(self.timeout),
            };
            let mut runtime = client.in_realm(RealmScope::All).runtime();
            Ok(runtime.exec_sync(request).await?.into_inner())
        })?;
        std::io::stdout().lock().write_all(&answer.stdout)?;
        std::io::stderr().lock().write_all(&answer.stderr)?;
        Ok(ExitCode::from(u8::try_from(answer.exit_code & 0xff).unwrap_or(u8::MAX)))
    }

    /// The container's id: of several the one that was named, or the only one that runs.
    fn choose(&self, snapshot: &Snapshot) -> anyhow::Result<String> {
        let pod = match snapshot.find(&self.target)? {
            Found::Container(_, container) => return Ok(container.id.clone()),
            Found::Pod(pod) => pod,
        };
        let is_running = |c: &&cri::Container| c.state() == cri::ContainerState::ContainerRunning;
        if let Some(name) = &self.container {
            let attempts = pod.attempts(Some(name))?;
            let running = attempts.into_iter().find(is_running);
            let running = running.with_context(|| format!("container {name} is not running"))?;
            return Ok(running.id.clone());
        }
        let running: Vec<&cri::Container> = pod.containers.iter().filter(is_running).collect();
        match running.as_slice() {
            [only] => Ok(only.id.clone()),
            [] => bail!("no container of pod {} is running", pod.name),
            several => {
                let names: Vec<&str> = several.iter().map(|c| container_name(c)).collect();
                bail!("pod {} runs {}: choose one with -c", pod.name, names.join(", "))
            }
        }
    }
}
