//! Whether a daemon answers, and whether it is this very version.

use super::super::client::Client;
use super::super::store::Store;
use super::{Patient, Report};
use crate::model::finding::Finding;
use crate::proto::pod::InfoRequest;

pub async fn check(patient: &Patient) -> Vec<Report> {
    let socket = patient.endpoint.path().display().to_string();
    let finding = match &patient.store {
        Ok(Store::Daemon(client)) => version(client, socket).await,
        Ok(Store::Own(_)) => {
            Finding::warning(socket, "no daemon answers: the store itself is read")
                .mend("`wasmpod serve` starts one; `wasmpod run` starts one of its own")
        }
        Err(error) => Finding::error(socket, super::super::one_line(error)).mend(
            "look at the daemon's log; `wasmpod doctor --root DIR` reads a store without one",
        ),
    };
    vec![Report { check: "daemon", findings: vec![finding] }]
}

async fn version(client: &Client, socket: String) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    match client.pods().info(InfoRequest {}).await {
        Ok(info) => {
            let info = info.into_inner();
            // The agent's version may carry more than the number.
            if info.version.contains(own) {
                let (version, pid) = (&info.version, info.pid);
                Finding::fine(socket, format!("version {version} answers, process {pid}"))
            } else {
                let what = format!("the daemon is version {}, this program {own}", info.version);
                Finding::warning(socket, what).mend("restart the daemon: its pods run on")
            }
        }
        Err(status) => Finding::error(socket, format!("does not answer: {}", status.message()))
            .mend("look at the daemon's log"),
    }
}
