//! Content to a registry: a blob unless it is there, a manifest under its tag. Goes to the
//! registry itself, never to a mirror.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::client::{Access, Client, Request, is_strange};
use super::fault::{Cure, Fault, Outcome};
use super::hosts::Role;
use super::pace::silent;
use super::session::Session;
use super::transport::Transport;
use crate::error::{Error, Result};
use crate::image::blobs::Blob;

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Now,
    /// The registry had it.
    Before,
}

/// Hears how many bytes of a blob were sent.
pub type Tell = Arc<dyn Fn(u64) + Send + Sync>;

/// Bytes of a file that are read at a time.
const PIECE: usize = 256 << 10;

/// What is sent; read anew for every try.
enum Content<'a> {
    Bytes(&'a [u8]),
    File(&'a Path, u64, &'a Tell),
}

/// One piece of content on its way.
struct Delivery<'a> {
    method: Method,
    url: Url,
    kind: &'a str,
    content: Content<'a>,
}

impl Session {
    /// Sends a blob whose content lies at `file`, unless the registry has it.
    pub async fn upload(&self, blob: &Blob, file: &Path, tell: &Tell) -> Result<Sent> {
        let access = self.server()?;
        let mut tried = 0;
        loop {
            match self.upload_once(access, blob, (file, tell)).await {
                Ok(sent) => return Ok(sent),
                Err(fault) => self.wait(fault, &mut tried).await?,
            }
        }
    }

    async fn upload_once(
        &self,
        access: &Access,
        blob: &Blob,
        (file, tell): (&Path, &Tell),
    ) -> Outcome<Sent> {
        let path = format!("blobs/{}", blob.digest);
        let request = Request { method: Method::HEAD, path: &path, accept: "*/*", from: 0 };
        match self.client.send(access, &request).await {
            Ok(_) => return Ok(Sent::Before),
            Err(Fault { error: Error::NotInRegistry { .. }, .. }) => {}
            Err(fault) => return Err(fault),
        }
        let begin = Delivery {
            method: Method::POST,
            url: access.url("blobs/uploads/")?,
            kind: "application/octet-stream",
            content: Content::Bytes(&[]),
        };
        let begun = self.client.deliver(access, &begin).await?;
        let place = begun.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let place = place.and_then(|place| begin.url.join(place).ok());
        let mut url = place.ok_or_else(|| {
            let shown = &access.endpoint.shown;
            let text = format!("registry {shown} does not say where a blob is sent to");
            Fault::elsewhere(Error::Invalid(text))
        })?;
        url.query_pairs_mut().append_pair("digest", &blob.digest);
        let content = Content::File(file, blob.size, tell);
        let kind = "application/octet-stream";
        let delivery = Delivery { method: Method::PUT, url, kind, content };
        self.client.deliver(access, &delivery).await?;
        Ok(Sent::Now)
    }

    /// Puts a manifest of type `kind` under a tag or its digest.
    pub async fn publish(&self, reference: &str, kind: &str, manifest: &[u8]) -> Result<()> {
        let access = self.server()?;
        let mut tried = 0;
        loop {
            let sent = async {
                let delivery = Delivery {
                    method: Method::PUT,
                    url: access.url(&format!("manifests/{reference}"))?,
                    kind,
                    content: Content::Bytes(manifest),
                };
                self.client.deliver(access, &delivery).await
            };
            match sent.await {
                Ok(_) => return Ok(()),
                Err(fault) => self.wait(fault, &mut tried).await?,
            }
        }
    }

    fn server(&self) -> Result<&Access> {
        let none = || Error::Internal("an image without a registry".to_owned());
        self.places.iter().find(|place| place.endpoint.role == Role::Server).ok_or_else(none)
    }

