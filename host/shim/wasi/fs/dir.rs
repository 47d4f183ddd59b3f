//! One open folder. Paths are resolved from it by `Root`.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{RawDir, SeekFrom};

use super::{Devices, Kind, Result, SetTimes, Stat};
use crate::shim::ledger::DescriptorPermit;

/// A folder. Paths resolved from it never leave the container's root.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    place: Place,
    devices: Arc<Devices>,
    /// Held while the descriptor's own position matters.
    listing: Mutex<()>,
    _permit: Option<DescriptorPermit>,
}

/// Where a folder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the root itself.
    Top,
    Below,
}

/// One entry of a folder, as getdents64 gives it; "." and ".." are included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Any bytes but NUL and '/': the kernel does not ask for UTF-8.
    pub name: Vec<u8>,
    pub kind: Kind,
    pub inode: u64,
    /// Where to go on after this entry.
    pub cookie: u64,
}

/// Bytes that one listing call takes from the kernel: dozens of entries, little stack.
const LISTING: usize = 4096;

impl Dir {
    pub(super) fn new(
        fd: OwnedFd,
        place: Place,
        devices: Arc<Devices>,
        permit: Option<DescriptorPermit>,
    ) -> Self {
        Self { fd, place, devices, listing: Mutex::new(()), _permit: permit }
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The next few entries from `cookie` on (0: from the start); none at the end.
    pub fn entries(&self, cookie: u64) -> Result<Vec<Entry>> {
        let devices = self.devices.has(self.stat()?.device).then_some(&self.devices);
        let mut buffer = [MaybeUninit::uninit(); LISTING];
        let _alone = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::fs::seek(&self.fd, SeekFrom::Start(cookie))?;
        let mut raw = RawDir::new(&self.fd, &mut buffer);
        let mut entries = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry?;
            let device = devices.is_some_and(|devices| devices.is_device(entry.ino()));
            entries.push(Entry {
                name: entry.file_name().to_bytes().to_vec(),
                kind: if device { Kind::CharacterDevice } else { entry.file_type().into() },
                inode: entry.ino(),
                cookie: entry.next_entry_cookie(),
            });
            if raw.is_buffer_empty() {
                break;
            }
        }
        Ok(entries)
    }

    pub fn stat(&self) -> Result<Stat> {
        Ok(rustix::fs::fstat(&self.fd)?.into())
    }

    pub fn set_times(&self, times: SetTimes) -> Result<()> {
        rustix::fs::futimens(&self.fd, &times.timestamps()?)
    }

    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd)
    }
}
