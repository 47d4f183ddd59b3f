//! The calls that take paths.

use std::sync::Arc;

use super::descriptor::encode_stat;
use super::errno::{Code, Result};
use super::memory::Span;
use super::table::{Descriptor, Entry, Preopen, flags, rights};
use super::{Call, Guest};
use crate::shim::wasi::fs::{
    Create, Device, Dir, Durability, Follow, Node, OpenOptions, SetTimes, uninterrupted,
};
use crate::shim::wasi::working_dir::{Spelling, meant};

/// `lookupflags`: the last name's link is followed.
const FOLLOW: u32 = 1;

/// `oflags`.
const CREATE: u32 = 1;
const DIRECTORY: u32 = 2;
const EXCLUSIVE: u32 = 4;
const TRUNCATE: u32 = 8;

/// A path as the guest gives it: a descriptor, and where its text is.
#[derive(Clone, Copy)]
pub struct Path {
    pub fd: u32,
    pub at: u32,
    pub length: u32,
}

/// What `lookupflags` say.
pub fn follow(flags: u32) -> Follow {
    if flags & FOLLOW != 0 { Follow::Yes } else { Follow::No }
}

impl Call<'_> {
    /// The folder to start from and the path's text.
    fn path(&self, path: Path) -> Result<(&Dir, &[u8])> {
        let text = self.memory.bytes(Span { at: path.at, length: path.length })?;
        let Descriptor::Dir(dir, preopen) = &self.guest.table.get(path.fd)?.descriptor else {
            return Err(Code::NOT_DIRECTORY.into());
        };
        let dir = match preopen {
            Preopen::WorkingDir => {
                let spelling = Spelling::read(self.memory.before(path.at), path.at);
                meant(&self.guest.root, (&self.guest.top, dir), text, spelling)
            }
            Preopen::No | Preopen::Root => dir,
        };
        Ok((dir, text))
    }
}

pub fn path_create_directory(call: &mut Call<'_>, path: Path) -> Result<()> {
    let (dir, path) = call.path(path)?;
    Ok(uninterrupted(&call.guest.kill, || call.guest.root.make_dir(dir, path))?)
}

pub fn path_filestat_get(call: &mut Call<'_>, path: Path, follow: Follow, to: u32) -> Result<()> {
    let (dir, path) = call.path(path)?;
    let Guest { root, kill, .. } = &*call.guest;
    let stat = uninterrupted(kill, || root.stat(dir, path, follow))?;
    call.memory.put(to, &encode_stat(&stat))
}

pub fn path_filestat_set_times(
    call: &mut Call<'_>,
    path: Path,
    follow: Follow,
    times: SetTimes,
) -> Result<()> {
    let (dir, path) = call.path(path)?;
    let Guest { root, kill, .. } = &*call.guest;
    Ok(uninterrupted(kill, || root.set_times(dir, path, follow, times))?)
}

pub fn path_link(call: &mut Call<'_>, from: Path, follow: Follow, to: Path) -> Result<()> {
    let (from, to) = (call.path(from)?, call.path(to)?);
    let Guest { root, kill, .. } = &*call.guest;
    Ok(uninterrupted(kill, || root.link(from, follow, to))?)
}

pub fn path_readlink(call: &mut Call<'_>, path: Path, to: Span, used: u32) -> Result<()> {
    let (dir, path) = call.path(path)?;
    let Guest { root, kill, .. } = &*call.guest;
    let mut target = uninterrupted(kill, || root.read_link(dir, path))?;
    target.truncate(to.length as usize);
    call.memory.bytes(to)?;
    call.memory.put(to.at, &target)?;
    call.memory.put_u32(used, target.len() as u32)
}

pub fn path_remove_directory(call: &mut Call<'_>, path: Path) -> Result<()> {
    let (dir, path) = call.path(path)?;
    Ok(uninterrupted(&call.guest.kill, || call.guest.root.remove_dir(dir, path))?)
}

