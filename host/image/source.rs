//! Where an image is read from: a folder, or a tar archive that stays as it is and is read at
//! the offsets of its members. Knows paths and bytes, nothing of images.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

use crate::error::{Error, Result};
use crate::image::blobs::{MAX_BLOB, MAX_JSON};
use crate::image::folders::Folders;
use crate::image::kind::Kind;

/// Members of one archive: a layout holds a few blobs for each image.
const MAX_MEMBERS: usize = 65_536;

pub struct Source {
    /// What the user called it, for messages.
    pub shown: String,
    place: Place,
}

enum Place {
    Folder(Dir),
    Archive { file: File, members: BTreeMap<String, Member> },
}

#[derive(Clone, Copy)]
struct Member {
    offset: u64,
    size: u64,
}

impl Source {
    pub fn folder(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let dir = Dir::open_ambient_dir(path, ambient_authority())
            .map_err(Error::io(format!("opening {shown}")))?;
        Ok(Self { shown, place: Place::Folder(dir) })
    }

    /// Reads the archive's table of contents. A compressed archive is unpacked to a file
    /// first.
    pub fn archive(path: &Path, kind: &Kind, folders: &Folders) -> Result<Self> {
        let shown = path.display().to_string();
        let doing = || format!("reading {shown}");
        let mut file = File::open(path).map_err(Error::io(doing()))?;
        match kind {
            Kind::Gzip => file = plain(flate2::read::MultiGzDecoder::new(file), &shown, folders)?,
            Kind::Zstd => {
                let decoder = zstd::Decoder::new(file).map_err(Error::io(doing()))?;
                file = plain(decoder, &shown, folders)?;
            }
            _ => {}
        }
        let members = contents(&mut file, &shown)?;
        Ok(Self { shown, place: Place::Archive { file, members } })
    }

    /// A file's reader and its size; `None` when there is none of that path.
    pub fn open(&self, path: &str) -> Result<Option<(Box<dyn Read + '_>, u64)>> {
        let doing = || format!("reading {} in {}", path, self.shown);
        match &self.place {
            Place::Folder(dir) => {
                // Not blocking: a FIFO in a layout must not hold us up.
                let mut options = OpenOptions::new();
                options.read(true).custom_flags(libc::O_NONBLOCK);
                let file = match dir.open_with(path, &options) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    other => other.map_err(Error::io(doing()))?,
                };
                let found = file.metadata().map_err(Error::io(doing()))?;
                if !found.is_file() {
                    return Err(Error::Invalid(format!("{path} in {} is not a file", self.shown)));
                }
                Ok(Some((Box::new(file), found.len())))
            }
            Place::Archive { file, members } => {
                let Some(member) = members.get(path) else { return Ok(None) };
                let part = Part { file, offset: member.offset };
                Ok(Some((Box::new(part.take(member.size)), member.size)))
            }
        }
    }

    /// A whole small file; `None` when there is none of that path.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some((reader, size)) = self.open(path)? else { return Ok(None) };
        if size > MAX_JSON {
            return Err(Error::Invalid(format!(
                "{}: {path} has {size} bytes; at most {MAX_JSON} are read",
                self.shown
            )));
        }
        let mut bytes = Vec::new();
        reader
            .take(MAX_JSON)
            .read_to_end(&mut bytes)
            .map_err(Error::io(format!("reading {path} in {}", self.shown)))?;
        Ok(Some(bytes))
    }
}

/// Reads an archive from an offset on, leaving the file's own position alone.
struct Part<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Decompresses into a file without a name.
fn plain(reader: impl Read, shown: &str, folders: &Folders) -> Result<File> {
    let temporary = folders.temporary()?;
    let mut file = temporary.create(0o600)?;
    let count = std::io::copy(&mut reader.take(MAX_BLOB + 1), &mut file)
        .map_err(|error| Error::Invalid(format!("{shown} cannot be decompressed: {error}")))?;
    if count > MAX_BLOB {
        return Err(Error::Invalid(format!("{shown} unpacks to more than {} GiB", MAX_BLOB >> 30)));
    }
    Ok(file)
}

fn contents(file: &mut File, shown: &str) -> Result<BTreeMap<String, Member>> {
    let bad = |error: std::io::Error| {
        Error::Invalid(format!("{shown} is not a whole tar archive: {error}"))
    };
    file.rewind().map_err(Error::io(format!("reading {shown}")))?;
    let length = file.metadata().map_err(Error::io(format!("reading {shown}")))?.len();
    let mut members = BTreeMap::new();
    let mut archive = tar::Archive::new(&mut *file);
    for entry in archive.entries_with_seek().map_err(bad)?.raw(true) {
        let entry = entry.map_err(bad)?;
        if members.len() >= MAX_MEMBERS {
            return Err(Error::Invalid(format!("{shown} has more than {MAX_MEMBERS} members")));
        }
        let member = Member { offset: entry.raw_file_position(), size: entry.size() };
        if member.offset.saturating_add(member.size) > length {
            return Err(Error::Invalid(format!("{shown} is truncated")));
        }
        // Paths of layouts are short: an entry with a long name is none of ours.
        if entry.header().entry_type().is_file() {
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            members.insert(path.trim_start_matches("./").to_owned(), member);
        }
    }
    Ok(members)
}
