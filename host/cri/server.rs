//! The sockets: binding them safely, serving CRI and what else is given on them, and coming to an
//! end that lets running calls finish.

use std::future::Future;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::client::MAX_MESSAGE;
use super::router::Router;
use super::service::Service;
use super::streaming::Streaming;
use super::{pod_images, pod_node};
use crate::error::{Error, Result};
use crate::model::sandbox::Realm;
use crate::proto::cri::image_service_server::ImageServiceServer;
use crate::proto::cri::runtime_service_server::RuntimeServiceServer;
use crate::runtime::Runtime;

/// Calls that one connection may have under way at once.
const MAX_STREAMS: u32 = 10_000;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A socket that accepts connections; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: SocketFile,
}

/// Removes a socket's file when dropped.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that is gone already is as good; any other is replaced at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Listens at `path`, open to the owner and the group. A socket file that nobody listens on
    /// is replaced; a live one and any other file are errors.
    pub fn bind(path: &Path) -> Result<Self> {
        check_length(path)?;
        clear(path)?;
        let doing = || format!("listening on {}", path.display());
        let address = SocketAddrUnix::new(path).map_err(Error::sys(doing()))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(Error::sys(doing()))?;
        rustix::net::bind(&socket, &address).map_err(Error::sys(doing()))?;
        let file = SocketFile(path.to_path_buf());
        // Before listening, so that nobody gets in while the mode is still the umask's.
        rustix::fs::chmod(path, Mode::from_raw_mode(0o660)).map_err(Error::sys(doing()))?;
        rustix::net::listen(&socket, BACKLOG).map_err(Error::sys(doing()))?;
        Ok(Self { listener: UnixListener::from(socket), path: file })
    }

    pub fn path(&self) -> &Path {
        &self.path.0
    }

    /// Serves until `stop` resolves, and then until every running call has its answer.
    pub async fn serve(self, services: Router, stop: impl Future<Output = ()>) -> Result<()> {
        let doing = format!("serving {}", self.path().display());
        let listener =
            tokio::net::UnixListener::from_std(self.listener).map_err(Error::io(doing.clone()))?;
        Server::builder()
            // hyper's default of 200 would let long calls of one client hold up its short ones.
            .max_concurrent_streams(Some(MAX_STREAMS))
            .serve_with_incoming_shutdown(services, UnixListenerStream::new(listener), stop)
            .await
            .map_err(|error| Error::Unavailable(format!("{doing}: {error}")))
    }
}

/// The kernel's sockaddr_un has room for 108 bytes, the last one 0.
const LONGEST: usize = 107;

fn check_length(path: &Path) -> Result<()> {
    let length = path.as_os_str().len();
    if length <= LONGEST {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "socket path {} has {length} bytes, the most is {LONGEST}: choose a shorter --listen or --state",
        path.display()
    )))
}

fn clear(path: &Path) -> Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(format!("looking at {}", path.display()))(error)),
    };
    if !kind.is_socket() {
        return Err(Error::Precondition(format!("{} exists and is no socket", path.display())));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
                .map_err(Error::io(format!("removing the old socket {}", path.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(format!("connecting to {}", path.display()))(error)),
        Ok(_) => Err(Error::Precondition(format!(
            "another program already listens on {}",
            path.display()
        ))),
    }
}

/// RuntimeService, ImageService, and what CRI lacks of images and the node, for one realm's socket.
pub fn services(runtime: Arc<Runtime>, realm: Realm, streaming: &Arc<Streaming>) -> Router {
    let imports = pod_images::service(runtime.clone());
    let node = pod_node::service(runtime.clone());
    let service = Service::new(runtime, realm, streaming.clone());
    Router::default()
        .with(imports)
        .with(node)
        .with(
            RuntimeServiceServer::new(service.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .with(
            ImageServiceServer::new(service)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let error = Socket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("already listens"), "{error}");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_told_with_the_most() {
        let path = Path::new("/tmp").join("x".repeat(103));
        let error = Socket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("has 108 bytes, the most is 107"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        std::fs::write(&path, "mine").unwrap();
        assert!(Socket::bind(&path).unwrap_err().to_string().contains("no socket"));
        assert!(path.exists());
    }
}
