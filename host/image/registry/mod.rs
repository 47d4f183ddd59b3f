//! Images from registries, by the OCI distribution protocol: `hosts` says who is asked,
//! `credentials` and `token` as whom, `client` makes one request, `session` asks all places of
//! one image with patience, `download` brings a blob into the store. Knows how an image is spread
//! over manifests and blobs; what becomes of these is the store's business.
//!
//! On reqwest rather than oci-client, which reads manifests of any size into memory, follows
//! redirects from https to http, and knows neither headers nor paths of mirrors, Retry-After,
//! identity tokens and CAs of one host among many.

pub mod arrival;
mod client;
mod credentials;
mod document;
mod download;
mod fault;
pub mod flights;
mod hosts;
mod pace;
mod patience;
mod session;
mod token;
mod transport;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{Access, Client};
pub use credentials::{Auth, Credentials};
pub use document::{Document, Form};
pub use download::Target;
use flights::{Flights, Part};
use hosts::{Hosts, Role};
use patience::Patience;
pub use session::Session;
use tokio::sync::{Semaphore, watch};
pub use upload::{Sent, Tell};

use crate::config::RegistryConfig;
use crate::error::{Error, Result};
use crate::image::blobs::Blob;
use crate::image::name::Name;

/// Blobs that a daemon downloads at the same time: each takes up to two MiB of memory.
const MAX_DOWNLOADS: usize = 32;

/// Everything that pulls share: the table of hosts, connections, tokens, downloads under way.
pub struct Registry {
    hosts: Hosts,
    client: Arc<Client>,
    patience: Patience,
    docker_config: Option<PathBuf>,
    /// Blobs by digest and size.
    blobs: Flights<(String, u64), (), u64>,
    /// What of these may come at the same time.
    room: Arc<Semaphore>,
    pub stall: Duration,
    /// Blobs of one image that come at the same time.
    pub downloads: usize,
}

impl Registry {
    /// `Error::Invalid` names the key of the configuration that is wrong.
    pub fn new(config: &RegistryConfig) -> Result<Self> {
        let stall = Duration::from_secs(config.stall_seconds.max(1));
        Ok(Self {
            hosts: Hosts::new(config)?,
            client: Arc::new(Client::new(stall)),
            patience: Patience::new(config),
            docker_config: config.docker_config.clone(),
            blobs: Flights::default(),
            room: Arc::new(Semaphore::new(MAX_DOWNLOADS)),
            stall,
            downloads: config.downloads.max(1),
        })
    }

    /// Who is asked for an image, and as whom. What a caller gives is for the registry itself;
    /// without it the configuration's and docker's credentials are looked up. A mirror gets only
    /// what the configuration has for it.
    pub async fn session(&self, name: &Name, auth: Option<&Auth>) -> Result<Session> {
        let (host, repository) = name.split();
        let mut places = Vec::new();
        for endpoint in self.hosts.of(host)? {
            let given = match (&endpoint.role, auth) {
                (Role::Server, Some(auth)) => auth.credentials(host)?,
                _ => Credentials::Anonymous,
            };
            let credentials = if given != Credentials::Anonymous {
                given
            } else if let Some(configured) = credentials::configured(&endpoint.login).await? {
                configured
            } else {
                let host = if endpoint.role == Role::Server { host } else { &endpoint.shown };
                let known = credentials::docker(self.docker_config.as_deref(), host).await?;
                known.unwrap_or_default()
            };
            let (repository, name) = (repository.to_owned(), name.to_string());
            places.push(Access { endpoint, credentials, repository, name });
        }
        Ok(Session::new(self.client.clone(), places, self.patience))
    }

    /// Brings a blob into the store; what several pulls want comes once. `tell` hears how many
    /// bytes are there.
    pub async fn fetch(
        &self,
        session: &Arc<Session>,
        blob: &Blob,
        target: &Target,
        mut tell: impl FnMut(u64),
    ) -> Result<()> {
        loop {
            let key = (blob.digest.clone(), blob.size);
            let flight = self.blobs.join(key, |told: watch::Sender<u64>| {
                let (session, blob, target) = (session.clone(), blob.clone(), target.clone());
                let room = self.room.clone();
                async move {
                    let full = |error| Error::Internal(format!("waiting to download: {error}"));
                    let _permit = room.acquire().await.map_err(full)?;
                    download::download(&session, &blob, &target, &told).await
                }
            });
            let part = flight.part;
            match flight.land_telling(&mut tell).await {
                // Another's registry may be worse than ours.
                Err(_) if part == Part::Joined => {}
                landed => return landed,
            }
        }
    }

    /// Credentials that docker's configuration has for a name's registry, for a client that asks
    /// on a user's behalf.
    pub async fn docker_auth(name: &Name) -> Result<Auth> {
        let found = credentials::docker(None, name.split().0).await?;
        Ok(match found.unwrap_or_default() {
            Credentials::Anonymous => Auth::default(),
            Credentials::Basic { username, password } => {
                Auth { username, password, ..Auth::default() }
            }
            Credentials::Identity(identity_token) => Auth { identity_token, ..Auth::default() },
            Credentials::Bearer(registry_token) => Auth { registry_token, ..Auth::default() },
        })
    }
}

/// Begins an error about an image with its name.
pub fn about(error: Error, name: &str) -> Error {
    match error {
        Error::Invalid(fault) if !fault.starts_with(name) => {
            Error::Invalid(format!("{name}: {fault}"))
        }
        other => other,
    }
}
