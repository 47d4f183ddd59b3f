//! Datagrams: each client has a socket of its own in the pod, so that answers find back. What
//! waits too long for an answer is forgotten, the idlest first when there are too many.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::datagram::{self, Route};
use super::target::Target;
use crate::retry;
use crate::shim::lock;

/// How long a client is remembered that neither sends nor is sent anything.
const IDLE: Duration = Duration::from_secs(90);

/// Clients of a pod at a time.
const MOST_FLOWS: usize = 1024;

/// The clients of all of a pod's ports, by the host's socket and the way to them.
#[derive(Clone, Default)]
pub struct Flows(Arc<Mutex<HashMap<Key, Arc<Flow>>>>);

type Key = (SocketAddr, Route);

/// One client of one port.
struct Flow {
    /// Connected to the pod.
    socket: UdpSocket,
    used: Mutex<Instant>,
    /// Rung when it has to make room.
    evicted: Notify,
}

impl Flow {
    /// Sends the first datagram to the first address where it is not refused at once: on
    /// loopback, and to an address of one's own, the kernel knows so before it returns.
    async fn open(target: &Target, datagram: &[u8]) -> Option<Self> {
        for address in target.addresses() {
            let any: SocketAddr = match address {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let Ok(socket) = UdpSocket::bind(any).await else { continue };
            if socket.connect(address).await.is_err() || socket.send(datagram).await.is_err() {
                continue;
            }
            if matches!(socket.take_error(), Ok(None)) {
                let used = Mutex::new(Instant::now());
                return Some(Self { socket, used, evicted: Notify::new() });
            }
        }
        None
    }

    fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    fn idle_at(&self) -> Instant {
        *lock(&self.used) + IDLE
    }

    /// Carries answers back until there have been none for long, or the pod refuses.
    async fn answer(&self, host: &UdpSocket, route: Route) {
        loop {
            let idle_at = self.idle_at();
            tokio::select! {
                biased;
                () = self.evicted.notified() => return,
                readable = timeout_at(idle_at, self.socket.readable()) => match readable {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) if self.idle_at() <= Instant::now() => return,
                    Err(_) => continue,
                },
            }
            // Made for each, so that a thousand idle clients hold no buffer.
            let mut answer = Vec::with_capacity(datagram::MOST);
            match self.socket.try_recv_buf(&mut answer) {
                Ok(_) => {
                    self.touch();
                    // A client that cannot be reached is as one that does not listen.
                    let _ = datagram::answer(host, &answer, &route).await;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                // Nobody listens there any more: the client's next datagram looks anew.
                Err(_) => return,
            }
        }
    }
}

impl Flows {
    fn get(&self, key: &Key) -> Option<Arc<Flow>> {
        lock(&self.0).get(key).cloned()
    }

    /// Adds one, in the place of the idlest when there are too many.
    fn add(&self, key: Key, flow: Arc<Flow>) {
        let mut flows = lock(&self.0);
        if flows.len() >= MOST_FLOWS {
            let idlest = flows.iter().min_by_key(|(_, flow)| *lock(&flow.used));
            let idlest = idlest.map(|(key, _)| *key);
            if let Some(evicted) = idlest.and_then(|key| flows.remove(&key)) {
                evicted.evicted.notify_one();
            }
        }
        flows.insert(key, flow);
    }

    /// Forgets this very flow; another one may have its key by now.
    fn forget(&self, key: &Key, flow: &Arc<Flow>) {
        let mut flows = lock(&self.0);
        if flows.get(key).is_some_and(|known| Arc::ptr_eq(known, flow)) {
            flows.remove(key);
        }
    }
}

/// Carries datagrams for ever.
pub async fn serve(host: UdpSocket, target: Target, flows: Flows) {
    let host = Arc::new(host);
    let Ok(own) = host.local_addr() else { return };
    // Without it a client on a machine of several addresses may not know the answer.
    let _ = datagram::tell_addresses(&host);
    let mut buffer = vec![0; datagram::MOST];
    loop {
        let Ok((length, route)) = datagram::receive(&host, &mut buffer).await else {
            retry::pause().await;
            continue;
        };
        let question = buffer.get(..length).unwrap_or_default();
        let key = (own, route);
        if let Some(flow) = flows.get(&key) {
            flow.touch();
            if flow.socket.send(question).await.is_ok() {
                continue;
            }
            // Whoever listened there has gone: it may be somewhere else by now.
            flows.forget(&key, &flow);
            flow.evicted.notify_one();
        }
        let Some(flow) = Flow::open(&target, question).await.map(Arc::new) else { continue };
        flows.add(key, flow.clone());
        let (host, flows) = (host.clone(), flows.clone());
        tokio::spawn(async move {
            flow.answer(&host, route).await;
            flows.forget(&key, &flow);
        });
    }
}
