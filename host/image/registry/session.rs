//! One image at its registry and its mirrors: asks them in turn, with patience, until one
//! answers. Every answer is checked against what was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;

use super::client::{Access, Client, Request};
use super::document::{ACCEPT, Document};
use super::fault::{Cure, Fault, Outcome};
use super::patience::Patience;
use crate::error::{Error, Result};
use crate::image::blobs::{self, Blob, MAX_JSON};
use crate::image::name::is_digest;

/// Retries of a place that cannot be reached.
const SOON: u32 = 2;
/// Retries of a place that others can stand in for.
const REPLACEABLE: u32 = 1;

/// The places of one image.
#[derive(Debug)]
pub struct Session {
    pub(super) client: Arc<Client>,
    pub(super) places: Vec<Access>,
    pub(super) patience: Patience,
    /// The place that answered last: the next question goes there first.
    good: AtomicUsize,
}

impl Session {
    pub fn new(client: Arc<Client>, places: Vec<Access>, patience: Patience) -> Self {
        Self { client, places, patience, good: AtomicUsize::new(0) }
    }

    /// The digest that a tag or digest has there now, without its content; `None` when the
    /// registry does not say.
    pub async fn digest(&self, reference: &str) -> Result<Option<String>> {
        let mut turn = Turn::new(self);
        loop {
            let outcome = self.head(turn.access()?, reference).await;
            if let Some(digest) = turn.settle(outcome).await? {
                return Ok(digest);
            }
        }
    }

    async fn head(&self, access: &Access, reference: &str) -> Outcome<Option<String>> {
        let path = format!("manifests/{reference}");
        let request = Request { method: Method::HEAD, path: &path, accept: ACCEPT, from: 0 };
        let response = self.client.send(access, &request).await?;
        let digest = response.headers().get("docker-content-digest");
        let digest = digest.and_then(|digest| digest.to_str().ok()).map(str::to_owned);
        Ok(digest.filter(|digest| is_digest(digest)))
    }

    /// A manifest or an index, by tag or digest.
    pub async fn document(&self, reference: &str) -> Result<Document> {
        self.read(&format!("manifests/{reference}"), reference).await
    }

    /// The index of what refers to a manifest, by its digest (distribution's referrers).
    pub async fn referring(&self, digest: &str) -> Result<Document> {
        self.read(&format!("referrers/{digest}"), "").await
    }

    /// `reference` is the digest that the document has to have, where it is one.
    async fn read(&self, path: &str, reference: &str) -> Result<Document> {
        let mut turn = Turn::new(self);
        loop {
            let outcome = self.get(turn.access()?, path, reference).await;
            if let Some(document) = turn.settle(outcome).await? {
                return Ok(document);
            }
        }
    }

    async fn get(&self, access: &Access, path: &str, reference: &str) -> Outcome<Document> {
        let request = Request { method: Method::GET, path, accept: ACCEPT, from: 0 };
        let response = self.client.send(access, &request).await?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (kind, promised) = (header("content-type"), header("docker-content-digest"));
        let place = &access.endpoint.shown;
        let bytes = self.client.body(response, MAX_JSON, place).await?;
        let wrong = |why: String| {
            Fault::elsewhere(Error::Invalid(format!("its manifest from registry {place} {why}")))
        };
        let found = blobs::digest_of(&bytes);
        let wanted = if is_digest(reference) { Some(reference) } else { promised.as_deref() };
        // Only what we can compute is compared; a registry may promise by another algorithm.
        if let Some(wanted) = wanted.filter(|wanted| is_digest(wanted) && **wanted != *found) {
            return Err(wrong(format!("is not what was asked for: {found} instead of {wanted}")));
        }
        Document::read(bytes, found, kind.as_deref()).map_err(wrong)
    }

