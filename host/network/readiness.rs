//! Whether pods would get a network now, and why not: CRI's NetworkReady.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::conf::{Choice, NetworkList};
use super::{Network, chain};
use crate::config::WithoutPlugins;
use crate::model::sandbox::Realm;

/// A kubelet asks every five seconds.
const FRESH: Duration = Duration::from_secs(4);

/// CRI's condition: `reason` is one word, `message` for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    pub is_ready: bool,
    pub reason: &'static str,
    pub message: String,
}

/// The last answer of the plugins about a network.
#[derive(Default)]
pub struct Memory(Mutex<Option<(Instant, Arc<NetworkList>, Readiness)>>);

impl Network {
    /// Asks the plugins of a network by STATUS where they have it, else whether they are there.
    /// Takes as long as they, so at most `network.status_seconds` for each.
    pub async fn readiness(self: &Arc<Self>, realm: Realm) -> Readiness {
        let folder = self.confs.folder().display();
        let not = |message: String| Readiness {
            is_ready: false,
            // As containerd says it.
            reason: "NetworkPluginNotReady",
            message: format!("Network plugin returns error: {message}"),
        };
        match self.choice().await {
            Ok(Choice::Network(network)) => self.ask(network).await,
            Ok(Choice::Broken(why)) => not(why),
            Ok(Choice::Absent) => {
                let is_enough = self.config.without_plugins == WithoutPlugins::Loopback;
                if realm == Realm::Agent || is_enough {
                    return Readiness {
                        is_ready: true,
                        reason: "HostAndLoopback",
                        message: "pods use the host's network or loopback".to_owned(),
                    };
                }
                not(format!(
                    "cni plugin not initialized: no network configuration in {folder}; pods \
                     have the host's network or loopback alone"
                ))
            }
            Err(error) => not(error.to_string()),
        }
    }

    async fn ask(self: &Arc<Self>, network: Arc<NetworkList>) -> Readiness {
        let last = self.status.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((when, of, answer)) = last
            && of == network
            && when.elapsed() < FRESH
        {
            return answer;
        }
        let answer = match chain::status(&self.plugins, &network).await {
            Ok(()) => Readiness {
                is_ready: true,
                reason: "CNI",
                message: format!("pods are attached to network {}", network.name),
            },
            Err(error) => Readiness {
                is_ready: false,
                reason: "NetworkPluginNotReady",
                message: format!("Network plugin returns error: {error}"),
            },
        };
        let told = (Instant::now(), network, answer.clone());
        *self.status.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        answer
    }
}
