//! Port-forward: connections into a pod, each a pair of streams on one client connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;

use super::flow::{Broken, Inflow, Outflow};
use super::{spdy, websocket};
use crate::error::{Error, Result};
use crate::runtime::Runtime;

/// How long the second stream of a pair may take.
const PAIRING: Duration = Duration::from_secs(30);

/// Streams that may wait for the second of their pair, and bytes of a pair's name.
const MOST_HALVES: usize = 1024;
const LONGEST_NAME: usize = 64;

/// How long a pod may take for what a client sent before it went.
const LAST_BYTES: Duration = Duration::from_secs(10);

/// What connections are made into.
pub trait Dial: Clone + Send + Sync + 'static {
    fn dial(&self, port: u16) -> impl Future<Output = Result<TcpStream>> + Send;
}

/// Into which pod.
#[derive(Clone)]
pub struct Target {
    pub runtime: Arc<Runtime>,
    pub sandbox: String,
}

impl Dial for Target {
    async fn dial(&self, port: u16) -> Result<TcpStream> {
        self.runtime.dial(None, &self.sandbox, port).await
    }
}

/// One connection's client side.
struct Pair {
    inflow: Inflow,
    data: Outflow,
    error: Outflow,
}

/// The first stream of a pair.
struct Half {
    came: Instant,
    data: Option<(Inflow, spdy::Writer)>,
    error: Option<spdy::Writer>,
    port: Option<u16>,
}

/// The connections of one client. They end with it.
struct Forwards<T> {
    target: T,
    tasks: JoinSet<()>,
    client: watch::Sender<()>,
}

impl<T: Dial> Forwards<T> {
    fn new(target: T) -> Self {
        Self { target, tasks: JoinSet::new(), client: watch::Sender::new(()) }
    }

    fn begin(&mut self, port: Option<u16>, pair: Pair) {
        while self.tasks.try_join_next().is_some() {}
        let (target, client) = (self.target.clone(), self.client.subscribe());
        self.tasks.spawn(forward(target, port, (pair, client)));
    }

    /// The client has gone. What it has sent is brought to the pod.
    async fn end(mut self) {
        drop(self.client);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(LAST_BYTES, all).await;
    }
}

/// Serves pairs until the client goes; those that are open then end with it.
pub async fn over_spdy(
    client: (spdy::Connection, mpsc::Receiver<spdy::Stream>),
    target: impl Dial,
) {
    over_pairs(client, target, PAIRING).await;
}

/// A stream alone is reset after `pairing`.
async fn over_pairs(
    (client, mut opened): (spdy::Connection, mpsc::Receiver<spdy::Stream>),
    target: impl Dial,
    pairing: Duration,
) {
    let mut forwards = Forwards::new(target);
    let mut halves: HashMap<String, Half> = HashMap::new();
    loop {
        let oldest = halves.values().map(|half| half.came).min();
        let next = match oldest {
            Some(oldest) => timeout_at(oldest + pairing, opened.recv()).await.ok(),
            None => Some(opened.recv().await),
        };
        halves.retain(|_, half| half.came.elapsed() < pairing);
        let stream = match next {
            Some(Some(stream)) => stream,
            Some(None) => break,
            None => continue,
        };
        // Older clients number no requests: then the next two belong together.
        let request = stream.headers.get("requestid").unwrap_or_default().to_owned();
        let port = stream.headers.get("port").and_then(|port| port.parse().ok());
        let is_data = match stream.headers.get("streamtype") {
            Some("data") => true,
            Some("error") => false,
            // Reset by being dropped, and so are those after this.
            _ => continue,
        };
        let is_full = halves.len() >= MOST_HALVES && !halves.contains_key(&request);
        if is_full || request.len() > LONGEST_NAME {
            continue;
        }
        let new = || Half { came: Instant::now(), data: None, error: None, port };
        let half = halves.entry(request.clone()).or_insert_with(new);
        if is_data {
            half.data = Some((stream.inflow, stream.writer));
        } else {
            half.error = Some(stream.writer);
        }
        if let Some(Half { data: Some(_), error: Some(_), .. }) = halves.get(&request)
            && let Some(Half { data: Some((inflow, data)), error: Some(error), port, .. }) =
                halves.remove(&request)
        {
            let (data, error) = (Outflow::Spdy(data), Outflow::Spdy(error));
            forwards.begin(port, Pair { inflow, data, error });
        }
    }
    drop(client);
    forwards.end().await;
}

