//! The HTTP side of streaming: it listens where the kubelet can dial, reads one request of a
//! connection, and hands the upgraded connection on.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::forward::{self, Target};
use super::idle::Idle;
use super::remote::{self, Channels, Ending};
use super::tickets::{Ticket, Tickets};
use super::websocket::{self, Tunnel};
use super::{remote::SPDY_PROTOCOLS, spdy};
use crate::error::{Error, Result};
use crate::retry;
use crate::runtime::{Runtime, Wanted};
use crate::telemetry::metrics;

/// A connection that has been upgraded.
pub type Io = Idle<TokioIo<Upgraded>>;

type Answer = Response<Full<Bytes>>;

/// Connections at once.
const MOST: usize = 4096;

/// A year: instants have an end.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long a client may take to send its request.
const REQUEST: Duration = Duration::from_secs(10);

pub const SPDY: &str = "SPDY/3.1";
pub const PORT_FORWARD: &str = "portforward.k8s.io";
/// SPDY's frames inside a WebSocket's messages.
const TUNNELED: &str = "SPDY/3.1+portforward.k8s.io";

pub const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// The server, shared by every CRI socket of the daemon.
pub struct Streaming {
    runtime: Arc<Runtime>,
    tickets: Tickets,
    address: SocketAddr,
    room: Arc<Semaphore>,
}

/// How a connection goes on after its upgrade.
enum Speech {
    Spdy(&'static str),
    Channels(websocket::Protocol),
    Tunnel,
}

impl Streaming {
    /// Listens at the configured address and serves until the daemon ends.
    pub async fn start(runtime: Arc<Runtime>) -> Result<Arc<Self>> {
        let asked = runtime.config().streaming.listen;
        let doing = || Error::io(format!("listening for streams on {asked}"));
        let listener = TcpListener::bind(asked).await.map_err(doing())?;
        let address = listener.local_addr().map_err(doing())?;
        let room = Arc::new(Semaphore::new(MOST));
        let streaming = Arc::new(Self { runtime, tickets: Tickets::default(), address, room });
        tokio::spawn(streaming.clone().accept(listener));
        Ok(streaming)
    }

