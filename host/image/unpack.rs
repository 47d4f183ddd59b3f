//! Applies layers to an image's root, one above the other, as the OCI image specification
//! says: whiteouts, opaque folders, hard links. The result is one plain folder, so that a
//! container's overlay needs no whiteout nodes, no xattrs and no more than two lower folders
//! whatever the image. Every path is resolved by cap-std below the root's descriptor.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, Permissions, PermissionsExt};
use rustix::fs::{AtFlags, Gid, Timespec, Timestamps, Uid};

use crate::error::{Error, Result};
use crate::image::layer::{self, Body, Item, Limits};

/// Parts of a folder's path on the host.
const MAX_REAL_DEPTH: usize = 256;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// An image's root in the making.
pub struct Root {
    dir: Dir,
    limits: Limits,
    /// Only root can give files away.
    chown: bool,
    /// Rights and times of folders, set when nothing more is put into them.
    folders: Vec<(PathBuf, Metadata)>,
}

#[derive(Clone, Copy)]
struct Metadata {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
}

impl From<&Item> for Metadata {
    fn from(item: &Item) -> Self {
        Self { mode: item.mode, uid: item.uid, gid: item.gid, mtime: item.mtime }
    }
}

impl Root {
    /// `folder` is there and empty.
    pub fn new(folder: &Path, limits: Limits) -> Result<Self> {
        let dir = Dir::open_ambient_dir(folder, ambient_authority())
            .map_err(Error::io(format!("opening {}", folder.display())))?;
        let chown = rustix::process::geteuid().is_root();
        Ok(Self { dir, limits, chown, folders: Vec::new() })
    }

    /// Unpacks one layer's tar above what is there. Errors begin with the entry's name.
    pub fn apply(&mut self, reader: impl Read) -> Result<()> {
        let limits = self.limits;
        let mut made = HashSet::new();
        layer::each_item(reader, &limits, |item, body| self.apply_item(&item, body, &mut made))
    }

