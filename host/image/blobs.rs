//! The content-addressed part of the store: takes bytes in, checks them against their digest
//! and publishes them under it. A blob that is there is complete and was checked.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::image::folders::Folders;

/// Manifests, indexes and configurations, in bytes.
pub const MAX_JSON: u64 = 4 << 20;
/// Any one blob, in bytes.
pub const MAX_BLOB: u64 = 8 << 30;

/// What was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// "sha256:...".
    pub digest: String,
    pub size: u64,
}

/// What a blob's reader promised.
pub struct Expected<'a> {
    /// "sha256:...", or `None` to take what comes.
    pub digest: Option<&'a str>,
    /// Bytes.
    pub size: Option<u64>,
}

/// Copies `reader` into the store and checks it. Durable when it returns. The error, one
/// clause, names the blob by its digest; the caller names the file it came from.
pub fn take(folders: &Folders, mut reader: impl Read, expected: &Expected<'_>) -> Result<Blob> {
    let temporary = folders.temporary()?;
    let mut file = temporary.create(0o444)?;
    let name = expected.digest.unwrap_or("new");
    let limit = expected.size.unwrap_or(MAX_BLOB).min(MAX_BLOB);
    let copied = copy_hashed(&mut reader, &mut file, limit).map_err(|fault| match fault {
        Fault::Read(error) => Error::io(format!("reading blob {name}"))(error),
        Fault::Write(error) => Error::io(format!("storing blob {name}"))(error),
    })?;
    let Some((digest, size)) = copied else {
        return Err(Error::Invalid(format!("blob {name} is longer than {limit} bytes")));
    };
    if let Some(wanted) = expected.size.filter(|wanted| *wanted != size) {
        return Err(Error::Invalid(format!(
            "blob {name} is truncated: {size} of {wanted} bytes are there"
        )));
    }
    if let Some(wanted) = expected.digest.filter(|wanted| *wanted != digest) {
        return Err(Error::Invalid(format!(
            "blob {wanted} is damaged: its content has the digest {digest}"
        )));
    }
    file.sync_all().map_err(Error::io(format!("writing blob {digest}")))?;
    temporary.publish(&folders.blob(&digest))?;
    Ok(Blob { digest, size })
}

/// Takes bytes at hand in.
pub fn put(folders: &Folders, bytes: &[u8]) -> Result<Blob> {
    take(folders, bytes, &Expected { digest: None, size: None })
}

/// "sha256:..." of bytes at hand.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Lower-case hex SHA-256 of a file, and its size in bytes.
pub fn hash_file(path: &PathBuf) -> Result<(String, u64)> {
    let doing = || format!("reading {}", path.display());
    let mut file = File::open(path).map_err(Error::io(doing()))?;
    let hashed = copy_hashed(&mut file, &mut std::io::sink(), u64::MAX)
        .map_err(|(Fault::Read(error) | Fault::Write(error))| Error::io(doing())(error))?;
    let (digest, size) = hashed.unwrap_or_default();
    Ok((digest.trim_start_matches("sha256:").to_owned(), size))
}

/// Which side of a copy failed.
enum Fault {
    Read(std::io::Error),
    Write(std::io::Error),
}

/// `None` when there is more than `limit`; else digest and size.
fn copy_hashed(
    reader: &mut impl Read,
    writer: &mut impl Write,
    limit: u64,
) -> std::result::Result<Option<(String, u64)>, Fault> {
    let mut hash = Sha256::new();
    let mut size = 0u64;
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Fault::Read(error)),
        };
        size += count as u64;
        if size > limit {
            return Ok(None);
        }
        let chunk = buffer.get(..count).unwrap_or_default();
        hash.update(chunk);
        writer.write_all(chunk).map_err(Fault::Write)?;
    }
    Ok(Some((format!("sha256:{}", hex::encode(hash.finalize())), size)))
}
