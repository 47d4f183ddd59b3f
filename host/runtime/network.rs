//! Sandboxes' networks: what of the pod's own namespace is asked for, and when it is given
//! back. Runs no plugin itself.

use std::collections::BTreeSet;

use super::Runtime;
use super::change::Change;
use crate::error::Result;
use crate::model::finding::Finding;
use crate::model::ids::SandboxId;
use crate::model::sandbox::{Realm, Sandbox, SandboxState};
use crate::network::{self, Attachments, Readiness};
use crate::proto::shim as wire;

impl Runtime {
    /// Whether pods of a realm would get a network now.
    pub async fn network_readiness(&self, realm: Realm) -> Readiness {
        self.network.readiness(realm).await
    }

    /// What is right and wrong with the node's network, for people.
    pub async fn examine_network(&self) -> Vec<Finding> {
        network::examine(&self.config).await
    }

    /// Attaches a sandbox that wants a network of its own; `None`: the shim makes what it has.
    pub(super) async fn attach_network(&self, sandbox: &Sandbox) -> Result<Option<Attachments>> {
        if sandbox.config.wants_host_network() {
            return Ok(None);
        }
        let attachments = self.network.attach(sandbox).await?;
        if let Some(attachments) = &attachments {
            let addresses = attachments.addresses.clone();
            // Durable with the record "ready", without which it means nothing.
            let change = Change::SetAddresses(sandbox.id.clone(), addresses);
            if let Err(error) = self.records.change_passing(change).await {
                self.give_up_network(&sandbox.id).await;
                return Err(error);
            }
        }
        Ok(attachments)
    }

    pub(super) fn with_network(
        request: wire::CreateSandboxRequest,
        attachments: Option<&Attachments>,
    ) -> wire::CreateSandboxRequest {
        let netns_path = attachments.map(Attachments::namespace).unwrap_or_default();
        wire::CreateSandboxRequest { netns_path, ..request }
    }

    /// Gives a network back for a caller whom no failure stops: it is repeated meanwhile.
    pub(super) async fn give_up_network(&self, id: &SandboxId) {
        if let Err(error) = self.network.detach(id).await {
            tracing::warn!(sandbox = %id, %error, "a pod's network is not given back yet");
        }
    }

    pub(super) async fn recover_networks(&self) {
        let ready: BTreeSet<SandboxId> = {
            let index = self.records.read();
            let ready = index.sandboxes.iter().filter(|s| s.state == SandboxState::Ready);
            ready.map(|sandbox| sandbox.id.clone()).collect()
        };
        self.network.recover(&ready).await;
    }
}
