//! Finds the wasm files of an unpacked root, by every path that leads to one.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::CodeForm;
use crate::image::blobs;
use crate::image::kind::{HEAD, Kind};

/// More wasm files than that in one image are not looked at.
const MAX_PROGRAMS: usize = 4096;

/// A wasm file of a root, in terms that survive a move of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Absolute in the root.
    pub path: String,
    /// "sha256:..." of the file.
    pub digest: String,
    pub form: CodeForm,
    /// Relative to the folder of all layers, links resolved: the layer's name comes first.
    pub file: PathBuf,
}

/// "sha256:..." of files by device and inode.
pub type Digests = HashMap<(u64, u64), String>;

/// A file in [`Digests`].
pub fn key(inode: &std::fs::Metadata) -> (u64, u64) {
    (inode.dev(), inode.ino())
}

/// Every regular file that begins as wasm, and every link to one, sorted by path.
/// `known` are digests of files that were checked before.
pub fn find(root: &Path, known: Digests) -> Result<Vec<Program>> {
    let doing = || format!("looking for programs in {}", root.display());
    let root = root.canonicalize().map_err(Error::io(doing()))?;
    let dir = File::open(&root).map_err(Error::io(doing()))?;
    let mut digests = known;
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(folder) = pending.pop() {
        let full = root.join(&folder);
        for entry in std::fs::read_dir(&full).map_err(Error::io(doing()))? {
            let entry = entry.map_err(Error::io(doing()))?;
            let kind = entry.file_type().map_err(Error::io(doing()))?;
            let path = folder.join(entry.file_name());
            if kind.is_dir() {
                pending.push(path);
                continue;
            }
            let Some(file) = resolve(dir.as_fd(), &path) else { continue };
            let Some((file, place)) = file.strip(&root) else { continue };
            let Some(form) = form(&file) else { continue };
            // A path that is not text cannot be asked for through CRI.
            let Some(shown) = path.to_str() else { continue };
            let inode = file.metadata().map_err(Error::io(doing()))?;
            let key = key(&inode);
            let digest = match digests.get(&key) {
                Some(digest) => String::clone(digest),
                None => {
                    let digest = format!("sha256:{}", blobs::hash_file(&root.join(&place))?.0);
                    digests.insert(key, digest.clone());
                    digest
                }
            };
            found.push(Program { path: format!("/{shown}"), digest, form, file: place });
            if found.len() >= MAX_PROGRAMS {
                pending.clear();
                break;
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

struct Resolved(File);

impl Resolved {
    fn strip(self, root: &Path) -> Option<(File, PathBuf)> {
        let link = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let full = std::fs::read_link(link).ok()?;
        Some((self.0, full.strip_prefix(root).ok()?.to_path_buf()))
    }
}

fn resolve(root: std::os::fd::BorrowedFd<'_>, path: &Path) -> Option<Resolved> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(root, path, flags, Mode::empty(), within).ok()?);
    file.metadata().is_ok_and(|found| found.is_file()).then_some(Resolved(file))
}

fn form(file: &File) -> Option<CodeForm> {
    let mut head = Vec::with_capacity(HEAD);
    file.take(HEAD as u64).read_to_end(&mut head).ok()?;
    match Kind::of(&head) {
        Kind::Wasm(form) => Some(form),
        _ => None,
    }
}
