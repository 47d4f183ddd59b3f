//! The cache of machine code: `<root>/code/<engine>/<hex>.cwasm`, each beside a record with its
//! SHA-256 and form. The record is written last and removed first: machine code without one is
//! not trusted, and goes at the next opening.

use std::collections::HashMap;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{Shared, WeakShared};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::compiler::{Compiler, Failure};
use crate::image::folders::{Folders, bare, names, remove_tree, replace_file, sync_folder};
use crate::image::kind::Kind;
use crate::image::name::is_digest;
use crate::image::{Code, CodeForm, blobs};
use crate::telemetry::metrics;
use crate::telemetry::metrics::Found;
use crate::telemetry::trace::phase;

type Work = Pin<Box<dyn Future<Output = Result<Code, Failure>> + Send>>;

/// Machine code by the digest of its wasm file.
pub struct CodeCache {
    folders: Arc<Folders>,
    compiler: Compiler,
    /// What this process has checked against its record.
    known: Mutex<HashMap<String, Code>>,
    /// What is being checked or compiled. Weak: work that nobody waits for is dropped, and its
    /// child with it.
    running: Mutex<HashMap<String, WeakShared<Work>>>,
}

/// Whether machine code was there when it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Kept,
    Made,
}

/// What may be wrong with machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeFault {
    Absent,
    Damaged,
}

/// What is remembered of one piece of machine code.
#[derive(Serialize, Deserialize)]
struct Record {
    sha256: String,
    size: u64,
    form: CodeForm,
    footprint: u64,
}

impl CodeCache {
    pub fn new(folders: Arc<Folders>, compiler: Compiler) -> Self {
        let (known, running) = (Mutex::default(), Mutex::default());
        Self { folders, compiler, known, running }
    }

    /// From the cache, else compiled. Calls for one digest share the work.
    pub async fn get(self: &Arc<Self>, digest: &str, file: &Path) -> Result<Code> {
        if !is_digest(digest) {
            return Err(Error::Invalid(format!("{digest:?} is not a digest")));
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        if let Some(code) = known {
            metrics().code(Found::Hit);
            return Ok(code);
        }
        self.share(digest, file).await.map_err(Error::from)
    }

    /// As [`CodeCache::get`], with what is cached read anew and compared with its record.
    pub async fn verify(self: &Arc<Self>, digest: &str, file: &Path) -> Result<(Code, Readiness)> {
        let forget = || {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
            std::fs::metadata(self.places(digest).0).and_then(|found| found.modified()).ok()
        };
        let before = if is_digest(digest) { forget() } else { None };
        let code = self.get(digest, file).await?;
        let after = std::fs::metadata(&code.path).and_then(|found| found.modified()).ok();
        let kept = before.is_some() && before == after;
        Ok((code, if kept { Readiness::Kept } else { Readiness::Made }))
    }

    /// Bytes of the machine code of a wasm file; 0 when there is none.
    pub fn size(&self, digest: &str) -> u64 {
        std::fs::metadata(self.places(digest).0).map_or(0, |found| found.len())
    }

    /// What is wrong with the machine code of a wasm file. Reads all of it.
    pub fn fault(&self, digest: &str) -> Option<CodeFault> {
        let (path, record) = self.places(digest);
        if !path.exists() && !record.exists() {
            return Some(CodeFault::Absent);
        }
        let record = std::fs::read(&record).ok().and_then(|r| serde_json::from_slice(&r).ok());
        let Some(record): Option<Record> = record else { return Some(CodeFault::Damaged) };
        let found = blobs::hash_file(&path).ok();
        (found != Some((record.sha256, record.size))).then_some(CodeFault::Damaged)
    }

    /// Throws away what is cached and compiles anew; joins work that is under way already.
    pub async fn rebuild(self: &Arc<Self>, digest: &str, file: &Path) -> Result<Code> {
        if is_digest(digest) && self.under_way(digest).is_none() {
            self.discard(digest)?;
        }
        self.get(digest, file).await
    }

    /// Removes machine code; succeeds when there is none.
    pub fn discard(&self, digest: &str) -> Result<()> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
        let (code, record) = self.places(digest);
        // The record first: what is left without one is not trusted.
        remove_tree(&record)?;
        sync_folder(&self.folders.code)?;
        remove_tree(&code)
    }

