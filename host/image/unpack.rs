//! Applies layers to a root, one above the other, as the OCI image specification says:
//! whiteouts, opaque folders, hard links, entries that lead through the links of lower layers.
//! Remembers what each layer changed, for `diff` to cut the layer's own folder out of it. Every
//! path is resolved by cap-std below the root's descriptor.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, Permissions, PermissionsExt};
use rustix::fs::{AtFlags, Mode, OFlags};

use crate::error::{Error, Result};
use crate::image::layer::{self, Body, Item, Limits};
use crate::image::rights::{Metadata, group, owner, set_folders, times};

/// Parts of a folder's path on the host.
const MAX_REAL_DEPTH: usize = 256;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A root in the making. Its folders get their rights and times at the end, when nothing more is
/// put into them.
pub struct Root {
    dir: Dir,
    /// Its path as the kernel names it, for what an open folder's own name is.
    real: PathBuf,
    below: Below,
    /// Only root can give files away.
    chown: bool,
    pub folders: HashMap<PathBuf, Metadata>,
    pub changes: Changes,
}

/// What was there before the layer that is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    Nothing,
    Layers,
}

/// What one layer did, by paths in the root that go through no link.
#[derive(Default)]
pub struct Changes {
    /// Written or a folder of something written.
    pub made: HashSet<PathBuf>,
    /// Taken away, of lower layers or of this one; perhaps made anew afterwards.
    pub removed: BTreeSet<PathBuf>,
}

impl Root {
    /// `folder` is there and holds what is `below`.
    pub fn new(folder: &Path, below: Below) -> Result<Self> {
        let doing = || format!("opening {}", folder.display());
        let dir = Dir::open_ambient_dir(folder, ambient_authority()).map_err(Error::io(doing()))?;
        let real = real_path(&dir).map_err(Error::sys(doing()))?;
        let chown = rustix::process::geteuid().is_root();
        let (folders, changes) = (HashMap::new(), Changes::default());
        Ok(Self { dir, real, below, chown, folders, changes })
    }

    /// Unpacks one layer's tar above what is there. Errors begin with the entry's name.
    pub fn apply(&mut self, reader: impl Read, limits: &mut Limits) -> Result<()> {
        layer::each_item(reader, limits, |item, body| self.apply_item(&item, body))
    }

    /// Puts one file at `path`, with the name of the file on the host that it is.
    pub fn place(&mut self, path: &Path, blob: &Path) -> Result<()> {
        let doing = || format!("placing {} in the image's root", path.display());
        let Place { parent, name, real, .. } = self.clear(path, None)?;
        self.made(&real);
        let link = || -> std::io::Result<()> {
            rustix::fs::linkat(rustix::fs::CWD, blob, &parent, Path::new(&name), AtFlags::empty())?;
            Ok(())
        };
        // A blob has as many names as the file system allows; then a copy does.
        link()
            .or_else(|_| {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                let mut file = parent.open_with(&name, &options)?;
                std::io::copy(&mut std::fs::File::open(blob)?, &mut file)?;
                file.set_permissions(Permissions::from_mode(0o444))
            })
            .map_err(Error::io(doing()))
    }

    /// Sets what had to wait until the folders were full.
    pub fn finish(&self) -> Result<()> {
        set_folders(&self.dir, self.changes.made.iter().chain([&PathBuf::new()]), &self.folders)
    }

    fn apply_item(&mut self, item: &Item, body: &mut dyn Read) -> Result<()> {
        let Some(name) = item.path.file_name() else {
            self.folders.insert(PathBuf::new(), item.into());
            return Ok(());
        };
        let folder = item.path.parent().unwrap_or(Path::new(""));
        let bytes = name.as_bytes();
        if bytes == OPAQUE {
            let (dir, real) = self.folder(&folder.join("x"))?;
            return self.hide_lower(&dir, &real);
        }
        if let Some(hidden) = bytes.strip_prefix(WHITEOUT) {
            return self.white_out(&folder.join(OsStr::from_bytes(hidden)), hidden);
        }
        let place = self.clear(&item.path, Some(&item.body))?;
        self.made(&place.real);
        self.make(item, body, &place)
    }