    /// The URL at which a client may do what `ticket` says, once.
    pub fn url(&self, ticket: Ticket) -> Result<String> {
        let place = ticket.place();
        let token = self.tickets.give(ticket)?;
        Ok(format!("http://{}/{place}/{token}", self.address))
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            // Nobody closes the semaphore.
            let Ok(place) = self.room.clone().acquire_owned().await else { return };
            let (stream, _) = retry::until_ok(|| listener.accept()).await;
            let own = self.clone();
            tokio::spawn(async move {
                own.connection(stream).await;
                drop(place);
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let (upgraded, to_serve) = tokio::sync::oneshot::channel();
        let upgraded = std::sync::Mutex::new(Some(upgraded));
        let service = service_fn(|request| {
            let (answer, session) = self.answer(request);
            let sender = upgraded.lock().ok().and_then(|mut sender| sender.take());
            if let (Some(session), Some(sender)) = (session, sender) {
                // The receiver lives as long as this function.
                let _ = sender.send(session);
            }
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a streaming client's request cannot be read");
            return;
        }
        let Ok((request, ticket, speech)) = to_serve.await else { return };
        match hyper::upgrade::on(request).await {
            Ok(io) => {
                let io = Idle::new(TokioIo::new(io), self.most_idle());
                self.speak(io, ticket, speech).await;
            }
            Err(error) => tracing::debug!(%error, "a streaming client left before its upgrade"),
        }
    }

    fn most_idle(&self) -> Duration {
        match self.runtime.config().streaming.idle_seconds {
            0 => FOR_EVER,
            seconds => Duration::from_secs(seconds).min(FOR_EVER),
        }
    }

    /// The answer, and what follows it.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> (Answer, Option<(Request<Incoming>, Ticket, Speech)>) {
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return (plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST are served"), None);
        }
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let Some((place, token)) = path.split_once('/') else {
            return (plain(StatusCode::NOT_FOUND, "no such place"), None);
        };
        let (speech, answer) = match agree(place, request.headers()) {
            Ok(agreed) => agreed,
            Err((status, sentence)) => return (plain(status, sentence), None),
        };
        match self.tickets.take(place, token) {
            Some(ticket) => (answer, Some((request, ticket, speech))),
            None => {
                let sentence = "this token is used, older than a minute, or none of ours";
                (plain(StatusCode::NOT_FOUND, sentence), None)
            }
        }
    }

    async fn speak(&self, io: Io, ticket: Ticket, speech: Speech) {
        let _counted = metrics().session(ticket.place());
        match ticket {
            Ticket::Exec { container, argv, wanted } => {
                let opening = self.runtime.open_exec(None, &container, (argv, wanted));
                if let Some(channels) = channels(io, speech, wanted).await {
                    remote::serve(channels, Ending::Exit, opening).await;
                }
            }
            Ticket::Attach { container, wanted } => {
                let opening = self.runtime.attach(None, &container, wanted);
                if let Some(channels) = channels(io, speech, wanted).await {
                    remote::serve(channels, Ending::Silent, opening).await;
                }
            }
            Ticket::PortForward { sandbox, ports } => {
                let target = Target { runtime: self.runtime.clone(), sandbox };
                match speech {
                    Speech::Spdy(_) => {
                        forward::over_spdy(spdy::start(io, spdy::Role::Server), target).await;
                    }
                    Speech::Tunnel => {
                        let tunnel = Tunnel::new(websocket::accept(io).await);
                        let connection = spdy::start(tunnel, spdy::Role::Server);
                        forward::over_spdy(connection, target).await;
                    }
                    Speech::Channels(protocol) => {
                        let stream = websocket::accept(io).await;
                        forward::over_channels(stream, protocol, (target, ports)).await;
                    }
                }
            }
        }
    }
}

/// A program's streams, once the client has opened them.
async fn channels(io: Io, speech: Speech, wanted: Wanted) -> Option<Channels> {
    match speech {
        Speech::Spdy(protocol) => {
            let connection = spdy::start(io, spdy::Role::Server);
            match Channels::of_spdy(connection, protocol, wanted).await {
                Ok(channels) => Some(channels),
                Err(error) => {
                    tracing::debug!(%error, "a streaming client is given up");
                    None
                }
            }
        }
        Speech::Channels(protocol) => {
            let stream = websocket::accept(io).await;
            Some(Channels::of_websocket(stream, protocol, wanted).await)
        }
        // Agreed on for port-forward alone.
        Speech::Tunnel => None,
    }
}

fn plain(status: StatusCode, sentence: &str) -> Answer {
    let mut answer = Response::new(Full::from(format!("{sentence}\n")));
    *answer.status_mut() = status;
    answer
}

type Refusal = (StatusCode, &'static str);

/// The protocol that client and server have in common, and the answer that says so.
fn agree(place: &str, headers: &HeaderMap) -> Result<(Speech, Answer), Refusal> {
    let upgrade = words(headers, &header::UPGRADE).next().unwrap_or_default();
    let is_forward = place == "portforward";
    if upgrade.eq_ignore_ascii_case(SPDY) {
        let offered: Vec<&str> = words(headers, &STREAM_PROTOCOL).collect();
        let known: &[&'static str] = if is_forward { &[PORT_FORWARD] } else { &SPDY_PROTOCOLS };
        // Clients from before the protocols had names offer none.
        let last = known.last().copied().unwrap_or_default();
        let common = known.iter().copied().find(|name| offered.contains(name));
        let common = common.or_else(|| offered.is_empty().then_some(last));
        let common = common.ok_or((
            StatusCode::FORBIDDEN,
            "none of the offered stream protocols is known: v4.channel.k8s.io and \
             portforward.k8s.io are",
        ))?;
        let answer = switching(SPDY, &[(STREAM_PROTOCOL, common)]);
        return Ok((Speech::Spdy(common), answer));
    }
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return Err((StatusCode::BAD_REQUEST, "an upgrade to SPDY/3.1 or websocket is needed"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or((StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key"))?;
    let offered: Vec<&str> = words(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    let (speech, name) = if is_forward && offered.contains(&TUNNELED) {
        (Speech::Tunnel, TUNNELED)
    } else {
        let is_offered = |known: &websocket::Protocol| {
            offered.contains(&known.name) || (offered.is_empty() && known.name.is_empty())
        };
        let common = websocket::PROTOCOLS.into_iter().find(is_offered);
        let common = common.ok_or((
            StatusCode::FORBIDDEN,
            "none of the offered subprotocols is known: v5.channel.k8s.io, v4.channel.k8s.io and \
             SPDY/3.1+portforward.k8s.io are",
        ))?;
        (Speech::Channels(common), common.name)
    };
    let accept = derive_accept_key(key.as_bytes());
    let mut added = vec![(header::SEC_WEBSOCKET_ACCEPT, accept.as_str())];
    if !name.is_empty() {
        added.push((header::SEC_WEBSOCKET_PROTOCOL, name));
    }
    Ok((speech, switching("websocket", &added)))
}

fn switching(to: &'static str, added: &[(HeaderName, &str)]) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(to));
    for (name, value) in added {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name.clone(), value);
        }
    }
    answer
}

/// A header's words, over all its lines and between commas.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap())
        });
        pairs.collect()
    }

    fn protocol(place: &str, pairs: &[(&str, &str)]) -> Result<String, StatusCode> {
        let (_, answer) = agree(place, &headers(pairs)).map_err(|(status, _)| status)?;
        let names = [STREAM_PROTOCOL, header::SEC_WEBSOCKET_PROTOCOL];
        let found = names.iter().find_map(|name| answer.headers().get(name));
        Ok(found.map_or(String::new(), |value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn the_newest_protocol_that_both_know_is_taken() {
        let spdy = [
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v5.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io, v4.channel.k8s.io"),
        ];
        assert_eq!(protocol("exec", &spdy).unwrap(), "v4.channel.k8s.io");
        assert_eq!(protocol("exec", &spdy[..1]).unwrap(), "channel.k8s.io");
        assert_eq!(protocol("exec", &spdy[..2]), Err(StatusCode::FORBIDDEN));
        let socket = [
            ("upgrade", "websocket"),
            ("sec-websocket-key", "a"),
            ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
        ];
        assert_eq!(protocol("attach", &socket).unwrap(), "v5.channel.k8s.io");
        assert_eq!(protocol("attach", &socket[..1]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(protocol("exec", &[]), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn only_port_forward_is_tunneled() {
        let tunnel = [
            ("upgrade", "websocket"),
            ("sec-websocket-key", "a"),
            ("sec-websocket-protocol", TUNNELED),
        ];
        assert_eq!(protocol("portforward", &tunnel).unwrap(), TUNNELED);
        assert_eq!(protocol("exec", &tunnel), Err(StatusCode::FORBIDDEN));
    }
}
