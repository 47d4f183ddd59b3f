//! A CRI client over a unix socket, for the command line and the pod agent: the channel, the
//! message limits, and the metadata key by which a call names its realm.

use std::path::Path;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use crate::error::{Error, Result};
use crate::model::sandbox::Realm;

/// Bytes of the largest message either way (the kubelet's limit).
pub const MAX_MESSAGE: usize = 16 << 20;

/// The metadata key that overrides a socket's realm for one call.
pub const REALM_KEY: &str = "wasmpod-realm";

/// Connects to a unix socket and keeps the connection; a daemon that restarts is found again by
/// the next call. Fails when nothing listens.
pub async fn connect(socket: &Path) -> Result<Channel> {
    let doing = format!("connecting to {}", socket.display());
    // tonic reports a refused connection without its cause, so it is asked for here first.
    drop(UnixStream::connect(socket).await.map_err(Error::io(doing.clone()))?);
    let path = socket.to_path_buf();
    // The address is never resolved; it only becomes the authority of the requests.
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|error| Error::Unavailable(format!("{doing}: {error}")))
}

/// Whose pods a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealmScope {
    Only(Realm),
    /// Every realm's; what is made belongs to the socket's own.
    All,
}

impl RealmScope {
    const ALL: [(&str, Self); 3] = [
        ("kubelet", Self::Only(Realm::Kubelet)),
        ("agent", Self::Only(Realm::Agent)),
        ("all", Self::All),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, scope)| *scope == self).map_or("all", |(name, _)| name)
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, scope)| *scope)
    }
}

/// Adds the realm to each call; by default it adds nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealmHeader(Option<RealmScope>);

impl RealmHeader {
    pub fn new(scope: RealmScope) -> Self {
        Self(Some(scope))
    }
}

impl Interceptor for RealmHeader {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(scope) = self.0 {
            request.metadata_mut().insert(REALM_KEY, MetadataValue::from_static(scope.as_str()));
        }
        Ok(request)
    }
}
