//! `[streaming]`: where clients of exec, attach and port-forward connect, and for how long they may
//! be silent.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamingConfig {
    /// Address and port that the kubelet can dial; port 0 is any free one.
    pub listen: SocketAddr,
    /// A session ends after so long without a byte in either direction; 0 is never.
    pub idle_seconds: u64,
}

impl Default for StreamingConfig {
    fn default() -> Self {
        // Four hours is the kubelet's and containerd's number.
        let idle_seconds = 4 * 60 * 60;
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), idle_seconds }
    }
}
