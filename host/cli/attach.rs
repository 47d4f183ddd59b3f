//! `wasmpod attach`: this command's streams as those of a container's main program.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::Deserialize;

use super::client::Client;
use super::objects::Snapshot;
use super::{Global, block_on, streams};
use crate::cri::client::RealmScope;
use crate::proto::cri;
use crate::runtime::Wanted;

/// See what a running container writes from now on, and give it input with -i. Ends with the
/// container; Ctrl-C leaves it running.
#[derive(Debug, Args)]
pub struct Attach {
    /// Give it this command's standard input; it needs `stdin: true`.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Pod (name, namespace/name or uid) or container id.
    #[arg(value_name = "POD|CONTAINER")]
    target: String,
    /// Container of the pod.
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
}

/// Of what ContainerStatus says in detail.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    tty: bool,
}

impl Attach {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        block_on(async {
            let client = Client::connect(&endpoint).await?;
            let snapshot = Snapshot::fetch(&client).await?;
            let id = snapshot.running(&self.target, self.container.as_deref())?;
            let mut runtime = client.in_realm(RealmScope::All).runtime();
            let asked = cri::ContainerStatusRequest { container_id: id.clone(), verbose: true };
            let status = runtime.container_status(asked).await?.into_inner();
            let info = status.info.get("info").map(String::as_str).unwrap_or("{}");
            let Info { tty: terminal } =
                serde_json::from_str(info).context("reading the container's status")?;
            let wanted = Wanted { stdin: self.stdin, stdout: true, stderr: !terminal, terminal };
            let request = cri::AttachRequest {
                container_id: id,
                tty: terminal,
                stdin: self.stdin,
                stdout: true,
                stderr: !terminal,
            };
            let url = runtime.attach(request).await?.into_inner().url;
            streams::carry(&url, wanted).await
        })
    }
}
