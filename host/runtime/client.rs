//! The connection to one shim: shim.proto over the socket in its folder. Knows nothing of
//! records; turns the shim's refusals into this crate's errors.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use crate::error::{Error, Result};
use crate::proto::SHIM_PROTOCOLS;
use crate::proto::shim::shim_client::ShimClient;
use crate::proto::shim::{HelloRequest, HelloResponse};

/// How long a shim may take for what it does without waiting for a guest.
pub const PATIENCE: Duration = Duration::from_secs(60);
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer: an exec's two outputs with room to spare.
const MESSAGE_MAX: usize = 64 << 20;
/// Bytes in flight before the other side waits, so that long outputs are not slowed.
const WINDOW: u32 = 4 << 20;

#[derive(Clone, Debug)]
pub struct Client {
    wire: ShimClient<Channel>,
    pub hello: HelloResponse,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NoContact {
    /// No process listens: the shim is dead.
    Gone,
    /// Something listens and cannot be served.
    Strange(Error),
}

/// Whether no process listens on a shim's socket any more.
pub async fn is_gone(socket: &Path) -> bool {
    match UnixStream::connect(socket).await {
        Ok(_) => false,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound),
    }
}

impl Client {
    /// Connects and agrees on a protocol version.
    pub async fn connect(socket: PathBuf) -> Result<Self, NoContact> {
        if is_gone(&socket).await {
            return Err(NoContact::Gone);
        }
        let path = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is not used: the connector knows the socket.
        let channel = Endpoint::from_static("http://shim")
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect_with_connector_lazy(connector);
        let mut wire = ShimClient::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let request = HelloRequest { versions: SHIM_PROTOCOLS.to_vec() };
        let hello = match tokio::time::timeout(HELLO_PATIENCE, wire.hello(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(_)) if is_gone(&socket).await => return Err(NoContact::Gone),
            Ok(Err(status)) => {
                return Err(NoContact::Strange(failure("greeting a shim", &status)));
            }
            Err(_) => {
                return Err(NoContact::Strange(Error::Unavailable(format!(
                    "the shim of {} does not answer",
                    socket.display()
                ))));
            }
        };
        if !SHIM_PROTOCOLS.contains(&hello.version) {
            return Err(NoContact::Strange(Error::Unavailable(format!(
                "the shim of {} (wasmpod {}) speaks protocol version {}, this daemon \
                 {SHIM_PROTOCOLS:?}",
                socket.display(),
                hello.build,
                hello.version
            ))));
        }
        Ok(Self { wire, hello })
    }

    /// For calls; a clone shares the connection.
    pub fn wire(&self) -> ShimClient<Channel> {
        self.wire.clone()
    }
}

/// Waits [`PATIENCE`] at most for the answer of a call that waits for no guest. `doing`
/// continues "while".
pub async fn answer<T>(
    doing: &str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T> {
    answer_within(PATIENCE, doing, call).await
}

/// As [`answer`], for a caller with another patience.
pub async fn answer_within<T>(
    patience: Duration,
    doing: &str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(patience, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failure(doing, &status)),
        Err(_) => Err(Error::Unavailable(format!("{doing}: the shim does not answer"))),
    }
}

/// A shim's refusal as this crate's error. What the shim says is a whole sentence already.
pub fn failure(doing: &str, status: &Status) -> Error {
    let said = status.message().to_owned();
    match status.code() {
        // Shims put what is missing in quotes.
        Code::NotFound => Error::not_found("container", said.split('"').nth(1).unwrap_or(&said)),
        Code::InvalidArgument => Error::Invalid(said),
        Code::FailedPrecondition => Error::Precondition(said),
        Code::ResourceExhausted => Error::Exhausted(said),
        Code::DeadlineExceeded => Error::DeadlineExceeded(said),
        Code::DataLoss => Error::StaleCode(said),
        Code::Unimplemented => Error::Unimplemented(said),
        // What the transport says when the process goes away.
        Code::Unavailable | Code::Unknown | Code::Cancelled => {
            Error::Unavailable(format!("{doing}: the shim cannot be reached: {said}"))
        }
        _ => Error::Internal(format!("{doing}: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_without_a_listener_is_a_dead_shims() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("shim.sock");
        assert!(is_gone(&socket).await);
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(!is_gone(&socket).await);
        drop(listener);
        assert!(matches!(Client::connect(socket).await, Err(NoContact::Gone)));
    }
}
