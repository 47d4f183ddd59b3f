//! A guest's descriptors. The lowest free number is given, as POSIX says.

use std::sync::Arc;

use super::errno::{Code, Result, Stop};
use super::socket::{Listener, Socket};
use crate::shim::ledger::DescriptorPermit;
use crate::shim::wasi::fs::{Device, Dir, File};

/// What a descriptor may be used for, as the guest is told. The C library reads a file's mode
/// out of it; the kernel enforces.
pub mod rights {
    pub const READ: u64 = 1 << 1;
    pub const SEEK: u64 = 1 << 2;
    pub const TELL: u64 = 1 << 5;
    pub const WRITE: u64 = 1 << 6;
    pub const ALLOCATE: u64 = 1 << 8;
    pub const READ_DIR: u64 = 1 << 14;
    pub const SET_SIZE: u64 = 1 << 22;
    /// All 30 that the ABI has.
    pub const ALL: u64 = (1 << 30) - 1;
    /// Those of a regular file: no paths, no listing, no sockets.
    pub const FILE: u64 = READ
        | WRITE
        | ALLOCATE
        | SET_SIZE
        | SEEK
        | TELL
        | 1 // fd_datasync
        | 1 << 3 // fd_fdstat_set_flags
        | 1 << 4 // fd_sync
        | 1 << 7 // fd_advise
        | 1 << 21 // fd_filestat_get
        | 1 << 23 // fd_filestat_set_times
        | 1 << 27; // poll_fd_readwrite
    /// Those of a file that only writing opens need.
    pub const WRITING: u64 = WRITE | ALLOCATE | SET_SIZE;
    /// Those of a folder.
    pub const DIR: u64 = ALL & !(READ | WRITE | SEEK | TELL | ALLOCATE | 1 << 28 | 1 << 29);
    /// Those of a stream. Without seek and tell, which is how the C library knows a terminal
    /// among character devices.
    pub const STREAM: u64 = FILE & !(SEEK | TELL | ALLOCATE | SET_SIZE);
    /// Those of a connection: of a stream, and sock_shutdown.
    pub const CONNECTION: u64 = STREAM | 1 << 28;
    /// Those of a listening socket: sock_accept, and to be polled as readable.
    pub const LISTENER: u64 = READ | 1 << 3 | 1 << 21 | 1 << 27 | 1 << 29;
}

/// Flags of an open descriptor.
pub mod flags {
    pub const APPEND: u16 = 1;
    pub const DSYNC: u16 = 2;
    pub const NONBLOCK: u16 = 4;
    pub const RSYNC: u16 = 8;
    pub const SYNC: u16 = 16;
}

pub enum Descriptor {
    Stdin,
    Stdout,
    Stderr,
    File(File),
    Dir(Arc<Dir>, Preopen),
    /// None of the streams.
    Device(Device),
    /// Of those that the module begins with.
    Listener(Arc<Listener>),
    Connection(Socket),
}

/// Which of the folders that a guest begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preopen {
    No,
    Root,
    WorkingDir,
}

impl Preopen {
    /// What the guest's library is told that the folder is.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::No => None,
            Self::Root => Some("/"),
            Self::WorkingDir => Some("."),
        }
    }
}

/// An open descriptor with what the guest asked of it.
pub struct Entry {
    pub descriptor: Descriptor,
    pub rights: u64,
    pub flags: u16,
    /// Counts it among the container's descriptors where it costs none of the host's.
    pub _permit: Option<DescriptorPermit>,
}

impl Entry {
    pub fn new(descriptor: Descriptor, rights: u64) -> Self {
        Self { descriptor, rights, flags: 0, _permit: None }
    }

    pub fn dir(&self) -> Result<&Arc<Dir>> {
        match &self.descriptor {
            Descriptor::Dir(dir, _) => Ok(dir),
            _ => Err(Code::NOT_DIRECTORY.into()),
        }
    }

    /// The regular file; what it is not is told apart as Linux does.
    pub fn file(&self) -> Result<&File> {
        match &self.descriptor {
            Descriptor::File(file) => Ok(file),
            Descriptor::Dir(..) => Err(Code::IS_DIRECTORY.into()),
            _ => Err(Code::INVALID.into()),
        }
    }
}

#[derive(Default)]
pub struct Table(Vec<Option<Entry>>);

impl Table {
    pub fn get(&self, fd: u32) -> Result<&Entry> {
        self.0.get(fd as usize).and_then(Option::as_ref).ok_or(Stop::Code(Code::BAD_DESCRIPTOR))
    }

    pub fn get_mut(&mut self, fd: u32) -> Result<&mut Entry> {
        let entry = self.0.get_mut(fd as usize).and_then(Option::as_mut);
        entry.ok_or(Stop::Code(Code::BAD_DESCRIPTOR))
    }

    /// Every entry holds a permit or is one of the few a guest begins with, so the table stays
    /// as small as the container's descriptors.
    pub fn add(&mut self, entry: Entry) -> u32 {
        if let Some(free) = self.0.iter().position(Option::is_none) {
            if let Some(slot) = self.0.get_mut(free) {
                *slot = Some(entry);
            }
            return free as u32;
        }
        self.0.push(Some(entry));
        (self.0.len() - 1) as u32
    }

    pub fn close(&mut self, fd: u32) -> Result<Entry> {
        let slot = self.0.get_mut(fd as usize).and_then(Option::take);
        slot.ok_or(Stop::Code(Code::BAD_DESCRIPTOR))
    }

    /// Moves `from` to `to`, which is open too and is closed by it.
    pub fn renumber(&mut self, from: u32, to: u32) -> Result<()> {
        self.get(to)?;
        let moved = self.close(from)?;
        *self.0.get_mut(to as usize).ok_or(Stop::Code(Code::BAD_DESCRIPTOR))? = Some(moved);
        Ok(())
    }
}
