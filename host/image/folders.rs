//! Where the store keeps things, and the few ways in which things get there: written under
//! `tmp`, made durable, renamed to their place. Owns the lock that keeps other processes out.
//! Knows nothing of what the files mean.
//!
//!     <root>/images/lock          held while a process has the store open
//!     <root>/images/index.json    every image (`index`)
//!     <root>/images/blobs/sha256/ manifests, configs, layers, wasm files by digest
//!     <root>/images/layers/       unpacked layers, and the skeleton below all of them
//!     <root>/images/reserve       room that a full disk gives back for removing images
//!     <root>/images/tmp/          what is being made, in a folder of each opening's; emptied then
//!     <root>/code/<engine>/       machine code by the digest of its wasm file (`code`)

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};

/// How long opening waits for another process to leave: a daemon that was just told to end, or
/// another command that imports.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The store's folders, locked against other processes until dropped.
#[derive(Debug)]
pub struct Folders {
    pub images: PathBuf,
    pub blobs: PathBuf,
    pub layers: PathBuf,
    /// Below the `tmp` that an opening empties.
    pub tmp: PathBuf,
    /// Of this engine.
    pub code: PathBuf,
    /// Of all engines: shims of another one may live.
    codes: PathBuf,
    _lock: File,
}

impl Folders {
    /// Makes the folders, takes the lock and empties `tmp`. Blocks for some seconds while
    /// another process holds the store, then says so.
    pub fn open(root: &Path, engine: &str) -> Result<Self> {
        let images = root.join("images");
        let blobs = images.join("blobs/sha256");
        let layers = images.join("layers");
        // Of this opening alone: a compile child of a killed process, which notices late, must not
        // find the folder that it was told to write into.
        let tmp = images.join("tmp").join(random()?);
        let codes = root.join("code");
        let code = codes.join(engine);
        // As the daemon makes it, whoever comes first.
        make_folder(root, 0o711)?;
        make_private(&images)?;
        let lock = lock(&images)?;
        remove_tree(&images.join("tmp"))?;
        for folder in [&blobs, &layers, &tmp, &code] {
            make_private(folder)?;
        }
        for folder in [root, &images, &images.join("blobs"), &codes] {
            sync_folder(folder)?;
        }
        Ok(Self { images, blobs, layers, tmp, code, codes, _lock: lock })
    }

    /// Removes the machine code of engines that are neither this one nor in use; gives their
    /// names.
    pub fn retain_engines(&self, used: &BTreeSet<String>) -> Result<Vec<String>> {
        let mut removed = names(&self.codes)?;
        removed.retain(|name| !self.code.ends_with(name) && !used.contains(name));
        for name in &removed {
            remove_tree(&self.codes.join(name))?;
        }
        Ok(removed)
    }

    /// A path under `tmp` that nothing has yet; what is made there goes when this is dropped,
    /// unless it was published.
    pub fn temporary(&self) -> Result<Temporary> {
        Ok(Temporary { path: self.tmp.join(random()?) })
    }

    /// The blob's place. `digest` was checked to be one.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.blobs.join(bare(digest))
    }

    pub fn layer(&self, name: &str) -> PathBuf {
        self.layers.join(name)
    }

    /// Machine code of all engines.
    pub fn codes(&self) -> &Path {
        &self.codes
    }
}

/// A name that nothing has yet.
fn random() -> Result<String> {
    let mut random = [0u8; 12];
    getrandom::fill(&mut random)
        .map_err(|e| Error::Internal(format!("no random numbers for a temporary name: {e}")))?;
    Ok(hex::encode(random))
}

/// The hex digits of "sha256:...".
pub fn bare(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// A file or folder in the making.
#[derive(Debug)]
pub struct Temporary {
    pub path: PathBuf,
}

impl Temporary {
    /// Creates it as an empty file.
    pub fn create(&self, mode: u32) -> Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&self.path)
            .map_err(Error::io(format!("creating {}", self.path.display())))
    }

    /// Renames a durable file or folder into place and makes the new name durable. A folder
    /// that is there already wins: what has the same name has the same content.
    pub fn publish(self, place: &Path) -> Result<()> {
        if let Err(error) = std::fs::rename(&self.path, place) {
            let there = matches!(
                error.raw_os_error(),
                Some(code) if code == rustix::io::Errno::NOTEMPTY.raw_os_error()
                    || code == rustix::io::Errno::EXIST.raw_os_error()
            );
            if !there {
                return Err(Error::io(format!("renaming to {}", place.display()))(error));
            }
        }
        place.parent().map_or(Ok(()), sync_folder)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays here is removed at the next opening.
        let _ = remove_tree(&self.path);
    }
}