    /// Removes what is incomplete or of none of the wanted digests.
    pub fn keep(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        for name in names(&self.folders.code)? {
            let stem = name.split('.').next().unwrap_or_default();
            let digest = format!("sha256:{stem}");
            let (code, record) = self.places(&digest);
            let whole = code.is_file() && record.is_file();
            if !is_digest(&digest) || !whole || !wanted(&digest) {
                remove_tree(&self.folders.code.join(name))?;
            }
        }
        Ok(())
    }

    /// Code and record.
    pub fn places(&self, digest: &str) -> (PathBuf, PathBuf) {
        let place = |kind: &str| self.folders.code.join(format!("{}.{kind}", bare(digest)));
        (place("cwasm"), place("json"))
    }

    fn under_way(&self, digest: &str) -> Option<Shared<Work>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(digest).and_then(WeakShared::upgrade).filter(|work| work.peek().is_none())
    }

    fn share(self: &Arc<Self>, digest: &str, file: &Path) -> Shared<Work> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = running.get(digest).and_then(WeakShared::upgrade);
        if let Some(work) = under_way.filter(|work| work.peek().is_none()) {
            return work;
        }
        running.retain(|_, work| work.upgrade().is_some());
        let (cache, digest, file) = (self.clone(), digest.to_owned(), file.to_path_buf());
        let key = digest.clone();
        let work: Work = Box::pin(async move { cache.make(&digest, &file).await });
        let work = work.shared();
        if let Some(weak) = work.downgrade() {
            running.insert(key, weak);
        }
        work
    }

    async fn make(self: Arc<Self>, digest: &str, file: &Path) -> Result<Code, Failure> {
        let (cache, wanted) = (self.clone(), digest.to_owned());
        let code = match blocking(move || cache.check(&wanted)).await? {
            Some(code) => {
                metrics().code(Found::Hit);
                code
            }
            None => {
                metrics().code(Found::Miss);
                let temporary =
                    self.folders.temporary().map_err(|e| Failure::Other(e.to_string()))?;
                let kind = Kind::of_file(file).map_err(|e| Failure::Other(e.to_string()))?;
                let form = kind
                    .wasm(&file.display().to_string())
                    .map_err(|e| Failure::Input(e.to_string()))?;
                let begun = Instant::now();
                let compiled = self.compiler.compile(digest, file, &temporary.path);
                let compiled = phase("compile", &[("wasm.digest", digest)], compiled).await;
                metrics().compile(&compiled, begun.elapsed());
                let footprint = compiled?;
                let (cache, wanted) = (self.clone(), digest.to_owned());
                blocking(move || cache.publish(&wanted, (form, footprint), temporary)).await?
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(digest.to_owned(), code.clone());
        Ok(code)
    }

    /// What is cached, when it is what its record says.
    fn check(&self, digest: &str) -> Result<Option<Code>> {
        let (path, record) = self.places(digest);
        let record = std::fs::read(&record).ok().and_then(|r| serde_json::from_slice(&r).ok());
        let Some(record): Option<Record> = record else { return Ok(None) };
        let whole = std::fs::metadata(&path).is_ok_and(|found| found.len() == record.size)
            && blobs::hash_file(&path).is_ok_and(|(sha256, _)| sha256 == record.sha256);
        if !whole {
            tracing::warn!(module = digest, "cached machine code is damaged: it is made anew");
            self.discard(digest)?;
            return Ok(None);
        }
        let Record { sha256, form, footprint, .. } = record;
        Ok(Some(Code { path, sha256, module: digest.to_owned(), form, footprint }))
    }

    fn publish(
        &self,
        digest: &str,
        (form, footprint): (CodeForm, u64),
        made: crate::image::folders::Temporary,
    ) -> Result<Code> {
        let (path, record) = self.places(digest);
        let (sha256, size) = blobs::hash_file(&made.path)?;
        std::fs::set_permissions(&made.path, std::fs::Permissions::from_mode(0o400))
            .map_err(Error::io(format!("protecting {}", made.path.display())))?;
        // A record of what was here before must not vouch for the new file.
        remove_tree(&record)?;
        made.publish(&path)?;
        let written = Record { sha256: sha256.clone(), size, form, footprint };
        let written = serde_json::to_vec(&written)
            .map_err(|error| Error::Internal(format!("writing {}: {error}", record.display())))?;
        replace_file(&self.folders, &record, &written)?;
        Ok(Code { path, sha256, module: digest.to_owned(), form, footprint })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| Failure::Other(error.to_string())),
        Err(error) => Err(Failure::Other(format!("working on machine code: {error}"))),
    }
}
