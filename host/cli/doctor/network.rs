//! Whether pods can be given a network, as the daemon sees it: with its configuration, its rights
//! and its PATH.

use super::super::store::Store;
use super::{Patient, Report};
use crate::model::finding::Finding;
use crate::proto::pod::CheckNetworkRequest;

pub async fn check(patient: &Patient) -> Vec<Report> {
    let findings = match &patient.store {
        Ok(Store::Daemon(client)) => {
            match client.node().check_network(CheckNetworkRequest {}).await {
                Ok(found) => found.into_inner().findings.into_iter().map(Finding::from).collect(),
                // One of another version, which the daemon's check tells.
                Err(status) => vec![
                    Finding::warning(
                        "pods' network",
                        format!("is not told of: {}", status.message()),
                    )
                    .mend("restart the daemon: its pods run on"),
                ],
            }
        }
        Ok(Store::Own(_)) => crate::network::examine(&patient.config).await,
        // The daemon's check says why.
        Err(_) => return Vec::new(),
    };
    vec![Report { check: "network", findings }]
}
