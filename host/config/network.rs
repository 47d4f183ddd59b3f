//! `[network]`: where CNI's configuration and plugins lie, and how long plugins may take.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How pods get their networks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// *.conflist, *.conf and *.json; the first valid one by name is every pod's network.
    pub conf_dir: PathBuf,
    /// Where plugins are looked for, in this order.
    pub bin_dirs: Vec<PathBuf>,
    /// Seconds that one call of a plugin may take.
    pub plugin_seconds: u64,
    /// Seconds that one call of STATUS may take.
    pub status_seconds: u64,
    pub without_plugins: WithoutPlugins,
    pub guests: GuestSockets,
    pub garbage: Collection,
    pub isolation: Isolation,
}

/// How pods that are not on the host's network are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// By network namespaces; where the kernel permits none, as with [`Isolation::Virtual`].
    #[default]
    Auto,
    /// All share the host's network, each with a loopback address of its own: guests reach what
    /// the host reaches, but neither the host's loopback nor each other's. CNI is not used.
    Virtual,
}

/// What the kubelet is told where `conf_dir` has no configuration. Pods have loopback then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WithoutPlugins {
    /// NetworkReady is false: the node takes pods of the host's network only, until a network
    /// is installed.
    #[default]
    NotReady,
    /// NetworkReady is true: loopback is all that this node's pods need.
    Loopback,
}

/// What a container's sockets may do that no annotation speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestSockets {
    /// Bind and connect anywhere, as in any other container.
    #[default]
    Allow,
    /// Nothing but what `wasmpod.dev/bind` and `wasmpod.dev/connect` name.
    Deny,
}

/// Whether plugins are asked (GC, CNI 1.1) to give back what no pod of wasmpod's uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collection {
    /// Another runtime on the node may use the same network, and GC would take its addresses.
    #[default]
    Never,
    /// For nodes whose network is wasmpod's alone.
    AtStart,
}

impl NetworkConfig {
    pub fn plugin_limit(&self) -> Duration {
        Duration::from_secs(self.plugin_seconds.max(1))
    }

    pub fn status_limit(&self) -> Duration {
        Duration::from_secs(self.status_seconds.max(1))
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            plugin_seconds: 60,
            status_seconds: 5,
            without_plugins: WithoutPlugins::default(),
            guests: GuestSockets::default(),
            garbage: Collection::default(),
            isolation: Isolation::default(),
        }
    }
}
