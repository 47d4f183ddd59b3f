//! A container's root: an overlay of the image's layers and the kubelet's mounts, a true kernel
//! mount tree inside the shim's own mount namespace. Knows nothing of guests.
//!
//! What is bound is taken from the host's own namespace at that moment, so a volume is found that
//! was mounted after the shim began, however the host propagates. Layers are named by
//! descriptors, never by path, so that no character of a path can end an overlay option.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::namespace::{Privilege, in_host};
use crate::error::{Error, Result};

/// A container's root to be.
#[derive(Clone, Debug)]
pub struct RootSpec {
    /// Folders, the topmost first; never written to.
    pub layers: Vec<PathBuf>,
    /// Empty folders of the container's own, on one file system.
    pub upper: PathBuf,
    pub work: PathBuf,
    pub access: RootAccess,
    /// The shim's folder of devices, bound read-only at /dev.
    pub dev: PathBuf,
    pub mounts: Vec<MountSpec>,
    pub privilege: Privilege,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootAccess {
    ReadWrite,
    ReadOnly,
}

/// One folder or file of the host's inside the root.
#[derive(Clone, Debug)]
pub struct MountSpec {
    pub container_path: String,
    pub host_path: PathBuf,
    pub access: MountAccess,
    pub propagation: MountPropagation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountAccess {
    ReadWrite,
    /// This mount, not those below it.
    ReadOnly,
    RecursiveReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountPropagation {
    Private,
    /// Mounts the host makes below it later appear.
    HostToContainer,
}

/// An assembled root at a folder of the shim's namespace.
#[derive(Debug)]
pub struct Tree {
    at: PathBuf,
}

/// Mounts a small tmpfs at `at`: for the shim's own files, /dev among them.
pub fn mount_tmpfs(at: &Path) -> Result<()> {
    rustix::mount::mount(
        "wasmpod",
        at,
        "tmpfs",
        MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC,
        c"mode=0755,size=1m",
    )
    .map_err(Error::sys(format!("mounting a tmpfs at {}", at.display())))
}

/// Builds the tree at `at`, a folder made for it. On an error nothing stays mounted.
pub fn assemble(at: &Path, spec: &RootSpec) -> Result<Tree> {
    mount_overlay(at, spec)?;
    let tree = Tree { at: at.to_owned() };
    match fill(&tree, spec) {
        Ok(()) => Ok(tree),
        Err(error) => {
            tree.take_down()?;
            Err(error)
        }
    }
}

fn fill(tree: &Tree, spec: &RootSpec) -> Result<()> {
    let root = tree.open_root()?;
    let dev = MountSpec {
        container_path: "/dev".to_owned(),
        host_path: spec.dev.clone(),
        access: MountAccess::ReadOnly,
        propagation: MountPropagation::Private,
    };
    bind(root.as_fd(), &dev, &take(&dev)?, spec)?;
    // Parents before what lies below them, whatever the order they were named in.
    let mut mounts: Vec<&MountSpec> = spec.mounts.iter().collect();
    mounts.sort_by_key(|mount| Path::new(&mount.container_path).components().count());
    if !mounts.is_empty() {
        let sources =
            in_host(|| mounts.iter().map(|mount| take(mount)).collect::<Result<Vec<_>>>())?;
        for (mount, source) in mounts.into_iter().zip(sources) {
            bind(root.as_fd(), mount, &source, spec)?;
        }
    }
    if spec.access == RootAccess::ReadOnly {
        set_attributes(root.as_fd(), Reach::This, libc::MOUNT_ATTR_RDONLY, None)
            .map_err(Error::sys("making the root file system read-only"))?;
    }
    Ok(())
}

impl Tree {
    /// An O_PATH descriptor of the root's top.
    pub fn open_root(&self) -> Result<OwnedFd> {
        open_path(&self.at)
    }

    /// Unmounts everything and removes the folder. What still has descriptors open inside goes
    /// when they close. Succeeds when it is down already.
    pub fn take_down(&self) -> Result<()> {
        loop {
            match rustix::mount::unmount(&self.at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOENT) => break,
                Err(errno) => {
                    return Err(Error::sys(format!("unmounting {}", self.at.display()))(errno));
                }
            }
        }
        match std::fs::remove_dir(&self.at) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("removing {}", self.at.display()))(error))
            }
            _ => Ok(()),
        }
    }
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::sys(format!("opening {}", path.display())))
}

