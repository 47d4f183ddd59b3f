//! A pod's ports on the host, where no network plugin sees to them: a proxy inside the shim, so
//! that it outlives the daemon as the pod does. Its listening sockets are made in the host's
//! network namespace by the shim's server thread; a thread of the pod's own, which stands in the
//! pod's namespace, accepts from them and connects there. Knows no container.

mod bind;
mod carry;
mod datagram;
mod target;
mod tcp;
mod udp;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use self::bind::Socket;
pub use self::bind::{Bound, bind};
use self::target::Target;
use super::cpu;
use super::sandbox::{Sandbox, thread_name};
use crate::error::{Error, Result};
use crate::model::ports::HostPort;

/// What of a sandbox's specification is the proxy's.
#[derive(Clone, Debug, Default)]
pub struct PortsSpec {
    pub ports: Vec<HostPort>,
    /// What the pod was given by its network; loopback is tried before.
    pub addresses: Vec<IpAddr>,
}

/// Of a thread that only waits for sockets; its connections are on the heap.
const STACK: usize = 512 << 10;

/// Connections of a pod at a time, each of which may stall [`carry::BUFFER`] bytes both ways; more
/// wait with the kernel.
const MOST_CONNECTIONS: usize = 1024;

/// A pod's proxy while it lives.
pub struct Proxy {
    /// Dropped to end it.
    _end: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Proxy {
    /// Serves what was bound for a sandbox that stands in its namespace.
    pub async fn start(sandbox: Arc<Sandbox>, bound: Vec<Bound>) -> Result<Self> {
        let (end, told) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        std::thread::Builder::new()
            .name(thread_name('p', sandbox.spec.id.as_str()))
            .stack_size(STACK)
            .spawn(move || {
                live(&sandbox, bound, ready, told);
                // Whoever started it may have gone.
                let _ = done.send(());
            })
            .map_err(|error| Error::Exhausted(format!("starting a proxy's thread: {error}")))?;
        is_ready
            .await
            .unwrap_or_else(|_| Err(Error::Internal("a proxy's thread ended early".to_owned())))?;
        Ok(Self { _end: end, ended })
    }

    /// Closes every socket and connection of it.
    pub async fn end(self) {
        let Self { _end, ended } = self;
        drop(_end);
        // An error means that the thread is gone as well.
        let _ = ended.await;
    }
}

fn live(
    sandbox: &Arc<Sandbox>,
    bound: Vec<Bound>,
    ready: oneshot::Sender<Result<()>>,
    told: oneshot::Receiver<()>,
) {
    let _counted = sandbox.threads.enter();
    match settle(sandbox, bound) {
        Ok(runtime) => {
            let _ = ready.send(Ok(()));
            // Its sender says nothing, it only goes.
            let _ = runtime.block_on(told);
            // Dropping the runtime drops what it serves.
        }
        Err(error) => {
            let _ = ready.send(Err(error));
        }
    }
}

/// The runtime copies the namespace and CPUs of this thread, so they come first.
fn settle(sandbox: &Arc<Sandbox>, bound: Vec<Bound>) -> Result<tokio::runtime::Runtime> {
    let doing = || Error::io("starting a pod's proxy");
    sandbox.join()?;
    sandbox.cpus.with_pods(|cpus| cpus.map_or(Ok(()), cpu::pin_self))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(doing())?;
    let inside = runtime.enter();
    let turns = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let flows = udp::Flows::default();
    for Bound { port, socket } in bound {
        let target = Target::new(sandbox.clone(), &port);
        match socket {
            Socket::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener).map_err(doing())?;
                runtime.spawn(tcp::serve(listener, target, turns.clone()));
            }
            Socket::Udp(socket) => {
                let socket = tokio::net::UdpSocket::from_std(socket).map_err(doing())?;
                runtime.spawn(udp::serve(socket, target, flows.clone()));
            }
        }
    }
    drop(inside);
    Ok(runtime)
}

#[cfg(test)]
mod tests;