    /// What was written, with every folder above it.
    fn made(&mut self, real: &Path) {
        for path in real.ancestors() {
            if !self.changes.made.insert(path.to_path_buf()) {
                break;
            }
        }
    }

    /// Where an entry goes, with nothing there but a folder that a folder is to be.
    fn clear(&mut self, path: &Path, body: Option<&Body>) -> Result<Place> {
        let (parent, folder) = self.folder(path)?;
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        let real = folder.join(&name);
        let there = parent.symlink_metadata(&name).ok();
        let is_folder = there.as_ref().is_some_and(|found| found.is_dir());
        if there.is_some() && !(is_folder && matches!(body, Some(Body::Folder))) {
            self.remove(&parent, &name, &real)
                .map_err(Error::io(format!("replacing {}", path.display())))?;
        }
        Ok(Place { parent, name, real, is_folder })
    }

    fn make(&mut self, item: &Item, body: &mut dyn Read, place: &Place) -> Result<()> {
        let Place { parent, name, .. } = place;
        let shown = item.path.display();
        let doing = || format!("unpacking entry {shown}");
        match &item.body {
            Body::Folder => {
                if !place.is_folder {
                    parent.create_dir(name).map_err(Error::io(doing()))?;
                }
                self.folders.insert(place.real.clone(), item.into());
                return Ok(());
            }
            Body::File(size) => {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                let mut file = parent.open_with(name, &options).map_err(Error::io(doing()))?;
                let copied = layer::copy(&mut body.take(*size), &mut file, &doing)?;
                if copied != *size {
                    return Err(Error::Invalid(format!(
                        "entry {shown} is truncated: {copied} of {size} bytes are there"
                    )));
                }
                if self.chown {
                    rustix::fs::fchown(&file, owner(item.uid), group(item.gid))
                        .map_err(Error::sys(doing()))?;
                }
                file.set_permissions(Permissions::from_mode(item.mode))
                    .map_err(Error::io(doing()))?;
            }
            Body::Symlink(target) => {
                parent.symlink_contents(target, name).map_err(Error::io(doing()))?;
                if self.chown {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    rustix::fs::chownat(parent, name, owner(item.uid), group(item.gid), flags)
                        .map_err(Error::sys(doing()))?;
                }
            }
            Body::HardLink(target) => return self.link(item, target, place),
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(parent, name, &times(item.mtime), flags).map_err(Error::sys(doing()))
    }

    fn link(&self, item: &Item, target: &Path, place: &Place) -> Result<()> {
        let (shown, to) = (item.path.display(), target.display());
        let (from, _) = self.folder(target)?;
        let from_name = PathBuf::from(target.file_name().unwrap_or_default());
        let found = from.symlink_metadata(&from_name).map_err(|_| {
            Error::Invalid(format!("entry {shown} is a hard link to {to}, which is not there"))
        })?;
        if found.is_dir() {
            return Err(Error::Invalid(format!("entry {shown} is a hard link to the folder {to}")));
        }
        from.hard_link(&from_name, &place.parent, &place.name)
            .map_err(Error::io(format!("unpacking entry {shown}")))
    }

    /// The open folder that holds `path`, made where it is missing, and its own path.
    fn folder(&self, path: &Path) -> Result<(Dir, PathBuf)> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Some(folder) = folder else {
            let root = self.dir.try_clone().map_err(Error::io("opening the image's root"))?;
            return Ok((root, PathBuf::new()));
        };
        let open = || match self.dir.open_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.dir.create_dir_all(folder)?;
                self.dir.open_dir(folder)
            }
            other => other,
        };
        let dir = open().map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "through a link that leads outside the image's root"
                }
                std::io::ErrorKind::NotADirectory => "below something that is not a folder",
                _ => return Error::io(format!("unpacking entry {}", path.display()))(error),
            };
            Error::Invalid(format!("entry {} goes {why}", path.display()))
        })?;
        // Links could make folders deeper than any path names them, until nothing that walks
        // the tree has descriptors enough.
        let real = real_path(&dir).ok().filter(|real| {
            real.as_os_str().as_bytes().iter().filter(|byte| **byte == b'/').count()
                <= MAX_REAL_DEPTH
        });
        match real.as_ref().and_then(|real| real.strip_prefix(&self.real).ok()) {
            Some(own) => Ok((dir, own.to_path_buf())),
            None => Err(Error::Invalid(format!("entry {} lies too deep", path.display()))),
        }
    }

    /// Removes what a lower layer had at `path`.
    fn white_out(&mut self, path: &Path, name: &[u8]) -> Result<()> {
        if name.starts_with(WHITEOUT) {
            // AUFS's own bookkeeping.
            return Ok(());
        }
        if matches!(name, b"" | b"." | b"..") {
            return Err(Error::Invalid(format!("entry {} hides no name", path.display())));
        }
        let (parent, folder) = self.folder(path)?;
        let name = Path::new(OsStr::from_bytes(name));
        let real = folder.join(name);
        if self.changes.made.contains(&real) {
            return match real_folder(&parent, name) {
                Ok(dir) => self.hide_lower(&dir, &real),
                Err(_) => Ok(()),
            };
        }
        match self.remove(&parent, name, &real) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("hiding {}", path.display()))(error))
            }
            _ => Ok(()),
        }
    }

    /// Empties a folder of what lower layers put there; this layer's own entries stay,
    /// wherever in its archive they stand.
    fn hide_lower(&mut self, dir: &Dir, real: &Path) -> Result<()> {
        let doing = || format!("hiding what lower layers have in {}", real.display());
        for entry in dir.entries().map_err(Error::io(doing()))? {
            let entry = entry.map_err(Error::io(doing()))?;
            let name = PathBuf::from(entry.file_name());
            let path = real.join(&name);
            if !self.changes.made.contains(&path) {
                self.remove(dir, &name, &path).map_err(Error::io(doing()))?;
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let below = real_folder(dir, &name).map_err(Error::io(doing()))?;
                self.hide_lower(&below, &path)?;
            }
        }
        Ok(())
    }

    /// Removes a file or a folder with all that is in it, and remembers every name.
    fn remove(&mut self, parent: &Dir, name: &Path, real: &Path) -> std::io::Result<()> {
        let is_folder = parent.symlink_metadata(name)?.is_dir();
        if self.below == Below::Layers {
            self.changes.removed.insert(real.to_path_buf());
            if is_folder {
                remember(&real_folder(parent, name)?, real, &mut self.changes.removed)?;
            }
        }
        if is_folder { parent.remove_dir_all(name) } else { parent.remove_file(name) }
    }
}

