//! `[streaming]`: where clients of exec, attach and port-forward connect.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamingConfig {
    /// Address and port that the kubelet can dial; port 0 is any free one.
    pub listen: SocketAddr,
}

impl Default for StreamingConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
    }
}