fn mount_overlay(at: &Path, spec: &RootSpec) -> Result<()> {
    for folder in [&spec.upper, &spec.work] {
        std::fs::create_dir_all(folder)
            .map_err(Error::io(format!("making {}", folder.display())))?;
    }
    // What a first try left here (the kernel refuses a work folder of an unsynced overlay).
    match std::fs::remove_dir_all(spec.work.join("work")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io(format!("emptying {}", spec.work.display()))(error));
        }
        _ => {}
    }
    let layers = spec.layers.iter().map(|path| open_path(path)).collect::<Result<Vec<_>>>()?;
    let (upper, work) = (open_path(&spec.upper)?, open_path(&spec.work)?);
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lower = layers.iter().map(name).collect::<Vec<_>>().join(":");
    // volatile: the upper folder is thrown away with the container, so nothing of it needs to
    // be synced, least of all at unmounting.
    let mut options =
        format!("lowerdir={lower},upperdir={},workdir={},volatile", name(&upper), name(&work));
    if spec.privilege == Privilege::UserNamespace {
        options.push_str(",userxattr");
    }
    let options = std::ffi::CString::new(options)
        .map_err(|_| Error::Internal("an overlay option holds a NUL".to_owned()))?;
    rustix::mount::mount(
        "wasmpod",
        at,
        "overlay",
        MountFlags::NODEV | MountFlags::NOSUID,
        options.as_c_str(),
    )
    .map_err(|errno| Error::Io {
        doing: format!(
            "mounting the root file system ({} layers, writable part {})",
            layers.len(),
            spec.upper.display()
        ),
        source: errno.into(),
    })
}

/// A copy of what is at a host path, with all that is mounted below it, attached nowhere yet.
struct Source {
    tree: OwnedFd,
    kind: FileType,
}

/// What the mount asks for may not be there to be had: a file where a folder is wanted, a path
/// through a file, links in a circle. That is the caller's error.
fn failed(mount: &MountSpec) -> impl Fn(Errno) -> Error + '_ {
    |errno| {
        let doing = format!("mounting {} at {}", mount.host_path.display(), mount.container_path);
        match errno {
            Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::NOENT => {
                Error::Invalid(format!("{doing}: {}", io::Error::from(errno)))
            }
            _ => Error::Io { doing, source: errno.into() },
        }
    }
}

fn take(mount: &MountSpec) -> Result<Source> {
    let named = failed(mount);
    let source = rustix::fs::open(&mount.host_path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(&named)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&source).map_err(&named)?.st_mode);
    let tree = rustix::mount::open_tree(
        &source,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE,
    )
    .map_err(&named)?;
    Ok(Source { tree, kind })
}

fn bind(root: BorrowedFd<'_>, mount: &MountSpec, source: &Source, spec: &RootSpec) -> Result<()> {
    let named = failed(mount);
    let tree = source.tree.as_fd();
    let propagation = match mount.propagation {
        MountPropagation::Private => libc::MS_PRIVATE,
        MountPropagation::HostToContainer => libc::MS_SLAVE,
    };
    let fixed = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    set_attributes(tree, Reach::Below, fixed, Some(propagation)).map_err(&named)?;
    let read_only = match mount.access {
        MountAccess::ReadWrite => None,
        MountAccess::ReadOnly => Some(Reach::This),
        MountAccess::RecursiveReadOnly => Some(Reach::Below),
    };
    if let Some(reach) = read_only {
        set_attributes(tree, reach, libc::MOUNT_ATTR_RDONLY, None).map_err(&named)?;
    }
    let target = mount_point(root, mount, spec, source.kind).map_err(&named)?;
    rustix::mount::move_mount(
        tree,
        "",
        &target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .map_err(named)
}

/// How far a mount attribute reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    This,
    /// This mount and all below it.
    Below,
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    reach: Reach,
    set: u64,
    propagation: Option<u64>,
) -> rustix::io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: propagation.unwrap_or(0),
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if reach == Reach::Below { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the struct lives through the call and its size is
    // given; the kernel writes to neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The folder or file inside the root that a mount of `kind` covers, made when it is not there.
/// Links in the path stay inside the root. A new one below /dev is made in the shim's own folder
/// of devices, since /dev itself is read-only.
fn mount_point(
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

fn in_root(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
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

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