/// Where an entry goes.
struct Place {
    parent: Dir,
    name: PathBuf,
    /// In the root, through no link.
    real: PathBuf,
    /// A folder is there.
    is_folder: bool,
}

fn remember(dir: &Dir, real: &Path, removed: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in dir.entries()? {
        let entry = entry?;
        let path = real.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            remember(&real_folder(dir, Path::new(&entry.file_name()))?, &path, removed)?;
        }
        removed.insert(path);
    }
    Ok(())
}

/// Opens a folder that is one itself, no link to one.
fn real_folder(parent: &Dir, name: &Path) -> std::io::Result<Dir> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    Ok(Dir::from_std_file(folder.into()))
}

fn real_path(dir: &Dir) -> rustix::io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    let real = rustix::fs::readlinkat(rustix::fs::CWD, link, Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(real.into_bytes())))
}

/// Makes a finished root durable: each file and folder for small ones, the whole file system
/// for large ones, which is cheaper then.
pub fn sync(folder: &Path) -> Result<()> {
    const FEW: usize = 256;
    let doing = || format!("syncing {}", folder.display());
    let sync_all = || {
        let root = std::fs::File::open(folder).map_err(Error::io(doing()))?;
        rustix::fs::syncfs(root.as_fd()).map_err(Error::sys(doing()))
    };
    let mut pending = vec![folder.to_path_buf()];
    let mut all = Vec::new();
    while let Some(path) = pending.pop() {
        for entry in std::fs::read_dir(&path).map_err(Error::io(doing()))? {
            let entry = entry.map_err(Error::io(doing()))?;
            let kind = entry.file_type().map_err(Error::io(doing()))?;
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                all.push(entry.path());
            }
        }
        all.push(path);
        if all.len() > FEW {
            return sync_all();
        }
    }
    for path in all {
        // A user's own file without the right to read it.
        let Ok(file) = std::fs::File::open(&path) else { return sync_all() };
        file.sync_all().map_err(Error::io(doing()))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