    /// Puts one file at `path`, with the name of the file on the host that it is.
    pub fn place(&mut self, path: &Path, blob: &Path) -> Result<()> {
        let doing = || format!("placing {} in the image's root", path.display());
        let (parent, name) = self.parent(path)?;
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
    pub fn finish(self) -> Result<()> {
        let mut last = HashSet::new();
        // The last word about a folder counts, and deep folders come before what holds them.
        let mut folders: Vec<_> =
            self.folders.iter().rev().filter(|(path, _)| last.insert(path.clone())).collect();
        folders.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
        for (path, metadata) in folders {
            let shown = if path.as_os_str().is_empty() { Path::new(".") } else { path.as_path() };
            // Gone or replaced by a later entry.
            let is_folder = self.dir.symlink_metadata(shown).is_ok_and(|found| found.is_dir());
            if !is_folder {
                continue;
            }
            let doing = || format!("setting the rights of folder {}", path.display());
            // As a file: a folder's own handle is only a place to start paths from.
            let folder = self.dir.open(shown).map_err(Error::io(doing()))?;
            if self.chown {
                rustix::fs::fchown(&folder, owner(metadata.uid), group(metadata.gid))
                    .map_err(Error::sys(doing()))?;
            }
            rustix::fs::fchmod(&folder, metadata.mode.into()).map_err(Error::sys(doing()))?;
            rustix::fs::futimens(&folder, &times(metadata.mtime)).map_err(Error::sys(doing()))?;
        }
        Ok(())
    }

    fn apply_item(
        &mut self,
        item: &Item,
        body: &mut dyn Read,
        made: &mut HashSet<PathBuf>,
    ) -> Result<()> {
        let Some(name) = item.path.file_name() else {
            // The root itself, which a user who is not root has to be able to rename.
            let metadata = Metadata { mode: item.mode | 0o700, ..item.into() };
            self.folders.push((PathBuf::new(), metadata));
            return Ok(());
        };
        let folder = item.path.parent().unwrap_or(Path::new(""));
        let bytes = name.as_bytes();
        if bytes == OPAQUE {
            return self.hide_lower(folder, made);
        }
        if let Some(hidden) = bytes.strip_prefix(WHITEOUT) {
            return self.white_out(&folder.join(OsStr::from_bytes(hidden)), hidden, made);
        }
        let (parent, name) = self.parent(&item.path)?;
        for path in item.path.ancestors() {
            if !made.insert(path.to_path_buf()) {
                break;
            }
        }
        let there = parent.symlink_metadata(&name).ok();
        let is_folder = there.as_ref().is_some_and(|found| found.is_dir());
        if there.is_some() && !(is_folder && matches!(item.body, Body::Folder)) {
            remove(&parent, &name)
                .map_err(Error::io(format!("replacing {}", item.path.display())))?;
        }
        self.make(item, body, &Place { parent: &parent, name: &name, is_folder })
    }

    fn make(&mut self, item: &Item, body: &mut dyn Read, place: &Place<'_>) -> Result<()> {
        let Place { parent, name, .. } = *place;
        let shown = item.path.display();
        let doing = || format!("unpacking entry {shown}");
        match &item.body {
            Body::Folder => {
                if !place.is_folder {
                    parent.create_dir(name).map_err(Error::io(doing()))?;
                }
                self.folders.push((item.path.clone(), item.into()));
                return Ok(());
            }
            Body::File(size) => {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                let mut file = parent.open_with(name, &options).map_err(Error::io(doing()))?;
                let copied = std::io::copy(&mut body.take(*size), &mut file)
                    .map_err(|error| Error::Invalid(format!("entry {shown}: {error}")))?;
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

    fn link(&self, item: &Item, target: &Path, place: &Place<'_>) -> Result<()> {
        let (shown, to) = (item.path.display(), target.display());
        let (from, from_name) = self.parent(target)?;
        let found = from.symlink_metadata(&from_name).map_err(|_| {
            Error::Invalid(format!("entry {shown} is a hard link to {to}, which is not there"))
        })?;
        if found.is_dir() {
            return Err(Error::Invalid(format!("entry {shown} is a hard link to the folder {to}")));
        }
        from.hard_link(&from_name, place.parent, place.name)
            .map_err(Error::io(format!("unpacking entry {shown}")))
    }

    /// The open folder that holds `path`, made where it is missing, and the last name.
    fn parent(&self, path: &Path) -> Result<(Dir, PathBuf)> {
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Some(folder) = folder else {
            let root = self.dir.try_clone().map_err(Error::io("opening the image's root"))?;
            return Ok((root, name));
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
        let real = rustix::fs::readlinkat(
            rustix::fs::CWD,
            format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()),
            Vec::new(),
        );
        let deep = real.map_or(true, |real| {
            real.to_bytes().iter().filter(|byte| **byte == b'/').count() > MAX_REAL_DEPTH
        });
        if deep {
            return Err(Error::Invalid(format!("entry {} lies too deep", path.display())));
        }
        Ok((dir, name))
    }

    /// Removes what a lower layer had at `path`.
    fn white_out(&self, path: &Path, name: &[u8], made: &HashSet<PathBuf>) -> Result<()> {
        if name.starts_with(WHITEOUT) {
            // AUFS's own bookkeeping.
            return Ok(());
        }
        if matches!(name, b"" | b"." | b"..") {
            return Err(Error::Invalid(format!("entry {} hides no name", path.display())));
        }
        let (parent, name) = self.parent(path)?;
        if made.contains(path) {
            let folder = parent.symlink_metadata(&name).is_ok_and(|found| found.is_dir());
            return if folder { self.hide_lower(path, made) } else { Ok(()) };
        }
        match remove(&parent, &name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("hiding {}", path.display()))(error))
            }
            _ => Ok(()),
        }
    }

    /// Empties a folder of what lower layers put there; this layer's own entries stay,
    /// wherever in its archive they stand.
    fn hide_lower(&self, folder: &Path, made: &HashSet<PathBuf>) -> Result<()> {
        let doing = || format!("hiding what lower layers have in {}", folder.display());
        let (dir, _) = self.parent(&folder.join("x"))?;
        for entry in dir.entries().map_err(Error::io(doing()))? {
            let entry = entry.map_err(Error::io(doing()))?;
            let name = entry.file_name();
            let path = folder.join(&name);
            if !made.contains(&path) {
                remove(&dir, Path::new(&name)).map_err(Error::io(doing()))?;
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.hide_lower(&path, made)?;
            }
        }
        Ok(())
    }
}

/// Where an entry goes, and whether a folder is there.
struct Place<'a> {
    parent: &'a Dir,
    name: &'a Path,
    is_folder: bool,
}

