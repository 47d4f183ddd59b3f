//! A container's root: an overlay of the image's layers and the kubelet's mounts, a true kernel
//! mount tree inside the shim's own mount namespace. Knows nothing of guests.
//!
//! What is bound is taken from the host's own namespace at that moment, so a volume is found that
//! was mounted after the shim began, however the host propagates. Layers are named by
//! descriptors, never by path, so that no character of a path can end an overlay option.
#![allow(unsafe_code)]

mod cover;
mod image;
mod place;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

pub use self::cover::Covers;
pub use self::image::ImageSource;
use self::place::{in_root, mount_point};
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
    /// Put over all that.
    pub covers: Covers,
    pub privilege: Privilege,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootAccess {
    ReadWrite,
    ReadOnly,
}

/// One folder or file of the host's, or an image, inside the root.
#[derive(Clone, Debug)]
pub struct MountSpec {
    pub container_path: String,
    pub host_path: PathBuf,
    /// Then `host_path` says nothing.
    pub image: Option<ImageSource>,
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
    let images = spec.mounts.iter().map(|mount| take_image(mount, at)).collect::<Result<_>>()?;
    mount_overlay(at, spec)?;
    let tree = Tree { at: at.to_owned() };
    match fill(&tree, spec, images) {
        Ok(()) => Ok(tree),
        Err(error) => {
            tree.take_down()?;
            Err(error)
        }
    }
}

/// `images`: of each mount that is one.
fn fill(tree: &Tree, spec: &RootSpec, images: Vec<Option<Source>>) -> Result<()> {
    let root = tree.open_root()?;
    let dev = MountSpec {
        container_path: "/dev".to_owned(),
        host_path: spec.dev.clone(),
        image: None,
        access: MountAccess::ReadOnly,
        propagation: MountPropagation::Private,
    };
    bind(root.as_fd(), &dev, &take(&dev)?, spec)?;
    // Parents before what lies below them, whatever the order they were named in.
    let mut mounts: Vec<_> = spec.mounts.iter().zip(images).collect();
    mounts.sort_by_key(|(mount, _)| Path::new(&mount.container_path).components().count());
    if !mounts.is_empty() {
        let bound = in_host(|| {
            let taken =
                |(mount, image)| Ok((mount, Option::map_or_else(image, || take(mount), Ok)?));
            mounts.into_iter().map(taken).collect::<Result<Vec<_>>>()
        })?;
        for (mount, source) in bound {
            bind(root.as_fd(), mount, &source, spec)?;
        }
    }
    cover::cover(root.as_fd(), &spec.covers, &spec.dev)?;
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
    // volatile: the upper folder is thrown away with the container, so nothing of it needs to
    // be synced, least of all at unmounting.
    let mut options = format!(
        "{},upperdir={},workdir={},volatile",
        lower_dirs(&layers),
        name(&upper),
        name(&work)
    );
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

/// The path of an open file or folder, without any character that means something in an option.
fn name(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The overlay option that names layers, the topmost first.
fn lower_dirs(layers: &[OwnedFd]) -> String {
    format!("lowerdir={}", layers.iter().map(name).collect::<Vec<_>>().join(":"))
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
    let tree = clone_tree(&source).map_err(&named)?;
    Ok(Source { kind: kind_of(&source).map_err(&named)?, tree })
}

/// As [`take`], for a mount that is an image; `at` is an empty folder that nobody uses yet.
fn take_image(mount: &MountSpec, at: &Path) -> Result<Option<Source>> {
    let Some(image) = &mount.image else { return Ok(None) };
    let tree = image::take(image, at)?;
    Ok(Some(Source { kind: kind_of(&tree).map_err(failed(mount))?, tree }))
}

fn kind_of(file: &OwnedFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

/// A copy of a mount from this file or folder on, with all that is mounted below it.
fn clone_tree(at: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    rustix::mount::open_tree(
        at,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE,
    )
}

/// Mounts a tree over a file or folder.
fn put(tree: BorrowedFd<'_>, over: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", over, "", flags)
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
        _ if mount.image.is_some() => Some(Reach::Below),
        MountAccess::ReadWrite => None,
        MountAccess::ReadOnly => Some(Reach::This),
        MountAccess::RecursiveReadOnly => Some(Reach::Below),
    };
    if let Some(reach) = read_only {
        set_attributes(tree, reach, libc::MOUNT_ATTR_RDONLY, None).map_err(&named)?;
    }
    let target = mount_point(root, mount, spec, source.kind).map_err(&named)?;
    put(tree, target.as_fd()).map_err(named)
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

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
