//! The connection of a command to its daemon: a unix socket, its realm, and one clear sentence
//! when nothing listens.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::Endpoint;
use crate::config::folders;
use crate::cri::client::{MAX_MESSAGE, RealmHeader, RealmScope, connect};
use crate::proto::cri::image_service_client::ImageServiceClient;
use crate::proto::cri::runtime_service_client::RuntimeServiceClient;
use crate::proto::pod::images_client::ImagesClient;
use crate::proto::pod::node_client::NodeClient;
use crate::proto::pod::pod_agent_client::PodAgentClient;

/// A channel that carries the realm of its calls.
pub type Service = InterceptedService<Channel, RealmHeader>;

/// A daemon that answers. Cloning it shares the connection.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    realm: RealmHeader,
}

impl Client {
    /// Connects to a daemon's socket. Calls are in the socket's own realm. Where nobody chose the
    /// socket, it has to lie in a folder that is this user's own: pods carry secrets.
    pub async fn connect(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let path = endpoint.path();
        if let (Endpoint::Default(_), Some(state)) = (endpoint, path.parent()) {
            folders::check_state(state)?;
        }
        let channel = connect(path).await.with_context(|| match endpoint {
            Endpoint::Given(_) => format!("no daemon answers on {}", path.display()),
            Endpoint::Default(_) => {
                format!("no daemon answers on {} (start one with `wasmpod serve`)", path.display())
            }
        })?;
        Ok(Self { channel, realm: RealmHeader::default() })
    }

    /// The same connection, with calls in the realms of `scope`.
    pub fn in_realm(&self, scope: RealmScope) -> Self {
        Self { channel: self.channel.clone(), realm: RealmHeader::new(scope) }
    }

    pub fn runtime(&self) -> RuntimeServiceClient<Service> {
        RuntimeServiceClient::with_interceptor(self.channel.clone(), self.realm)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    pub fn images(&self) -> ImageServiceClient<Service> {
        ImageServiceClient::with_interceptor(self.channel.clone(), self.realm)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// What CRI's ImageService lacks.
    pub fn imports(&self) -> ImagesClient<Service> {
        ImagesClient::with_interceptor(self.channel.clone(), self.realm)
    }

    pub fn node(&self) -> NodeClient<Service> {
        NodeClient::with_interceptor(self.channel.clone(), self.realm)
    }

    pub fn pods(&self) -> PodAgentClient<Service> {
        PodAgentClient::with_interceptor(self.channel.clone(), self.realm)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}

/// The path in "unix:///run/x.sock", "unix:/run/x.sock" or "/run/x.sock"; relative ones count
/// from the working directory.
pub fn socket_path(text: &str) -> anyhow::Result<PathBuf> {
    let path = match text.split_once(':') {
        Some(("unix", rest)) => {
            if rest.starts_with("//") && !rest.starts_with("///") {
                bail!("endpoint {text:?} names a host: write unix:///path/to/socket");
            }
            rest.trim_start_matches("//")
        }
        Some((scheme, _)) if !scheme.contains('/') => {
            bail!("endpoint {text:?} is no unix socket: write unix:///path/to/socket or a path")
        }
        _ => text,
    };
    if path.is_empty() {
        bail!("endpoint {text:?} has no path");
    }
    std::path::absolute(Path::new(path)).with_context(|| format!("resolving endpoint {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_paths_with_or_without_the_scheme() {
        for text in ["unix:///run/a.sock", "unix:/run/a.sock", "/run/a.sock"] {
            assert_eq!(socket_path(text).unwrap(), PathBuf::from("/run/a.sock"), "{text}");
        }
        assert!(socket_path("a.sock").unwrap().is_absolute());
    }

    #[test]
    fn endpoints_that_are_no_unix_socket_are_refused_by_name() {
        for text in ["tcp://127.0.0.1:80", "unix://host/a", "unix:", ""] {
            assert!(socket_path(text).unwrap_err().to_string().contains(text), "{text}");
        }
    }

    #[test]
    fn a_default_socket_in_a_folder_that_others_can_change_is_not_spoken_to() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let socket = folder.path().join("agent.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let outcome = |endpoint| {
            super::super::block_on(async move { Client::connect(&endpoint).await.map(drop) })
        };
        let error = outcome(Endpoint::Default(socket.clone())).unwrap_err().to_string();
        assert!(error.contains("is open to others (mode 0777)"), "{error}");
        outcome(Endpoint::Given(socket)).unwrap();
    }

    #[test]
    fn nobody_listening_is_one_sentence_that_names_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Default(folder.path().join("agent.sock"));
        let error = super::super::block_on(async { Client::connect(&endpoint).await.map(drop) })
            .unwrap_err();
        let line = super::super::one_line(&error);
        assert!(line.contains("agent.sock (start one with `wasmpod serve`)"), "{line}");
    }
}
