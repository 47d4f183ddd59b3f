//! `wasmpod stop`: ends a pod and keeps its containers for logs and inspect.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::client::Client;
use super::objects::{PodView, Snapshot};
use super::{Global, block_on};
use crate::model::sandbox::Realm;
use crate::proto::pod::StopRequest;

/// End pods within their grace period; their logs stay.
#[derive(Debug, Args)]
pub struct Stop {
    /// Pods: name, namespace/name or uid.
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
    /// Seconds until what still runs is killed; else the pod's own.
    #[arg(short, long, value_name = "SECONDS")]
    grace: Option<u32>,
}

impl Stop {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        block_on(async {
            let client = Client::connect(&endpoint).await?;
            for reference in &self.pods {
                let snapshot = Snapshot::fetch(&client).await?;
                let pod = snapshot.pod(reference)?;
                own(pod)?;
                let request =
                    StopRequest { pod: pod.uid.clone(), grace_seconds: self.grace.map(i64::from) };
                client.pods().stop(request).await?;
                super::output::print(&format!("{}\n", pod.name))?;
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A kubelet's pods come back unless their API object goes.
pub fn own(pod: &PodView) -> anyhow::Result<()> {
    if pod.realm == Realm::Kubelet {
        bail!(
            "pod {} belongs to a kubelet, which would start it again: use `kubectl delete pod`",
            pod.name
        );
    }
    if pod.agent.is_none() {
        bail!(
            "pod {} was made over CRI: use `crictl stopp {}` and rmp on the agent's socket",
            pod.name,
            super::output::short(pod.sandboxes.first().map_or("", |sandbox| &sandbox.id))
        );
    }
    Ok(())
}
