//! Serves the metrics to Prometheus: GET /metrics over HTTP, where the configuration says. Few
//! connections, one request and a few seconds each, and one text for all who ask within a moment:
//! whoever floods it or reads slowly has it for himself, and the daemon's calls do not notice.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};

use super::metrics::{Census, metrics};
use crate::error::{Error, Result};
use crate::retry;

/// Connections at once; more wait with the kernel.
const MOST: usize = 16;

/// How long a connection lasts, its request and its answer included.
const CONNECTION: Duration = Duration::from_secs(10);

/// How old a text may be that is given again.
const FRESH: Duration = Duration::from_millis(200);

/// Bytes of a request's head.
const MOST_HEAD: usize = 16 << 10;

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Answer = Response<Full<Bytes>>;

struct Exposition<C> {
    census: C,
    last: Mutex<Option<(Instant, Bytes)>>,
}

/// Listens at `address`, and serves until the process ends; the address that it has.
pub async fn start(
    address: SocketAddr,
    census: impl Fn() -> Census + Send + Sync + 'static,
) -> Result<SocketAddr> {
    let doing = || Error::io(format!("listening for metrics.listen = {address}"));
    let listener = TcpListener::bind(address).await.map_err(doing())?;
    let bound = listener.local_addr().map_err(doing())?;
    let exposition = Arc::new(Exposition { census, last: Mutex::default() });
    tokio::spawn(accept(listener, exposition));
    Ok(bound)
}

async fn accept<C>(listener: TcpListener, exposition: Arc<Exposition<C>>)
where
    C: Fn() -> Census + Send + Sync + 'static,
{
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        // Nobody closes the semaphore.
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let (stream, _) = retry::until_ok(|| listener.accept()).await;
        let own = exposition.clone();
        tokio::spawn(async move {
            // Whoever takes longer is cut off.
            let _ = tokio::time::timeout(CONNECTION, own.connection(stream)).await;
            drop(place);
        });
    }
}

impl<C: Fn() -> Census + Send + Sync> Exposition<C> {
    async fn connection(&self, stream: TcpStream) {
        let service =
            service_fn(|request| async move { Ok::<_, Infallible>(self.answer(request).await) });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            // Whoever has no more to say may still listen.
            .half_close(true)
            .max_buf_size(MOST_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a reader of metrics cannot be answered");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.uri().path() != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "there is nothing but /metrics");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match self.text().await {
            Some(text) => {
                let mut answer = Response::new(Full::from(text));
                answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
                answer
            }
            None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written"),
        }
    }

    async fn text(&self) -> Option<Bytes> {
        let mut last = self.last.lock().await;
        if let Some((_, text)) = last.as_ref().filter(|(when, _)| when.elapsed() < FRESH) {
            return Some(text.clone());
        }
        let text = Bytes::from(metrics().text(&(self.census)()).ok()?);
        *last = Some((Instant::now(), text.clone()));
        Some(text)
    }
}

fn plain(status: StatusCode, sentence: &str) -> Answer {
    let mut answer = Response::new(Full::from(format!("{sentence}\n")));
    *answer.status_mut() = status;
    answer
}