/// The older protocol of WebSockets: two channels for each port that the request names, the
/// first message of each the port's number (u16, little endian).
pub async fn over_channels<I>(
    stream: WebSocketStream<I>,
    protocol: websocket::Protocol,
    (target, ports): (impl Dial, Vec<u16>),
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut forwards = Forwards::new(target);
    let data = |index: usize| u8::try_from(2 * index).unwrap_or(u8::MAX);
    let incoming: Vec<u8> = (0..ports.len()).map(data).collect();
    let (client, mut inflows) = websocket::channels(stream, protocol, &incoming);
    for (channel, port) in incoming.into_iter().zip(ports) {
        let Some(inflow) = inflows.remove(&channel) else { continue };
        let mut pair = Pair {
            inflow,
            data: Outflow::WebSocket(client.writer(channel)),
            error: Outflow::WebSocket(client.writer(channel + 1)),
        };
        let number = Bytes::copy_from_slice(&port.to_le_bytes());
        let _ = pair.data.send(number.clone()).await;
        let _ = pair.error.send(number).await;
        forwards.begin(Some(port), pair);
    }
    client.gone().await;
    forwards.end().await;
}

async fn forward<T: Dial>(
    target: T,
    port: Option<u16>,
    (pair, mut client): (Pair, watch::Receiver<()>),
) {
    let Pair { inflow, data, mut error } = pair;
    match dial(&target, port).await {
        Ok(pod) => {
            let (read, write) = pod.into_split();
            // A client that breaks off ends the pod's side at once; else each half ends alone.
            let receiving = async {
                tokio::select! {
                    () = data.carry(read) => {}
                    // It fails once the client has gone, which may have ended its half before.
                    _ = client.changed() => {}
                }
                Ok(())
            };
            let _ = futures::future::try_join(send(inflow, write), receiving).await;
        }
        Err(refusal) => {
            let _ = error.send(format!("{refusal}").into()).await;
        }
    }
    error.finish().await;
}

async fn dial(target: &impl Dial, port: Option<u16>) -> Result<TcpStream> {
    let port = port.filter(|&port| port != 0);
    let port =
        port.ok_or_else(|| Error::Invalid("a stream without a port from 1 to 65535".to_owned()))?;
    target.dial(port).await
}

/// What the client sends. A client that ends its half ends the pod's; one that breaks off resets
/// the connection.
async fn send(mut from: Inflow, mut to: OwnedWriteHalf) -> Result<(), Broken> {
    loop {
        match from.next().await {
            Ok(Some(bytes)) => {
                if to.write_all(&bytes).await.is_err() {
                    // The pod's side tells the client.
                    return Ok(());
                }
            }
            Ok(None) => {
                let _ = to.shutdown().await;
                return Ok(());
            }
            Err(broken) => {
                let _ = to.as_ref().set_zero_linger();
                return Err(broken);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::streaming::spdy::{Headers, Role, start};

    #[derive(Clone)]
    struct Nobody;

    impl Dial for Nobody {
        async fn dial(&self, _: u16) -> Result<TcpStream> {
            Err(Error::Unavailable("nobody is there".to_owned()))
        }
    }

    #[tokio::test]
    async fn a_half_that_stays_alone_is_reset() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let pairing = Duration::from_millis(10);
        tokio::spawn(over_pairs(start(far, Role::Server), Nobody, pairing));
        let (client, _opened) = start(near, Role::Client);
        let begun = Instant::now();
        let headers = [("streamtype", "data"), ("port", "80"), ("requestid", "1")];
        let mut half = client.open(Headers::new(&headers)).await.unwrap();
        assert!(half.inflow.next().await.is_err());
        assert!(begun.elapsed() >= pairing);
    }
}
