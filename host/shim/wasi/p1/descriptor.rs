//! The calls on open descriptors that move no data, and listing folders.

use std::ops::Range;

use super::errno::{Code, Result};
use super::memory::Span;
use super::table::{Descriptor, Entry, flags};
use super::{Call, Guest};
use crate::shim::wasi::fs::{Advice, Kind, SetTime, SetTimes, Stat, Timestamp, uninterrupted};

/// Bytes of a `dirent` before its name.
const DIRENT: usize = 24;

/// A `prestat` tag that is not a folder's, which is 0.
const NO_FOLDER: u8 = 1;

/// `fstflags`: which times to set, and to what.
const ACCESSED: u32 = 1;
const ACCESSED_NOW: u32 = 2;
const MODIFIED: u32 = 4;
const MODIFIED_NOW: u32 = 8;

/// The ABI's `filetype`. A FIFO has none of its own.
fn file_type(kind: Kind) -> u8 {
    match kind {
        Kind::Unknown | Kind::Fifo => 0,
        Kind::BlockDevice => 1,
        Kind::CharacterDevice => 2,
        Kind::Dir => 3,
        Kind::File => 4,
        Kind::Socket => 6,
        Kind::Symlink => 7,
    }
}

/// What a descriptor is, as the guest is told.
///
/// Standard output is a character device that cannot seek, which the C library takes for a
/// terminal: only then does printf write line by line, and a log that shows a line when it is
/// printed is worth more than programs that tell a terminal from a pipe. Standard error is
/// never buffered and input is not to look interactive, so neither pretends.
fn kind(descriptor: &Descriptor) -> Kind {
    match descriptor {
        Descriptor::Stdout | Descriptor::Device(_) => Kind::CharacterDevice,
        Descriptor::Stdin | Descriptor::Stderr => Kind::Unknown,
        Descriptor::File(_) => Kind::File,
        Descriptor::Dir(..) => Kind::Dir,
        Descriptor::Listener(_) | Descriptor::Connection(_) => Kind::Socket,
    }
}

pub fn fd_advise(call: &mut Call<'_>, fd: u32, range: Range<u64>, advice: u32) -> Result<()> {
    let advice = match advice {
        0 => Advice::Normal,
        1 => Advice::Sequential,
        2 => Advice::Random,
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        5 => Advice::NoReuse,
        _ => return Err(Code::INVALID.into()),
    };
    let length = range.end - range.start;
    Ok(call.guest.table.get(fd)?.file()?.advise(range.start, length, advice)?)
}

pub fn fd_allocate(call: &mut Call<'_>, fd: u32, offset: u64, length: u64) -> Result<()> {
    let Guest { table, kill, .. } = &*call.guest;
    let file = table.get(fd)?.file()?;
    Ok(uninterrupted(kill, || file.allocate(offset, length))?)
}

pub fn fd_close(call: &mut Call<'_>, fd: u32) -> Result<()> {
    call.guest.table.close(fd).map(drop)
}

pub fn fd_datasync(call: &mut Call<'_>, fd: u32) -> Result<()> {
    let Guest { table, kill, .. } = &*call.guest;
    match &table.get(fd)?.descriptor {
        Descriptor::Dir(dir, _) => uninterrupted(kill, || dir.sync())?,
        Descriptor::File(file) => uninterrupted(kill, || file.sync_data())?,
        _ => return Err(Code::INVALID.into()),
    }
    Ok(())
}

pub fn fd_sync(call: &mut Call<'_>, fd: u32) -> Result<()> {
    let Guest { table, kill, .. } = &*call.guest;
    match &table.get(fd)?.descriptor {
        Descriptor::Dir(dir, _) => uninterrupted(kill, || dir.sync())?,
        Descriptor::File(file) => uninterrupted(kill, || file.sync_all())?,
        _ => return Err(Code::INVALID.into()),
    }
    Ok(())
}

