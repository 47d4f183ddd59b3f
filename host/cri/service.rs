//! One CRI endpoint: what every call of a socket shares, and whose pods a call means.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::client::{REALM_KEY, RealmScope};
use super::codes;
use super::streaming::Streaming;
use crate::error::{Error, Result};
use crate::model::sandbox::Realm;
use crate::runtime::Runtime;

/// RuntimeService and ImageService of one realm's socket.
#[derive(Clone)]
pub struct Service {
    pub(super) runtime: Arc<Runtime>,
    /// What is made through this socket belongs to it.
    pub(super) realm: Realm,
    pub(super) streaming: Arc<Streaming>,
}

impl Service {
    pub fn new(runtime: Arc<Runtime>, realm: Realm, streaming: Arc<Streaming>) -> Self {
        Self { runtime, realm, streaming }
    }

    /// Whose pods a call means: the socket's realm unless its metadata says otherwise; `None` is
    /// everybody's.
    pub(super) fn scope(&self, metadata: &MetadataMap) -> Result<Option<Realm>> {
        let Some(value) = metadata.get(REALM_KEY) else { return Ok(Some(self.realm)) };
        match value.to_str().ok().and_then(RealmScope::parse) {
            Some(RealmScope::Only(realm)) => Ok(Some(realm)),
            Some(RealmScope::All) => Ok(None),
            None => Err(Error::Invalid(format!(
                "metadata {REALM_KEY} = {value:?} is neither kubelet, agent nor all"
            ))),
        }
    }
}

pub(super) fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(codes::status)
}

/// Nanoseconds since the Unix epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
