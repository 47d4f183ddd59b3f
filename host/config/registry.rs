//! `[registry]`: where images are pulled from, and what each registry needs. Plain data; what is
//! wrong with a URL or a header is told by the part that uses it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How images come from registries.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// A `config.json` of docker's with credentials; else $DOCKER_CONFIG/config.json, else
    /// ~/.docker/config.json.
    pub docker_config: Option<PathBuf>,
    /// Layers of one image that are downloaded at the same time.
    pub downloads: usize,
    /// How often in a row a request that may succeed later is tried again.
    pub retries: u32,
    /// Milliseconds before the first of these; the wait doubles up to ten seconds.
    pub retry_ms: u64,
    /// Seconds without progress after which a connection counts as broken.
    pub stall_seconds: u64,
    /// Registries by the host (with its port) that image names have; `_default` is for those
    /// without an entry.
    pub hosts: BTreeMap<String, RegistryHost>,
}

/// One registry, as image names call it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryHost {
    /// URL of the registry itself, asked when no mirror has an image; by default https and the
    /// host, plain http for a host of this machine.
    pub server: Option<String>,
    /// PEM files with certificates to trust besides the system's.
    pub ca: Vec<PathBuf>,
    /// PEM files of a certificate (with what signed it) and its key, for a registry that asks who
    /// its clients are by TLS. Both or neither.
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    /// Added to every request.
    pub headers: BTreeMap<String, String>,
    pub username: Option<String>,
    /// Holds the password, or a token, in one line; read at every pull.
    pub password_file: Option<PathBuf>,
    /// Asked before the server, in this order.
    pub mirrors: Vec<RegistryMirror>,
}

/// Another place for a registry's images.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryMirror {
    /// "https://host", "http://host:port", with a path where the mirror wants one.
    pub url: String,
    pub ca: Vec<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    pub headers: BTreeMap<String, String>,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            docker_config: None,
            downloads: 3,
            retries: 5,
            retry_ms: 200,
            stall_seconds: 60,
            hosts: BTreeMap::new(),
        }
    }
}
