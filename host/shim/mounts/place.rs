//! Where in a root something is mounted. Links in paths stay inside the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{MountSpec, RootSpec};

/// The folder or file inside the root that a mount of `kind` covers, made when it is not there.
/// Links in the path stay inside the root. A new one below /dev is made in the shim's own folder
/// of devices, since /dev itself is read-only.
pub fn mount_point(
    root: BorrowedFd<'_>,
    mount: &MountSpec,
    spec: &RootSpec,
    kind: FileType,
) -> rustix::io::Result<OwnedFd> {
    let path = Path::new(&mount.container_path);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Errno::INVAL);
    }
    if let Some(target) = find(root, path, kind)? {
        return Ok(target);
    }
    let dev = rustix::fs::open(&spec.dev, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    match path.strip_prefix("/dev") {
        Ok(rest) if !rest.as_os_str().is_empty() => make(dev.as_fd(), rest, kind)?,
        _ => make(root, path, kind)?,
    }
    find(root, path, kind)?.ok_or(Errno::NOENT)
}

fn find(root: BorrowedFd<'_>, path: &Path, kind: FileType) -> rustix::io::Result<Option<OwnedFd>> {
    let found = match in_root(root, path) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let there = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    match (kind == FileType::Directory, there == FileType::Directory) {
        (true, false) => Err(Errno::NOTDIR),
        (false, true) => Err(Errno::ISDIR),
        _ => Ok(Some(found)),
    }
}

pub fn in_root(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat2(
        root,
        if path.as_os_str().is_empty() { Path::new(".") } else { path },
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Makes `path` below `root`: folders, and at its end a folder or an empty file.
fn make(root: BorrowedFd<'_>, path: &Path, kind: FileType) -> rustix::io::Result<()> {
    let names: Vec<_> = path
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    let mut parent_path = PathBuf::new();
    for (index, name) in names.iter().enumerate() {
        let parent = in_root(root, &parent_path)?;
        let made = if index + 1 == names.len() && kind != FileType::Directory {
            rustix::fs::mknodat(&parent, *name, FileType::RegularFile, Mode::from(0o644), 0)
        } else {
            rustix::fs::mkdirat(&parent, *name, Mode::from(0o755))
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => parent_path.push(name),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
