//! Resolution of paths under one root, and every operation that takes a path.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::dir::Place;
use super::path::{self, Split};
use super::{
    Create, Devices, Dir, Durability, File, Follow, Kind, Node, OpenOptions, Result, SetTimes, Stat,
};
use crate::shim::ledger::Ledger;

/// A container's root: the top of its mount tree. Shared by its guest and its execs.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    ledger: Arc<Ledger>,
    pub(super) devices: Arc<Devices>,
}

/// How often a look-up is begun anew that a rename or mount elsewhere disturbed (EAGAIN).
const ATTEMPTS: usize = 256;

/// Files and folders get what the umask leaves.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const DIR_MODE: Mode = Mode::from_raw_mode(0o777);

/// An O_PATH descriptor: it names a file without opening it.
const NAME: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A folder in which a last name is to be made, moved or removed.
enum Parent<'a> {
    Given(BorrowedFd<'a>),
    Found(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Given(fd) => *fd,
            Self::Found(fd) => fd.as_fd(),
        }
    }
}

impl Root {
    /// `dir` is a descriptor (O_PATH will do) of the top of the mount tree.
    pub fn new(dir: OwnedFd, ledger: Arc<Ledger>, devices: Arc<Devices>) -> Self {
        Self { dir, ledger, devices }
    }

