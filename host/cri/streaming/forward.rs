//! Port-forward: connections into a pod, each a pair of streams on one client connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::flow::{Broken, Inflow, Outflow};
use super::{spdy, websocket};
use crate::error::{Error, Result};
use crate::runtime::Runtime;

/// How long the second stream of a pair may take.
const PAIRING: Duration = Duration::from_secs(30);

/// Into which pod.
#[derive(Clone)]
pub struct Target {
    pub runtime: Arc<Runtime>,
    pub sandbox: String,
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
    data: Option<spdy::Stream>,
    error: Option<spdy::Writer>,
    port: Option<u16>,
}

/// Serves pairs until the client goes; those that are open then end with it.
pub async fn over_spdy(
    (client, mut opened): (spdy::Connection, mpsc::Receiver<spdy::Stream>),
    target: Target,
) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    while let Some(stream) = opened.recv().await {
        halves.retain(|_, half| half.came.elapsed() < PAIRING);
        // Older clients number no requests: then the next two belong together.
        let request = stream.headers.get("requestid").unwrap_or_default().to_owned();
        let port = stream.headers.get("port").and_then(|port| port.parse().ok());
        let half = halves.entry(request.clone()).or_insert_with(|| Half {
            came: Instant::now(),
            data: None,
            error: None,
            port,
        });
        match stream.headers.get("streamtype") {
            Some("data") => half.data = Some(stream),
            Some("error") => half.error = Some(stream.writer),
            // Reset by being dropped.
            _ => continue,
        }
        if let Some(Half { data: Some(_), error: Some(_), .. }) = halves.get(&request)
            && let Some(Half { data: Some(data), error: Some(error), port, .. }) =
                halves.remove(&request)
        {
            let pair = Pair {
                inflow: data.inflow,
                data: Outflow::Spdy(data.writer),
                error: Outflow::Spdy(error),
            };
            tokio::spawn(forward(target.clone(), port, pair));
        }
    }
    drop(client);
}

/// The older protocol of WebSockets: two channels for each port that the request names, the
/// first message of each the port's number (u16, little endian).
pub async fn over_channels(
    stream: tokio_tungstenite::WebSocketStream<super::server::Io>,
    protocol: websocket::Protocol,
    (target, ports): (Target, Vec<u16>),
) {
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
        tokio::spawn(forward(target.clone(), Some(port), pair));
    }
    client.gone().await;
}

async fn forward(target: Target, port: Option<u16>, pair: Pair) {
    let Pair { inflow, data, mut error } = pair;
    match dial(&target, port).await {
        Ok(pod) => {
            let (read, write) = pod.into_split();
            // A client that breaks off ends the pod's side at once; else each half ends alone.
            let receiving = async {
                data.carry(read).await;
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

async fn dial(target: &Target, port: Option<u16>) -> Result<TcpStream> {
    let port = port.filter(|&port| port != 0);
    let port =
        port.ok_or_else(|| Error::Invalid("a stream without a port from 1 to 65535".to_owned()))?;
    target.runtime.dial(None, &target.sandbox, port).await
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
