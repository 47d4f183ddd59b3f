//! The client's side of a streaming URL: for `wasmpod exec`, `attach` and `port-forward`, and for
//! tests and benchmarks, which speak the same SPDY as kubectl.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;

use super::flow::Outflow;
pub use super::flow::{Broken, Inflow};
use super::remote::SPDY_PROTOCOLS;
use super::server::{PORT_FORWARD, SPDY, STREAM_PROTOCOL};
use super::spdy::{self, Headers, Role};
use crate::error::{Error, Result};
use crate::runtime::Wanted;

/// A connection to a streaming URL.
pub struct Client {
    connection: spdy::Connection,
}

/// A program's streams, as its client sees them.
pub struct Remote {
    client: Client,
    pub stdin: Option<Output>,
    pub stdout: Option<Inflow>,
    pub stderr: Option<Inflow>,
    pub sizes: Option<Output>,
    /// How it ended, once it has: a metav1.Status.
    pub status: Inflow,
}

/// One connection into a pod.
pub struct Forwarded {
    pub incoming: Inflow,
    pub outgoing: Output,
    /// Why there is no connection, or nothing.
    pub fault: Inflow,
}

/// A stream that is written to.
pub struct Output(Outflow);

impl Output {
    /// Hands on what `from` gives, to its end.
    pub async fn carry(self, from: impl AsyncRead + Unpin) {
        self.0.carry(from).await;
    }

    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Broken> {
        self.0.send(bytes).await
    }

    pub async fn finish(self) {
        self.0.finish().await;
    }
}

impl Client {
    async fn connect(url: &str, protocol: &str) -> Result<Self> {
        let uri: Uri = url.parse().map_err(|_| Error::Invalid(format!("{url:?} is no URL")))?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let doing = || format!("connecting to {authority}");
        let failed = |error: hyper::Error| Error::Unavailable(format!("{}: {error}", doing()));
        let stream = TcpStream::connect(&authority).await.map_err(Error::io(doing()))?;
        stream.set_nodelay(true).map_err(Error::io(doing()))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::post(uri.path())
            .header(HOST, &authority)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, SPDY)
            .header(STREAM_PROTOCOL, protocol)
            .body(Empty::<Bytes>::new())
            .map_err(|error| Error::Invalid(format!("{url:?}: {error}")))?;
        let answer = sender.send_request(request).await.map_err(failed)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::Unavailable(format!("{}: {}", doing(), answer.status())));
        }
        let io = hyper::upgrade::on(answer).await.map_err(failed)?;
        let (connection, _) = spdy::start(TokioIo::new(io), Role::Client);
        Ok(Self { connection })
    }

    async fn stream(&self, headers: &[(&str, &str)]) -> Result<spdy::Stream> {
        let gone = |_| Error::Unavailable("the daemon has closed the connection".to_owned());
        self.connection.open(Headers::new(headers)).await.map_err(gone)
    }

    /// Opens the streams of an exec or an attachment.
    pub async fn remote(url: &str, wanted: Wanted) -> Result<Remote> {
        let client = Self::connect(url, SPDY_PROTOCOLS[0]).await?;
        let kind = |kind| [("streamtype", kind)];
        let status = client.stream(&kind("error")).await?;
        let status = take_only(status).await;
        let mut remote =
            Remote { client, stdin: None, stdout: None, stderr: None, sizes: None, status };
        if wanted.stdin {
            remote.stdin = Some(remote.output("stdin").await?);
        }
        if wanted.stdout {
            remote.stdout = Some(take_only(remote.client.stream(&kind("stdout")).await?).await);
        }
        if wanted.stderr {
            remote.stderr = Some(take_only(remote.client.stream(&kind("stderr")).await?).await);
        }
        if wanted.terminal {
            remote.sizes = Some(remote.output("resize").await?);
        }
        Ok(remote)
    }

    /// A connection over which ports of a pod are reached.
    pub async fn ports(url: &str) -> Result<Self> {
        Self::connect(url, PORT_FORWARD).await
    }

    /// One connection to `port`; `request` is a number that no other connection of this client
    /// has.
    pub async fn forward(&self, port: u16, request: u64) -> Result<Forwarded> {
        let (port, request) = (port.to_string(), request.to_string());
        let (port, request) = (("port", port.as_str()), ("requestid", request.as_str()));
        let fault = self.stream(&[("streamtype", "error"), port, request]).await?;
        let fault = take_only(fault).await;
        let data = self.stream(&[("streamtype", "data"), port, request]).await?;
        let outgoing = Output(Outflow::Spdy(data.writer));
        Ok(Forwarded { incoming: data.inflow, outgoing, fault })
    }

    /// Resolves once the daemon has closed the connection.
    pub async fn gone(&self) {
        self.connection.gone().await;
    }
}

impl Remote {
    async fn output(&self, kind: &str) -> Result<Output> {
        let stream = self.client.stream(&[("streamtype", kind)]).await?;
        Ok(Output(Outflow::Spdy(stream.writer)))
    }
}

/// A stream that is only read.
async fn take_only(stream: spdy::Stream) -> Inflow {
    // A connection that is gone tells so at the next read.
    let _ = stream.writer.finish().await;
    stream.inflow
}
