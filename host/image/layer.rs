//! Reads a layer's tar stream entry by entry, within limits that a hostile archive cannot
//! talk us out of: long names and PAX headers are read here, because the tar library keeps
//! them in memory whatever they claim to be. Knows nothing of where entries go.

use std::cell::Cell;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use tar::{Archive, EntryType};

use crate::error::{Error, Result};

/// Bytes of one long name or PAX header.
const MAX_EXTENSION: u64 = 1 << 20;
/// Parts of a path, as the kernel's 4,096 bytes allow for sane names.
const MAX_DEPTH: usize = 128;

/// What an image's layers may bring together; what one brings is taken off.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the decompressed archives.
    pub bytes: u64,
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 8 << 30, entries: 500_000 }
    }
}

/// A layer that unpacks to more than this many times its size is a bomb...
const MAX_RATIO: u64 = 200;
/// ...unless it is small: bytes that every layer may unpack to.
const FREE: u64 = 64 << 20;

/// One file, folder or link of a layer.
pub struct Item {
    /// Relative, of normal components only; empty for the root itself.
    pub path: PathBuf,
    pub body: Body,
    /// Permission bits; set-id bits are dropped, since nothing in an image runs on the host.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the Unix epoch.
    pub mtime: i64,
}

pub enum Body {
    Folder,
    /// Of that many bytes.
    File(u64),
    /// With its text as it is.
    Symlink(PathBuf),
    /// To a path as [`Item::path`].
    HardLink(PathBuf),
}

/// Calls `each` for every entry, in order. The reader it is given ends with the entry. Errors
/// begin with the entry's name; the caller adds the layer's.
pub fn each_item(
    reader: impl Read,
    limits: &mut Limits,
    mut each: impl FnMut(Item, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let Limits { bytes, entries } = limits;
    let most = Limits { bytes: *bytes, entries: *entries };
    let mut archive = Archive::new(Bounded { reader, left: bytes, most: most.bytes });
    let mut next = Extensions::default();
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        let Some(left) = entries.checked_sub(1) else {
            return Err(Error::Invalid(format!(
                "it has more than {} entries, which is all that its image may still have",
                most.entries
            )));
        };
        *entries = left;
        match entry.header().entry_type() {
            EntryType::GNULongName => next.path = Some(text(&mut entry)?),
            EntryType::GNULongLink => next.link = Some(text(&mut entry)?),
            EntryType::XHeader => next.read_pax(&extension(&mut entry)?)?,
            EntryType::XGlobalHeader => {}
            _ => {
                let extensions = std::mem::take(&mut next);
                let item = item(&entry, extensions)?;
                each(item, &mut entry)?;
            }
        }
    }
    Ok(())
}

/// What headers before an entry say about it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<i64>,
}

impl Extensions {
    fn read_pax(&mut self, bytes: &[u8]) -> Result<()> {
        for record in tar::PaxExtensions::new(bytes) {
            let record = record.map_err(unreadable)?;
            let value = record.value_bytes();
            let number = || std::str::from_utf8(value).ok().and_then(|v| v.parse::<f64>().ok());
            match record.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = number().map(|v| v as u64),
                b"uid" => self.uid = number().map(|v| v as u32),
                b"gid" => self.gid = number().map(|v| v as u32),
                b"mtime" => self.mtime = number().map(|v| v as i64),
                key if key.starts_with(b"GNU.sparse.") => return Err(sparse()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn item<R: Read>(entry: &tar::Entry<'_, R>, extensions: Extensions) -> Result<Item> {
    let header = entry.header();
    let raw = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let shown = String::from_utf8_lossy(&raw).escape_debug().to_string();
    let refuse = |why: &str| Err(Error::Invalid(format!("entry {shown} {why}")));
    let path = match inside(&raw) {
        Ok(path) => path,
        Err(why) => return refuse(why),
    };
    let size = entry.size();
    if extensions.size.is_some_and(|pax| pax != size) {
        return refuse("has two sizes");
    }
    let link = || {
        extensions
            .link
            .or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
            .unwrap_or_default()
    };
    let body = match header.entry_type() {
        EntryType::Directory => Body::Folder,
        EntryType::Regular | EntryType::Continuous => Body::File(size),
        EntryType::Symlink => {
            let target = link();
            if target.is_empty() || target.contains(&0) {
                return refuse("is a symbolic link to nowhere");
            }
            Body::Symlink(to_path(&target))
        }
        EntryType::Link => {
            let target = link();
            match inside(&target) {
                Ok(target) => Body::HardLink(target),
                Err(_) => {
                    let target = String::from_utf8_lossy(&target).escape_debug().to_string();
                    return refuse(&format!(
                        "is a hard link to {target}, outside the image's root"
                    ));
                }
            }
        }
        EntryType::Block | EntryType::Char => {
            return refuse("is a device node; images with devices are refused");
        }
        EntryType::Fifo => return refuse("is a FIFO; images with FIFOs are refused"),
        EntryType::GNUSparse => return Err(sparse()),
        other => {
            return refuse(&format!("is of an unknown type ({:?})", char::from(other.as_byte())));
        }
    };
    let number = |value: std::io::Result<u64>| value.ok().and_then(|v| u32::try_from(v).ok());
    Ok(Item {
        path,
        body,
        mode: header.mode().unwrap_or(0o644) & 0o1777,
        uid: extensions.uid.or(number(header.uid())).unwrap_or(0),
        gid: extensions.gid.or(number(header.gid())).unwrap_or(0),
        mtime: extensions.mtime.or(header.mtime().ok().map(|m| m as i64)).unwrap_or(0),
    })
}

/// A path below the root, or the reason why it is none.
fn inside(raw: &[u8]) -> Result<PathBuf, &'static str> {
    if raw.is_empty() {
        return Err("has no name");
    }
    if raw.contains(&0) {
        return Err("has a zero byte in its name");
    }
    let mut path = PathBuf::new();
    for component in to_path(raw).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => {
                return Err("has an absolute path, outside the image's root");
            }
            Component::ParentDir => return Err("leads outside the image's root"),
        }
    }
    if path.components().count() > MAX_DEPTH {
        return Err("lies more than 128 folders deep");
    }
    Ok(path)
}

fn to_path(raw: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(raw)).to_path_buf()
}

