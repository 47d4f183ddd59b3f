//! Makes an image's layers anew from its blobs: of a store that another version wrote, or of one
//! whose layers somebody removed.

use crate::error::{Error, Result};
use crate::image::admit::{self, Admission};
use crate::image::blobs::{self, MAX_JSON};
use crate::image::folders::Folders;
use crate::image::index::Record;
use crate::image::plan::{self, Plan};
use crate::image::progress;

/// The record of the same image with layers that are there. `Error::Invalid` says which of its
/// parts is not.
pub fn remake(record: Record, folders: &Folders) -> Result<Record> {
    let plan = plan(&record, folders)?;
    if let Some(gone) = plan.layers.iter().find(|layer| !folders.blob(&layer.blob.digest).is_file())
    {
        return Err(Error::Invalid(format!("blob {} is missing", gone.blob.digest)));
    }
    let admission = Admission {
        tags: record.tags.clone(),
        digests: record.digests.clone(),
        origin: record.origin,
        subject: record.id.clone(),
        progress: progress::silent(),
    };
    let mut made = admit::prepare(&plan, &admission, folders)?.record;
    made.by_hand = record.by_hand;
    made.blobs.extend(record.blobs);
    Ok(made)
}

/// What an image consists of, read anew from the blobs of its manifest.
pub fn plan(record: &Record, folders: &Folders) -> Result<Plan> {
    let mut fault = Error::Invalid("it has no manifest".to_owned());
    let named = record.digests.iter().filter_map(|name| Some(name.split_once('@')?.1));
    for digest in record.manifest.as_deref().into_iter().chain(named) {
        let read = || {
            let bytes = read(digest, folders)?;
            let manifest = blobs::Blob { digest: digest.to_owned(), size: bytes.len() as u64 };
            plan::read(manifest, &bytes, &read(&record.id, folders)?)
        };
        match read() {
            Ok(plan) => return Ok(plan),
            Err(error) => fault = error,
        }
    }
    Err(fault)
}

/// A manifest or configuration, checked.
pub fn read(digest: &str, folders: &Folders) -> Result<Vec<u8>> {
    let path = folders.blob(digest);
    let bytes = match std::fs::metadata(&path) {
        Ok(found) if found.len() > MAX_JSON => None,
        Ok(_) => Some(std::fs::read(&path).map_err(Error::io(format!("reading blob {digest}")))?),
        Err(_) => return Err(Error::Invalid(format!("blob {digest} is missing"))),
    };
    bytes
        .filter(|bytes| blobs::digest_of(bytes) == digest)
        .ok_or_else(|| Error::Invalid(format!("blob {digest} is damaged")))
}
