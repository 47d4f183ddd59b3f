//! Connections into a sandbox's network, made on a thread that stands in it. Knows nothing of who
//! wants them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::container::on_thread;
use super::sandbox::Sandbox;
use crate::error::{Error, Result};
use crate::model::sockets::Protocol;

/// How long a connection to one address may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a pod's ports are looked for, in this order.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A TCP connection to `port` as the pod's own programs would make it.
pub async fn dial(sandbox: Arc<Sandbox>, port: u16) -> Result<TcpStream> {
    on_thread("w-dial", move || {
        sandbox.join()?;
        connect(&sandbox, port).map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                Error::Precondition(format!("nothing in the pod listens on port {port}"))
            }
            _ => Error::io(format!("connecting to port {port} of the pod"))(error),
        })
    })
    .await?
}

/// What the first address says counts when none answers.
fn connect(sandbox: &Sandbox, port: u16) -> io::Result<TcpStream> {
    let mut first = None;
    for address in LOOPBACK {
        let known = SocketAddr::new(address, port);
        let connected = match sandbox.server(Protocol::Tcp, known) {
            Some(address) => TcpStream::connect_timeout(&address, PATIENCE),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        };
        match connected {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}