fn extension(entry: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(MAX_EXTENSION + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_EXTENSION {
        return Err(Error::Invalid("an entry's name is longer than 1 MiB".to_owned()));
    }
    Ok(bytes)
}

/// A long name, which ends with a zero byte.
fn text(entry: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = extension(entry)?;
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    Ok(bytes)
}

fn sparse() -> Error {
    Error::Invalid("it has sparse files, which images do not use".to_owned())
}

/// Whose fault it is that an archive cannot be read: what our own readers refuse, the disk's,
/// else the archive's.
fn unreadable(error: std::io::Error) -> Error {
    match refusal(&error) {
        Some(sentence) => Error::Invalid(sentence),
        None if error.raw_os_error().is_some() => Error::io("reading a layer")(error),
        None => Error::Invalid(format!("it is not a whole tar archive: {error}")),
    }
}

/// Copies an entry's bytes. A fault of the archive and one of the disk that is written to
/// (`doing`) are told apart.
pub fn copy(
    reader: &mut impl Read,
    writer: &mut impl Write,
    doing: &dyn Fn() -> String,
) -> Result<u64> {
    let mut buffer = vec![0u8; 128 << 10];
    let mut copied = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        let chunk = buffer.get(..count).unwrap_or_default();
        writer.write_all(chunk).map_err(Error::io(doing()))?;
        copied += count as u64;
    }
}

/// A sentence of one of our own readers, carried through the libraries between.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn refuse(sentence: String) -> std::io::Error {
    std::io::Error::other(Refusal(sentence))
}

/// The tar library wraps errors in its own.
fn refusal(error: &std::io::Error) -> Option<String> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|e| e as _);
    while let Some(error) = next {
        if let Some(Refusal(sentence)) = error.downcast_ref() {
            return Some(sentence.clone());
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        next = inner.map(|e| e as _).or_else(|| error.source());
    }
    None
}

/// Ends a decompression bomb by its sheer size.
struct Bounded<'a, R> {
    reader: R,
    left: &'a mut u64,
    most: u64,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        *self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            refuse(format!(
                "it unpacks to more than {} bytes, which is all that its image may still have",
                self.most
            ))
        })?;
        Ok(count)
    }
}

/// Counts what is read of a compressed layer.
pub struct Counted<R> {
    reader: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Counted<R> {
    /// And its counter.
    pub fn new(reader: R) -> (Self, Rc<Cell<u64>>) {
        let count = Rc::new(Cell::new(0));
        (Self { reader, count: count.clone() }, count)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// Ends a decompression bomb by how much comes of how little.
pub struct Proportionate<R> {
    pub reader: R,
    /// Bytes that went in.
    pub compressed: Rc<Cell<u64>>,
    /// Bytes that came out.
    pub plain: u64,
}

impl<R: Read> Read for Proportionate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.plain += count as u64;
        if self.plain > FREE && self.plain / MAX_RATIO > self.compressed.get() {
            return Err(refuse(format!(
                "it unpacks to more than {MAX_RATIO} times its size, as a decompression bomb does"
            )));
        }
        Ok(count)
    }
}
