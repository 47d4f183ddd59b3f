//! `wasmpod rm`: removes every trace of a pod.

use std::process::ExitCode;

use clap::Args;

use super::client::Client;
use super::objects::Snapshot;
use super::{Global, block_on, stop};
use crate::proto::pod::RemoveRequest;

/// Remove pods that have ended, with their logs and volumes.
#[derive(Debug, Args)]
pub struct Rm {
    /// Pods: name, namespace/name or uid.
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
    /// Also pods that run: kill them first.
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        block_on(async {
            let client = Client::connect(&endpoint).await?;
            for reference in &self.pods {
                let snapshot = Snapshot::fetch(&client).await?;
                let pod = snapshot.pod(reference)?;
                stop::own(pod)?;
                let request = RemoveRequest { pod: pod.uid.clone(), force: self.force };
                client.pods().remove(request).await?;
                super::output::print(&format!("{}\n", pod.name))?;
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