    /// The folder "/". Takes no descriptor from the guest's share.
    pub fn top(&self) -> Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match self.in_root(b".", flags) {
            // A folder that may be passed but not listed.
            Err(Errno::ACCESS) => self.in_root(b".", NAME)?,
            opened => opened?,
        };
        Ok(Dir::new(fd, Place::Top, self.devices.clone(), None))
    }

    /// Opens a regular file, folder or device; anything else is EOPNOTSUPP. Never waits.
    /// EMFILE when the guest has as many descriptors as it may.
    pub fn open(&self, dir: &Dir, path: &[u8], options: &OpenOptions) -> Result<Node> {
        path::check(path)?;
        let permit = self.ledger.descriptor().ok_or(Errno::MFILE)?;
        let flags = open_flags(options)?;
        let fd = match self.resolve(dir, path, flags) {
            // Devices take writes on a read-only /dev too.
            Err(error @ (Errno::ROFS | Errno::ACCESS)) if options.create != Create::New => {
                let device = self.device(dir, path, options.follow).ok().flatten();
                return device.map(Node::Device).ok_or(error);
            }
            opened => opened?,
        };
        let stat = Stat::from(rustix::fs::fstat(&fd)?);
        match stat.kind {
            Kind::File => Ok(match self.devices.find(stat.device, stat.inode) {
                Some(device) => Node::Device(device),
                None => Node::File(File::new(fd, permit)),
            }),
            Kind::Dir => {
                Ok(Node::Dir(Dir::new(fd, Place::Below, self.devices.clone(), Some(permit))))
            }
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    pub fn stat(&self, dir: &Dir, path: &[u8], follow: Follow) -> Result<Stat> {
        let fd = self.name(dir, path, follow)?;
        Ok(self.devices.dress(rustix::fs::fstat(fd)?.into()))
    }

    pub fn set_times(&self, dir: &Dir, path: &[u8], follow: Follow, times: SetTimes) -> Result<()> {
        let times = times.timestamps()?;
        let fd = self.name(dir, path, follow)?;
        rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)
    }

    pub fn make_dir(&self, dir: &Dir, path: &[u8]) -> Result<()> {
        let split = path::split(path)?;
        rustix::fs::mkdirat(self.parent(dir, &split)?, split.name, DIR_MODE)
    }

    /// Makes every folder of `path` that is missing. ENOTDIR when one of its names is something
    /// else.
    pub fn make_dirs(&self, dir: &Dir, path: &[u8]) -> Result<()> {
        path::check(path)?;
        let slashes = path.iter().enumerate().skip(1).filter(|&(_, &byte)| byte == b'/');
        for end in slashes.map(|(index, _)| index).chain([path.len()]) {
            match self.make_dir(dir, path.get(..end).unwrap_or(path)) {
                Ok(()) | Err(Errno::EXIST) => {}
                // Where nothing may be made it may be there nevertheless.
                Err(Errno::ROFS | Errno::ACCESS) if end < path.len() => {}
                Err(error) => return Err(error),
            }
        }
        match self.stat(dir, path, Follow::Yes)?.kind {
            Kind::Dir => Ok(()),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub fn remove_dir(&self, dir: &Dir, path: &[u8]) -> Result<()> {
        let split = path::split(path)?;
        if split.is_root {
            return Err(Errno::BUSY);
        }
        rustix::fs::unlinkat(self.parent(dir, &split)?, split.name, AtFlags::REMOVEDIR)
    }

    pub fn unlink(&self, dir: &Dir, path: &[u8]) -> Result<()> {
        let split = path::split(path)?;
        rustix::fs::unlinkat(self.parent(dir, &split)?, split.name, AtFlags::empty())
    }

    pub fn rename(&self, from: (&Dir, &[u8]), to: (&Dir, &[u8])) -> Result<()> {
        let (old, new) = (path::split(from.1)?, path::split(to.1)?);
        let (old_parent, new_parent) = (self.parent(from.0, &old)?, self.parent(to.0, &new)?);
        let flags = RenameFlags::empty();
        rustix::fs::renameat_with(old_parent, old.name, new_parent, new.name, flags)
    }

    /// Makes `to` a second name of the file that `from` names, or that the link there leads to.
    pub fn link(&self, from: (&Dir, &[u8]), follow: Follow, to: (&Dir, &[u8])) -> Result<()> {
        let old = self.name(from.0, from.1, follow)?;
        let new = path::split(to.1)?;
        let parent = self.parent(to.0, &new)?;
        // By /proc, because AT_EMPTY_PATH asks for a capability on older kernels.
        rustix::fs::linkat(CWD, descriptor(&old), parent, new.name, AtFlags::SYMLINK_FOLLOW)
    }

    /// `target` is any text: it is looked up when the link is followed, inside the root.
    pub fn symlink(&self, target: &[u8], dir: &Dir, path: &[u8]) -> Result<()> {
        path::check(target)?;
        let split = path::split(path)?;
        rustix::fs::symlinkat(target, self.parent(dir, &split)?, split.name)
    }

    /// A link's text. EINVAL when it is none.
    pub fn read_link(&self, dir: &Dir, path: &[u8]) -> Result<Vec<u8>> {
        let fd = self.name(dir, path, Follow::No)?;
        match rustix::fs::readlinkat(fd, c"", Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            // What the kernel says of an empty path that is no link.
            Err(Errno::NOENT) => Err(Errno::INVAL),
            Err(error) => Err(error),
        }
    }

    /// The device that a path names.
    fn device(&self, dir: &Dir, path: &[u8], follow: Follow) -> Result<Option<super::Device>> {
        let stat = Stat::from(rustix::fs::fstat(self.name(dir, path, follow)?)?);
        Ok(self.devices.find(stat.device, stat.inode))
    }

    fn name(&self, dir: &Dir, path: &[u8], follow: Follow) -> Result<OwnedFd> {
        let flags = if follow == Follow::No { NAME | OFlags::NOFOLLOW } else { NAME };
        self.resolve(dir, path, flags)
    }

    fn parent<'a>(&self, dir: &'a Dir, split: &Split<'_>) -> Result<Parent<'a>> {
        let Some(parent) = split.parent else { return Ok(Parent::Given(dir.as_fd())) };
        self.resolve(dir, parent, NAME | OFlags::DIRECTORY).map(Parent::Found)
    }

    /// Opens `path` as a process would whose root this is and whose working directory `dir` is.
    fn resolve(&self, dir: &Dir, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
        path::check(path)?;
        if dir.place() == Place::Top || path.starts_with(b"/") {
            return self.in_root(path, flags);
        }
        let scope = ResolveFlags::BENEATH;
        match open_scoped(dir.as_fd(), path, flags, scope) {
            // A `..` above the folder or an absolute link: both are looked up from the root.
            Err(Errno::XDEV) => {
                let mut whole = self.path_of(dir)?;
                whole.push(b'/');
                whole.extend_from_slice(path);
                path::check(&whole)?;
                self.in_root(&whole, flags)
            }
            opened => opened,
        }
    }

    fn in_root(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
        open_scoped(self.dir.as_fd(), path, flags, ResolveFlags::IN_ROOT)
    }

    /// Where `dir` is now, from the root on. ENOENT when it is removed or no longer below it.
    fn path_of(&self, dir: &Dir) -> Result<Vec<u8>> {
        let top = rustix::fs::readlink(descriptor(&self.dir), Vec::new())?.into_bytes();
        let top = top.strip_suffix(b"/").unwrap_or(&top);
        let own = rustix::fs::readlink(descriptor(&dir.as_fd()), Vec::new())?.into_bytes();
        let below = own.strip_prefix(top).filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
        let mut path = below.ok_or(Errno::NOENT)?.to_vec();
        if path.is_empty() {
            path.push(b'/');
        }
        // The kernel's text may be stale, or of a folder that is gone ("/a (deleted)").
        let there = rustix::fs::fstat(self.in_root(&path, NAME)?)?;
        let here = rustix::fs::fstat(dir.as_fd())?;
        let same = there.st_dev == here.st_dev && there.st_ino == here.st_ino;
        if same { Ok(path) } else { Err(Errno::NOENT) }
    }
}

/// This thread's own name of a descriptor.
fn descriptor(fd: &impl AsFd) -> String {
    format!("/proc/thread-self/fd/{}", fd.as_fd().as_raw_fd())
}

fn open_scoped(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    scope: ResolveFlags,
) -> Result<OwnedFd> {
    let resolve = scope | ResolveFlags::NO_MAGICLINKS;
    // The kernel refuses a mode where nothing can be created.
    let mode = if flags.contains(OFlags::CREATE) { FILE_MODE } else { Mode::empty() };
    for _ in 0..ATTEMPTS {
        match rustix::fs::openat2(dir, path, flags, mode, resolve) {
            Err(Errno::AGAIN) => std::thread::yield_now(),
            // Within the root: what was found has left it meanwhile.
            Err(Errno::XDEV) if scope == ResolveFlags::IN_ROOT => std::thread::yield_now(),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

fn open_flags(options: &OpenOptions) -> Result<OFlags> {
    let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    flags |= match (options.read, options.write || options.append) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    match options.create {
        Create::Never => {}
        // The kernel's answer to this depends on its version.
        _ if options.directory => return Err(Errno::INVAL),
        Create::IfMissing => flags |= OFlags::CREATE,
        Create::New => flags |= OFlags::CREATE | OFlags::EXCL,
    }
    flags.set(OFlags::TRUNC, options.truncate);
    flags.set(OFlags::APPEND, options.append);
    flags.set(OFlags::DIRECTORY, options.directory);
    flags.set(OFlags::NOFOLLOW, options.follow == Follow::No);
    match options.durability {
        Durability::Cached => {}
        Durability::Data => flags |= OFlags::DSYNC,
        Durability::All => flags |= OFlags::SYNC,
    }
    Ok(flags)
}