    /// Waits before the same is tried again; the error when it is not worth it.
    async fn wait(&self, fault: Fault, tried: &mut u32) -> Result<()> {
        let asked = match fault.cure {
            Cure::Later(asked) => asked,
            Cure::Soon => None,
            Cure::Elsewhere | Cure::Nothing => return Err(fault.error),
        };
        *tried += 1;
        let Some(wait) = self.patience.wait(*tried, asked) else { return Err(fault.error) };
        tracing::debug!(error = %fault.error, ?wait, "trying a registry again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

impl Client {
    /// The answer to content that was sent, its status a good one.
    async fn deliver(&self, access: &Access, delivery: &Delivery<'_>) -> Outcome<Response> {
        let transport = self.transports.get(&access.endpoint.trust).map_err(Fault::local)?;
        let known = self.tokens.known(access);
        let response = deliver(access, &transport, (delivery, known.as_ref()), self.stall).await?;
        if response.status() != StatusCode::UNAUTHORIZED || is_strange(access, &response) {
            return self.judged(access, response).await;
        }
        // A token to read with is none to write with.
        self.tokens.forget(access);
        let header = self.tokens.answer(access, &transport, response.headers()).await?;
        drop(response);
        let response = deliver(access, &transport, (delivery, Some(&header)), self.stall).await?;
        self.judged(access, response).await
    }
}

/// Follows no redirect: content goes where the registry said at the beginning.
async fn deliver(
    access: &Access,
    transport: &Transport,
    (delivery, authorization): (&Delivery<'_>, Option<&HeaderValue>),
    stall: Duration,
) -> Outcome<Response> {
    let endpoint = &access.endpoint;
    let shown = &endpoint.shown;
    let own = delivery.url.origin() == endpoint.base.origin();
    let client = if own {
        transport.own(&endpoint.base)
    } else {
        transport.elsewhere(&endpoint.base, &delivery.url).map_err(|why| {
            let text = format!("registry {shown} wants a blob elsewhere, which is refused: {why}");
            Fault::elsewhere(Error::Invalid(text))
        })?
    };
    let (moved, moving) = watch::channel(0);
    let (body, length) = match &delivery.content {
        Content::Bytes(bytes) => {
            drop(moved);
            (Body::from(bytes.to_vec()), bytes.len() as u64)
        }
        Content::File(path, size, tell) => (read(path, (*tell).clone(), moved).await?, *size),
    };
    let mut sending = client
        .request(delivery.method.clone(), delivery.url.clone())
        .header(ACCEPT, "*/*")
        .header(CONTENT_TYPE, delivery.kind)
        .header(CONTENT_LENGTH, length)
        .body(body);
    if own {
        sending = sending.headers(endpoint.headers.clone());
        if let Some(authorization) = authorization {
            sending = sending.header(AUTHORIZATION, authorization);
        }
    }
    let answer = sending.send();
    tokio::select! {
        answer = answer => answer.map_err(|error| Fault::of_request(shown, &error)),
        () = stands_still(moving, stall) => Err(silent(shown)),
    }
}

/// Ends when nothing has moved for so long, or no answer came for so long after all of it.
async fn stands_still(mut moving: watch::Receiver<u64>, stall: Duration) {
    loop {
        match tokio::time::timeout(stall, moving.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return tokio::time::sleep(stall).await,
            Err(_) => return,
        }
    }
}

/// A file's content, telling what was read of it.
async fn read(path: &Path, tell: Tell, moved: watch::Sender<u64>) -> Outcome<Body> {
    let path: PathBuf = path.to_owned();
    let opened = tokio::fs::File::open(&path).await;
    let file = opened
        .map_err(|error| Fault::local(Error::io(format!("reading {}", path.display()))(error)))?;
    let pieces = stream::try_unfold((file, 0u64), move |(mut file, before)| {
        tell(before);
        moved.send_replace(before);
        async move {
            let mut piece = vec![0; PIECE];
            let count = file.read(&mut piece).await?;
            piece.truncate(count);
            let next = (file, before + count as u64);
            Ok::<_, std::io::Error>((count > 0).then(|| (Bytes::from(piece), next)))
        }
    });
    Ok(Body::wrap_stream(pieces))
}