pub fn fd_fdstat_get(call: &mut Call<'_>, fd: u32, to: u32) -> Result<()> {
    let entry = call.guest.table.get(fd)?;
    if let Descriptor::Listener(listener) = &entry.descriptor {
        listener.tell();
    }
    let [low, high] = entry.flags.to_le_bytes();
    let mut stat = [0; 24];
    put(&mut stat, 0, &[file_type(kind(&entry.descriptor)), 0, low, high]);
    put(&mut stat, 8, &entry.rights.to_le_bytes());
    put(&mut stat, 16, &entry.inherited().to_le_bytes());
    call.memory.put(to, &stat)
}

/// Only `append` and `nonblock` can change; nothing here ever blocks for being a file, so
/// `nonblock` is just remembered.
pub fn fd_fdstat_set_flags(call: &mut Call<'_>, fd: u32, wanted: u32) -> Result<()> {
    let entry = call.guest.table.get_mut(fd)?;
    let fixed = flags::DSYNC | flags::RSYNC | flags::SYNC;
    let wanted = u16::try_from(wanted).map_err(|_| Code::INVALID)?;
    if wanted & !(fixed | flags::APPEND | flags::NONBLOCK) != 0 {
        return Err(Code::INVALID.into());
    }
    if (wanted ^ entry.flags) & fixed != 0 {
        return Err(Code::NOT_SUPPORTED.into());
    }
    if let Descriptor::File(file) = &entry.descriptor {
        file.set_append(wanted & flags::APPEND != 0)?;
    }
    if let Descriptor::Listener(listener) = &entry.descriptor {
        listener.tell();
    }
    entry.flags = wanted;
    Ok(())
}

/// Rights can only be given up.
pub fn fd_fdstat_set_rights(
    call: &mut Call<'_>,
    fd: u32,
    base: u64,
    inheriting: u64,
) -> Result<()> {
    let entry = call.guest.table.get_mut(fd)?;
    if base & !entry.rights != 0 || inheriting & !entry.inherited() != 0 {
        return Err(Code::NOT_CAPABLE.into());
    }
    entry.rights = base;
    Ok(())
}

pub fn fd_filestat_get(call: &mut Call<'_>, fd: u32, to: u32) -> Result<()> {
    let entry = call.guest.table.get(fd)?;
    let stat = match &entry.descriptor {
        Descriptor::File(file) => encode_stat(&file.stat()?),
        Descriptor::Dir(dir, _) => encode_stat(&dir.stat()?),
        stream => {
            let mut stat = [0; 64];
            put(&mut stat, 16, &[file_type(kind(stream))]);
            stat
        }
    };
    call.memory.put(to, &stat)
}

pub fn fd_filestat_set_size(call: &mut Call<'_>, fd: u32, size: u64) -> Result<()> {
    let Guest { table, kill, .. } = &*call.guest;
    let file = table.get(fd)?.file()?;
    Ok(uninterrupted(kill, || file.set_len(size))?)
}

pub fn fd_filestat_set_times(call: &mut Call<'_>, fd: u32, times: SetTimes) -> Result<()> {
    match &call.guest.table.get(fd)?.descriptor {
        Descriptor::File(file) => file.set_times(times)?,
        Descriptor::Dir(dir, _) => dir.set_times(times)?,
        _ => return Err(Code::INVALID.into()),
    }
    Ok(())
}

/// Libraries ask number after number from 3 on until they hear `badf`; of a listening socket they
/// hear that it is no folder, and go on.
pub fn fd_prestat_get(call: &mut Call<'_>, fd: u32, to: u32) -> Result<()> {
    if let Descriptor::Listener(_) = call.guest.table.get(fd)?.descriptor {
        let mut prestat = [0; 8];
        put(&mut prestat, 0, &[NO_FOLDER]);
        return call.memory.put(to, &prestat);
    }
    let length = preopen(call.guest, fd)?.len() as u32;
    // A zero tag, padded: it is a folder.
    let mut prestat = [0; 8];
    put(&mut prestat, 4, &length.to_le_bytes());
    call.memory.put(to, &prestat)
}

pub fn fd_prestat_dir_name(call: &mut Call<'_>, fd: u32, to: Span) -> Result<()> {
    let name = preopen(call.guest, fd)?;
    if name.len() > to.length as usize {
        return Err(Code::NAME_TOO_LONG.into());
    }
    call.memory.put(to.at, name.as_bytes())
}