fn remove(parent: &Dir, name: &Path) -> std::io::Result<()> {
    if parent.symlink_metadata(name)?.is_dir() {
        parent.remove_dir_all(name)
    } else {
        parent.remove_file(name)
    }
}

fn owner(uid: u32) -> Option<Uid> {
    Some(Uid::from_raw(uid))
}

fn group(gid: u32) -> Option<Gid> {
    Some(Gid::from_raw(gid))
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
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
mod tests {
    use super::*;
    use tar::{Builder, EntryType, Header};

    fn entry(builder: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, to: &str, body: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_size(body.len() as u64);
        if kind == EntryType::Symlink {
            builder.append_link(&mut header, name, to).unwrap();
        } else {
            builder.append_data(&mut header, name, body).unwrap();
        }
    }

    fn unpack(folder: &Path, limits: Limits, tar: &[u8]) -> Result<()> {
        let mut root = Root::new(folder, limits)?;
        root.apply(tar)?;
        root.finish()
    }

    #[test]
    fn limits_on_bytes_and_entries_hold() {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = Builder::new(Vec::new());
        for number in 0..20 {
            entry(&mut builder, &format!("f{number}"), EntryType::Regular, "", &[0; 1000]);
        }
        let tar = builder.into_inner().unwrap();
        let limited = |bytes, entries| {
            let error = unpack(folder.path(), Limits { bytes, entries }, &tar).unwrap_err();
            error.to_string()
        };
        let error = limited(1 << 20, 10);
        assert!(error.contains("more than 10 entries"), "{error}");
        let error = limited(5000, 100);
        assert!(error.contains("unpacks to more than"), "{error}");
        unpack(folder.path(), Limits::default(), &tar).unwrap();
    }

    #[test]
    fn long_names_and_pax_headers_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(150), "n".repeat(200));
        let target = format!("{}/x", "t".repeat(140));
        let mut builder = Builder::new(Vec::new());
        entry(&mut builder, &long, EntryType::Regular, "", b"long");
        entry(&mut builder, "link", EntryType::Symlink, &target, b"");
        let (path, mtime) = (format!("pax/{}", "p".repeat(180)), "1234.5");
        let records = [("path", path.as_bytes()), ("mtime", mtime.as_bytes())];
        builder.append_pax_extensions(records).unwrap();
        entry(&mut builder, "short", EntryType::Regular, "", b"pax");
        let tar = builder.into_inner().unwrap();
        unpack(folder.path(), Limits::default(), &tar).unwrap();
        let read = |path: &str| std::fs::read(folder.path().join(path)).unwrap();
        assert_eq!(read(&long), b"long");
        assert_eq!(read(&path), b"pax");
        assert_eq!(std::fs::read_link(folder.path().join("link")).unwrap(), Path::new(&target));
        let found = std::fs::metadata(folder.path().join(&path)).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mtime(&found), 1234);
        assert!(!folder.path().join("short").exists());
    }

    #[test]
    fn an_endless_long_name_is_not_kept_in_memory() {
        let mut builder = Builder::new(Vec::new());
        let name = vec![b'a'; 3 << 20];
        entry(&mut builder, "x", EntryType::GNULongName, "", &name);
        let folder = tempfile::tempdir().unwrap();
        let tar = builder.into_inner().unwrap();
        let error = unpack(folder.path(), Limits::default(), &tar).unwrap_err().to_string();
        assert!(error.contains("longer than 1 MiB"), "{error}");
    }

    #[test]
    fn links_do_not_make_folders_deeper_than_paths_can_name() {
        let mut builder = Builder::new(Vec::new());
        let deep = vec!["d"; 45].join("/");
        let mut link = String::new();
        for number in 0..8 {
            let below = if link.is_empty() { deep.clone() } else { format!("{link}/{deep}") };
            entry(&mut builder, &format!("{below}/f"), EntryType::Regular, "", b"");
            link = format!("l{number}");
            entry(&mut builder, &link, EntryType::Symlink, &below, b"");
        }
        let folder = tempfile::tempdir().unwrap();
        let tar = builder.into_inner().unwrap();
        let error = unpack(folder.path(), Limits::default(), &tar).unwrap_err().to_string();
        assert!(error.contains("lies too deep"), "{error}");
    }
}