    /// A configuration: small, so it comes whole.
    pub async fn small(&self, blob: &Blob) -> Result<Vec<u8>> {
        if blob.size > MAX_JSON {
            return Err(Error::Invalid(format!(
                "its configuration {} has {} bytes, more than {MAX_JSON}",
                blob.digest, blob.size
            )));
        }
        let mut turn = Turn::new(self);
        loop {
            let outcome = self.small_from(turn.access()?, blob).await;
            if let Some(bytes) = turn.settle(outcome).await? {
                return Ok(bytes);
            }
        }
    }

    async fn small_from(&self, access: &Access, blob: &Blob) -> Outcome<Vec<u8>> {
        let path = format!("blobs/{}", blob.digest);
        let request = Request { method: Method::GET, path: &path, accept: "*/*", from: 0 };
        let place = &access.endpoint.shown;
        let response = self
            .client
            .send(access, &request)
            .await
            .map_err(|fault| missing(fault, blob, place))?;
        let bytes = self.client.body(response, MAX_JSON, place).await?;
        let (found, size) = (blobs::digest_of(&bytes), bytes.len());
        if found != blob.digest || size as u64 != blob.size {
            return Err(Fault::elsewhere(Error::Invalid(format!(
                "its configuration {} from registry {place} is damaged: {size} bytes with the \
                 digest {found} came",
                blob.digest
            ))));
        }
        Ok(bytes)
    }
}

/// A part that a registry lacks is no image that is not found.
pub fn missing(fault: Fault, blob: &Blob, place: &str) -> Fault {
    match fault.error {
        Error::NotInRegistry { .. } => Fault::elsewhere(Error::Invalid(format!(
            "registry {place} has its manifest, but not its blob {}",
            blob.digest
        ))),
        _ => fault,
    }
}

/// Who is asked next: the same place after a wait, another place, or nobody.
pub struct Turn<'a> {
    session: &'a Session,
    /// Where it began.
    first: usize,
    /// Places that were given up.
    passed: usize,
    tried: u32,
}

impl<'a> Turn<'a> {
    pub fn new(session: &'a Session) -> Self {
        let first = session.good.load(Ordering::Relaxed);
        Self { session, first, passed: 0, tried: 0 }
    }

    /// The place's number.
    pub fn place(&self) -> usize {
        (self.first + self.passed) % self.session.places.len().max(1)
    }

    pub fn access(&self) -> Result<&'a Access> {
        let none = || Error::Internal("an image without a registry".to_owned());
        self.session.places.get(self.place()).ok_or_else(none)
    }

    pub fn good(&self) {
        self.session.good.store(self.place(), Ordering::Relaxed);
    }

    /// What came, or `None` when it is to be asked again: here, or at the next place.
    async fn settle<T>(&mut self, outcome: Outcome<T>) -> Result<Option<T>> {
        match outcome {
            Ok(answer) => {
                self.good();
                Ok(Some(answer))
            }
            Err(fault) => self.failed(fault).await.map(|()| None),
        }
    }

    /// Something came after all: the patience begins anew.
    pub fn advanced(&mut self) {
        self.tried = 0;
    }

    /// Waits, or goes on to the next place; the error when there is none.
    pub async fn failed(&mut self, fault: Fault) -> Result<()> {
        let is_last = self.passed + 1 >= self.session.places.len();
        if fault.cure == Cure::Nothing {
            return Err(fault.error);
        }
        let (asked, retries) = match fault.cure {
            Cure::Later(asked) => (asked, u32::MAX),
            Cure::Soon => (None, SOON),
            Cure::Elsewhere | Cure::Nothing => (None, 0),
        };
        if retries > 0 {
            let retries = if is_last { retries } else { REPLACEABLE };
            self.tried += 1;
            let patience = self.session.patience.at_most(retries);
            if let Some(wait) = patience.wait(self.tried, asked) {
                tracing::debug!(error = %fault.error, ?wait, "trying a registry again");
                tokio::time::sleep(wait).await;
                return Ok(());
            }
        }
        if is_last {
            return Err(fault.error);
        }
        tracing::debug!(error = %fault.error, "trying the next registry");
        self.passed += 1;
        self.tried = 0;
        Ok(())
    }
}