fn preopen(guest: &Guest, fd: u32) -> Result<&'static str> {
    match &guest.table.get(fd)?.descriptor {
        Descriptor::Dir(_, preopen) => Ok(preopen.name().ok_or(Code::BAD_DESCRIPTOR)?),
        _ => Err(Code::BAD_DESCRIPTOR.into()),
    }
}

/// Fills the guest's buffer; the last entry may be cut, and a buffer not full is the end.
pub fn fd_readdir(call: &mut Call<'_>, fd: u32, to: Span, cookie: u64, used: u32) -> Result<()> {
    let Guest { table, kill, .. } = &*call.guest;
    let dir = table.get(fd)?.dir()?;
    let mut left = call.memory.bytes_mut(to)?;
    let mut cookie = cookie;
    while !left.is_empty() {
        kill.check()?;
        let entries = uninterrupted(kill, || dir.entries(cookie))?;
        let Some(last) = entries.last() else { break };
        cookie = last.cookie;
        for entry in &entries {
            let mut head = [0; DIRENT];
            put(&mut head, 0, &entry.cookie.to_le_bytes());
            put(&mut head, 8, &entry.inode.to_le_bytes());
            put(&mut head, 16, &(entry.name.len() as u32).to_le_bytes());
            put(&mut head, 20, &[file_type(entry.kind)]);
            left = copy(copy(left, &head), &entry.name);
        }
    }
    let filled = to.length - left.len() as u32;
    call.memory.put_u32(used, filled)
}

/// Copies as much as fits; the rest of `to`.
pub fn copy<'a>(to: &'a mut [u8], from: &[u8]) -> &'a mut [u8] {
    let (now, later) = to.split_at_mut(to.len().min(from.len()));
    for (to, from) in now.iter_mut().zip(from) {
        *to = *from;
    }
    later
}

pub fn fd_renumber(call: &mut Call<'_>, from: u32, to: u32) -> Result<()> {
    call.guest.table.renumber(from, to)
}

impl Entry {
    /// What descriptors opened below this one may do.
    fn inherited(&self) -> u64 {
        match self.descriptor {
            Descriptor::Dir(..) => super::rights::ALL,
            _ => 0,
        }
    }
}

/// The ABI's `filestat`.
pub fn encode_stat(stat: &Stat) -> [u8; 64] {
    let mut bytes = [0; 64];
    put(&mut bytes, 0, &stat.device.to_le_bytes());
    put(&mut bytes, 8, &stat.inode.to_le_bytes());
    put(&mut bytes, 16, &[file_type(stat.kind)]);
    put(&mut bytes, 24, &stat.links.to_le_bytes());
    put(&mut bytes, 32, &stat.size.to_le_bytes());
    put(&mut bytes, 40, &stat.accessed.as_nanoseconds().to_le_bytes());
    put(&mut bytes, 48, &stat.modified.as_nanoseconds().to_le_bytes());
    put(&mut bytes, 56, &stat.changed.as_nanoseconds().to_le_bytes());
    bytes
}

/// Writes a field of a structure whose size and fields are constants.
pub fn put(structure: &mut [u8], at: usize, field: &[u8]) {
    if let Some(to) = structure.get_mut(at..at + field.len()) {
        to.copy_from_slice(field);
    }
}

/// What `fstflags` and two times in nanoseconds ask for.
pub fn times(accessed: u64, modified: u64, flags: u32) -> Result<SetTimes> {
    let one = |set: u32, now: u32, to: u64| match (flags & set != 0, flags & now != 0) {
        (false, false) => Ok(SetTime::Keep),
        (true, false) => Ok(SetTime::To(Timestamp::from_nanoseconds(to))),
        (false, true) => Ok(SetTime::Now),
        (true, true) => Err(Code::INVALID),
    };
    Ok(SetTimes {
        accessed: one(ACCESSED, ACCESSED_NOW, accessed)?,
        modified: one(MODIFIED, MODIFIED_NOW, modified)?,
    })
}
