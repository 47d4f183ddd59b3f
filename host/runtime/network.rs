//! Sandboxes' networks: what of the pod's own namespace is asked for, and when it is given
//! back. Runs no plugin itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Runtime;
use super::change::Change;
use crate::config::Isolation;
use crate::error::{Error, Result};
use crate::model::finding::Finding;
use crate::model::ids::SandboxId;
use crate::model::sandbox::{PortMapping, Realm, Sandbox, SandboxConfig, SandboxState};
use crate::network::{self, Attachments, PortsKeeper, Readiness};
use crate::proto::shim as wire;
use crate::proto::shim::create_sandbox_request::Network;
use crate::telemetry::trace::phase;

impl Runtime {
    /// Whether pods of a realm would get a network now.
    pub async fn network_readiness(&self, realm: Realm) -> Readiness {
        self.network.readiness(realm).await
    }

    /// What is right and wrong with the node's network, for people.
    pub async fn examine_network(&self) -> Vec<Finding> {
        network::examine(&self.config).await
    }

    /// What the shim is asked for.
    pub(super) fn network_mode(&self, config: &SandboxConfig) -> Network {
        match self.config.network.isolation {
            _ if config.wants_host_network() => Network::Host,
            Isolation::Auto => Network::Own,
            Isolation::Virtual => Network::Virtual,
        }
    }

    /// Attaches a sandbox that wants a network of its own; `None`: the shim makes what it has.
    pub(super) async fn attach_network(&self, sandbox: &Sandbox) -> Result<Option<Attachments>> {
        if self.network_mode(&sandbox.config) != Network::Own {
            return Ok(None);
        }
        let attachments = phase("network", &[], self.network.attach(sandbox)).await?;
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

    /// A request with what the network gave, and the ports that it does not see to.
    pub(super) fn with_network(
        request: wire::CreateSandboxRequest,
        sandbox: &Sandbox,
        attachments: Option<&Attachments>,
    ) -> wire::CreateSandboxRequest {
        let is_plugins = attachments.is_some_and(|found| found.ports == PortsKeeper::Plugin);
        let ports = match is_plugins || sandbox.config.wants_host_network() {
            true => Vec::new(),
            false => sandbox.config.port_mappings.iter().filter_map(host_port).collect(),
        };
        let addresses = attachments.map(|found| found.addresses.as_slice()).unwrap_or_default();
        wire::CreateSandboxRequest {
            netns_path: attachments.map(Attachments::namespace).unwrap_or_default(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            ports,
            ..request
        }
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

/// Refuses what no network could make of a pod's ports.
pub(super) fn check_ports(config: &SandboxConfig) -> Result<()> {
    for mapping in &config.port_mappings {
        let ip = &mapping.host_ip;
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            return Err(Error::Invalid(format!(
                "port_mappings: host_ip {ip:?} of host port {} is no IP address",
                mapping.host_port
            )));
        }
    }
    Ok(())
}

/// What the shim's proxy is told of a mapping; `None`: there is nothing to serve.
fn host_port(mapping: &PortMapping) -> Option<wire::HostPort> {
    use wire::host_port::Protocol;
    let protocol = match mapping.protocol.as_str() {
        _ if mapping.host_port == 0 => return None,
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => {
            tracing::warn!(port = mapping.host_port, "no plugin leads {other} ports to pods");
            return None;
        }
    };
    Some(wire::HostPort {
        protocol: protocol.into(),
        host_ip: mapping.host_ip.clone(),
        host_port: mapping.host_port.into(),
        container_port: mapping.container_port.into(),
    })
}
