//! One blob from a registry into the store: streamed, hashed and written as it comes, taken up
//! where it broke off, never longer than its descriptor says. Memory holds a few pieces of it.

use std::any::Any;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::client::{Access, Request};
use super::fault::{Cure, Fault, Outcome};
use super::pace::{Pace, within};
use super::session::{Session, Turn, missing};
use crate::error::{Error, Result};
use crate::image::blobs::{self, Blob, Expected, MAX_BLOB};
use crate::image::folders::Folders;
use crate::telemetry::metrics;

/// Pieces on their way to the disk: some MiB at the most.
const PIECES: usize = 4;
/// How often one blob is taken up again in all, however much came each time.
const MAX_RESUMES: u32 = 100;

/// Where a blob goes.
#[derive(Clone)]
pub struct Target {
    pub folders: Arc<Folders>,
    /// Keeps the store from collecting what is being written.
    pub hold: Arc<dyn Any + Send + Sync>,
    /// A connection that brings little for so long is broken.
    pub stall: Duration,
}

/// Fetches a blob unless it is there. Durable and checked when it returns.
pub async fn download(
    session: &Session,
    blob: &Blob,
    target: &Target,
    told: &watch::Sender<u64>,
) -> Result<()> {
    if let Ok(found) = std::fs::metadata(target.folders.blob(&blob.digest)) {
        if found.len() != blob.size {
            return Err(Error::Invalid(format!(
                "its blob {} has {} bytes, not the {} that the manifest says",
                blob.digest,
                found.len(),
                blob.size
            )));
        }
        told.send_replace(blob.size);
        return Ok(());
    }
    if blob.size > MAX_BLOB {
        let (digest, size) = (&blob.digest, blob.size);
        return Err(Error::Invalid(format!(
            "its blob {digest} has {size} bytes, more than {MAX_BLOB}"
        )));
    }
    let mut turn = Turn::new(session);
    let mut arriving = Arriving::begin(blob, target);
    let mut resumes = 0;
    loop {
        let (place, before) = (turn.place(), arriving.received);
        let fault = match arriving.more(session, turn.access()?, told).await {
            Ok(()) => match arriving.finish().await {
                Ok(()) => {
                    turn.good();
                    return Ok(());
                }
                Err(error) => {
                    arriving = Arriving::begin(blob, target);
                    wrong_content(error, resumes)
                }
            },
            Err(fault) => fault,
        };
        if arriving.received > before && resumes < MAX_RESUMES {
            turn.advanced();
        }
        resumes += 1;
        turn.failed(fault).await?;
        // Another place begins anew: nothing vouches for what the one before sent.
        if turn.place() != place && arriving.received > 0 {
            arriving = Arriving::begin(blob, target);
        }
        told.send_replace(arriving.received);
    }
}

/// Of a blob that came whole. What was pieced together gets another try at the same place.
fn wrong_content(error: Error, resumes: u32) -> Fault {
    match error {
        Error::Invalid(_) if resumes > 0 => Fault { error, cure: Cure::Later(None) },
        Error::Invalid(_) => Fault::elsewhere(error),
        _ => Fault::local(error),
    }
}

/// A blob that is on its way to the disk.
struct Arriving<'a> {
    blob: &'a Blob,
    stall: Duration,
    received: u64,
    pieces: mpsc::Sender<Option<Bytes>>,
    writer: JoinHandle<Result<()>>,
}

impl<'a> Arriving<'a> {
    fn begin(blob: &'a Blob, target: &Target) -> Self {
        let (pieces, arriving) = mpsc::channel(PIECES);
        let (folders, hold, wanted) = (target.folders.clone(), target.hold.clone(), blob.clone());
        let writer = tokio::task::spawn_blocking(move || {
            let _hold = hold;
            let reader = Pieces { arriving, current: Bytes::new() };
            let expected = Expected { digest: Some(&wanted.digest), size: Some(wanted.size) };
            blobs::take(&folders, reader, &expected).map(drop)
        });
        Self { blob, stall: target.stall, received: 0, pieces, writer }
    }

    /// Asks for what is missing, and passes on what comes.
    async fn more(
        &mut self,
        session: &Session,
        access: &Access,
        told: &watch::Sender<u64>,
    ) -> Outcome<()> {
        let path = format!("blobs/{}", self.blob.digest);
        let place = &access.endpoint.shown;
        let request =
            Request { method: Method::GET, path: &path, accept: "*/*", from: self.received };
        let response = session.client.send(access, &request).await;
        let mut response = response.map_err(|fault| missing(fault, self.blob, place))?;
        let mut skip = self.offset(&response, place)?;
        let mut pace = Pace::new(self.stall);
        loop {
            let chunk = within(self.stall, place, response.chunk()).await?;
            let Some(mut chunk) = chunk else { break };
            pace.keep(chunk.len(), place)?;
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            chunk.advance(known);
            skip -= known as u64;
            if chunk.is_empty() {
                continue;
            }
            self.received += chunk.len() as u64;
            metrics().pulled(chunk.len() as u64);
            if self.received > self.blob.size {
                return Err(self.too_long(place));
            }
            told.send_replace(self.received);
            if self.pieces.send(Some(chunk)).await.is_err() {
                // It ended because of the disk, and says so.
                return Ok(());
            }
        }
        if self.received < self.blob.size { Err(self.truncated(place)) } else { Ok(()) }
    }

    /// How much of the answer is known already.
    fn offset(&self, response: &Response, place: &str) -> Outcome<u64> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(CONTENT_RANGE);
                let text = range.and_then(|range| range.to_str().ok()).unwrap_or_default();
                let start = text.strip_prefix("bytes ").and_then(|range| range.split('-').next());
                if start.and_then(|start| start.parse().ok()) == Some(self.received) {
                    return Ok(0);
                }
                Err(Fault::elsewhere(Error::Invalid(format!(
                    "registry {place} sends {text:.80?} of blob {} when asked for what follows byte \
                     {}",
                    self.blob.digest, self.received
                ))))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let fault = self.truncated(place);
                Err(Fault { cure: Cure::Elsewhere, ..fault })
            }
            // The range was not understood: all of it comes again.
            _ => match response.content_length() {
                Some(length) if length > self.blob.size => Err(self.too_long(place)),
                _ => Ok(self.received),
            },
        }
    }

    fn truncated(&self, place: &str) -> Fault {
        let error = Error::Invalid(format!(
            "its blob {} from registry {place} is truncated: {} of {} bytes came",
            self.blob.digest, self.received, self.blob.size
        ));
        Fault { error, cure: Cure::Later(None) }
    }

    fn too_long(&self, place: &str) -> Fault {
        let (digest, size) = (&self.blob.digest, self.blob.size);
        Fault::elsewhere(Error::Invalid(format!(
            "its blob {digest} from registry {place} is longer than the {size} bytes that the \
             manifest says"
        )))
    }

    /// Waits until it is durable. Call once, after all of it came.
    async fn finish(&mut self) -> Result<()> {
        // A writer that is gone says why.
        let _ = self.pieces.send(None).await;
        (&mut self.writer)
            .await
            .map_err(|error| Error::Internal(format!("writing a blob: {error}")))?
            .map_err(|error| match error {
                Error::Invalid(fault) => Error::Invalid(format!("its {fault}")),
                other => other,
            })
    }
}

/// What arrives, for the thread that hashes and writes.
struct Pieces {
    arriving: mpsc::Receiver<Option<Bytes>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.current.is_empty() {
            match self.arriving.blocking_recv() {
                Some(Some(piece)) => self.current = piece,
                Some(None) => return Ok(0),
                None => return Err(std::io::Error::other("the download was given up")),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