pub fn path_rename(call: &mut Call<'_>, from: Path, to: Path) -> Result<()> {
    let (from, to) = (call.path(from)?, call.path(to)?);
    Ok(uninterrupted(&call.guest.kill, || call.guest.root.rename(from, to))?)
}

pub fn path_symlink(call: &mut Call<'_>, target: Span, path: Path) -> Result<()> {
    let target = call.memory.bytes(target)?;
    let (dir, path) = call.path(path)?;
    Ok(uninterrupted(&call.guest.kill, || call.guest.root.symlink(target, dir, path))?)
}

pub fn path_unlink_file(call: &mut Call<'_>, path: Path) -> Result<()> {
    let (dir, path) = call.path(path)?;
    Ok(uninterrupted(&call.guest.kill, || call.guest.root.unlink(dir, path))?)
}

/// How `path_open` is to open.
pub struct Opening {
    pub follow: u32,
    pub oflags: u32,
    pub rights: u64,
    pub flags: u32,
}

impl Opening {
    fn options(&self) -> Result<OpenOptions> {
        let directory = self.oflags & DIRECTORY != 0;
        let has = |flag: u16| self.flags & u32::from(flag) != 0;
        let known = flags::APPEND | flags::DSYNC | flags::NONBLOCK | flags::RSYNC | flags::SYNC;
        let unknown = self.flags & !u32::from(known) != 0
            || self.oflags & !(CREATE | DIRECTORY | EXCLUSIVE | TRUNCATE) != 0;
        if unknown {
            return Err(Code::INVALID.into());
        }
        Ok(OpenOptions {
            read: self.rights & (rights::READ | rights::READ_DIR) != 0,
            // Folders are asked for with all rights.
            write: !directory && self.rights & rights::WRITING != 0,
            append: !directory && has(flags::APPEND) && self.rights & rights::WRITING != 0,
            create: match (self.oflags & CREATE != 0, self.oflags & EXCLUSIVE != 0) {
                (false, _) => Create::Never,
                (true, false) => Create::IfMissing,
                (true, true) => Create::New,
            },
            truncate: self.oflags & TRUNCATE != 0,
            directory,
            follow: follow(self.follow),
            durability: match (has(flags::SYNC) || has(flags::RSYNC), has(flags::DSYNC)) {
                (true, _) => Durability::All,
                (false, true) => Durability::Data,
                (false, false) => Durability::Cached,
            },
        })
    }
}

pub fn path_open(call: &mut Call<'_>, path: Path, opening: &Opening, to: u32) -> Result<()> {
    let options = opening.options()?;
    // Asked before, so that no descriptor is lost in a call that fails for its last address.
    call.memory.bytes(Span { at: to, length: 4 })?;
    let (dir, path) = call.path(path)?;
    let Guest { root, kill, ledger, .. } = &*call.guest;
    let node = uninterrupted(kill, || root.open(dir, path, &options))?;
    let mut entry = match node {
        Node::File(file) => {
            let mut allowed = rights::FILE;
            if !options.write {
                allowed &= !rights::WRITING;
            }
            if options.write && !options.read {
                allowed &= !rights::READ;
            }
            Entry::new(Descriptor::File(file), allowed)
        }
        Node::Dir(dir) => Entry::new(Descriptor::Dir(Arc::new(dir), Preopen::No), rights::DIR),
        Node::Device(device) => Entry {
            _permit: Some(ledger.descriptor().ok_or(Code::TOO_MANY_DESCRIPTORS)?),
            ..Entry::new(stream(device), rights::STREAM)
        },
    };
    entry.flags = opening.flags as u16;
    let fd = call.guest.table.add(entry);
    call.memory.put_u32(to, fd)
}

fn stream(device: Device) -> Descriptor {
    match device {
        Device::Stdin => Descriptor::Stdin,
        Device::Stdout => Descriptor::Stdout,
        Device::Stderr => Descriptor::Stderr,
        Device::Null | Device::Zero | Device::Full | Device::Random => Descriptor::Device(device),
    }
}