/// Bytes that are kept back: an index of some thousand images.
const RESERVE: u64 = 4 << 20;

impl Folders {
    fn reserve(&self) -> PathBuf {
        self.images.join("reserve")
    }

    /// Takes back what [`Folders::give_way`] gave, once there is room again.
    pub fn keep_reserve(&self) {
        let path = self.reserve();
        let whole = std::fs::metadata(&path).is_ok_and(|found| found.len() == RESERVE);
        if whole {
            return;
        }
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| {
                let flags = rustix::fs::FallocateFlags::empty();
                Ok(rustix::fs::fallocate(&file, flags, 0, RESERVE)?)
            });
        if made.is_err() {
            // Half a reserve would only take room.
            let _ = std::fs::remove_file(&path);
        }
    }

    /// Gives the reserve to a full disk; `false` when there was none.
    fn give_way(&self) -> bool {
        std::fs::remove_file(self.reserve()).is_ok()
    }
}

/// As [`replace_file`], with the reserve when the disk is full: what removes things has to be
/// written down first.
pub fn replace_file_for_sure(folders: &Folders, place: &Path, content: &[u8]) -> Result<()> {
    match replace_file(folders, place, content) {
        Err(Error::Io { source, .. })
            if source.kind() == std::io::ErrorKind::StorageFull && folders.give_way() =>
        {
            replace_file(folders, place, content)
        }
        other => other,
    }
}

/// Writes a whole file so that, after a power loss, its place holds the old or the new content.
pub fn replace_file(folders: &Folders, place: &Path, content: &[u8]) -> Result<()> {
    let temporary = folders.temporary()?;
    let doing = || format!("writing {}", place.display());
    let mut file = temporary.create(0o600)?;
    file.write_all(content).map_err(Error::io(doing()))?;
    file.sync_all().map_err(Error::io(doing()))?;
    temporary.publish(place)
}

pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io(format!("syncing {}", folder.display())))
}

/// The names in a folder.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let doing = || format!("reading {}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(doing()))? {
        let entry = entry.map_err(Error::io(doing()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Removes a file or a folder with all that is in it, folders without owner's rights included;
/// succeeds when there is none.
pub fn remove_tree(path: &Path) -> Result<()> {
    let doing = || format!("removing {}", path.display());
    let done = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    match std::fs::symlink_metadata(path) {
        Err(error) => done(Err(error)).map_err(Error::io(doing())),
        Ok(found) if !found.is_dir() => {
            done(std::fs::remove_file(path)).map_err(Error::io(doing()))
        }
        Ok(_) => match done(std::fs::remove_dir_all(path)) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                open_up(path);
                done(std::fs::remove_dir_all(path)).map_err(Error::io(doing()))
            }
            other => other.map_err(Error::io(doing())),
        },
    }
}

/// Gives the owner all rights on every folder below `path`.
fn open_up(path: &Path) {
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Bytes on disk and inodes of a tree. A file with several names counts a part for each, so
/// that a blob and its link in an unpacked root are one file together.
pub fn footprint(path: &Path) -> Footprint {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Footprint::default() };
    let links = if found.is_dir() { 1 } else { found.nlink().max(1) };
    let mut sum = Footprint { bytes: found.blocks() * 512 / links, inodes: u64::from(links == 1) };
    if found.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let below = footprint(&entry.path());
            sum.bytes += below.bytes;
            sum.inodes += below.inodes;
        }
    }
    sum
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Allocated, as `du` counts.
    pub bytes: u64,
    pub inodes: u64,
}

fn make_private(folder: &Path) -> Result<()> {
    make_folder(folder, 0o700)
}

/// With its parents; one that is there stays as it is.
fn make_folder(folder: &Path, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .map_err(Error::io(format!("creating {}", folder.display())))
}

fn lock(images: &Path) -> Result<File> {
    let path = images.join("lock");
    let doing = || format!("locking {}", path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(Error::io(doing()))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                return Err(Error::Unavailable(format!(
                    "the image store {} is in use by another wasmpod, process {}",
                    images.display(),
                    holder.trim()
                )));
            }
            Err(errno) => return Err(Error::sys(doing())(errno)),
        }
    }
    let pid = std::process::id();
    file.set_len(0).and_then(|()| writeln!(file, "{pid}")).map_err(Error::io(doing()))?;
    Ok(file)
}
