//! One open regular file. All calls are plain system calls on the calling thread.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Advice, FallocateFlags, OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Result, SetTimes, Stat};
use crate::shim::ledger::DescriptorPermit;

/// A regular file.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    _permit: DescriptorPermit,
}

impl File {
    pub(super) fn new(fd: OwnedFd, permit: DescriptorPermit) -> Self {
        Self { fd, _permit: permit }
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads at `offset` into `bytes`; 0 is the end of the file.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize> {
        rustix::io::pread(&self.fd, bytes, offset)
    }

    /// Reads at the descriptor's own position and moves it.
    pub fn read(&self, bytes: &mut [u8]) -> Result<usize> {
        rustix::io::read(&self.fd, bytes)
    }

    /// Writes at `offset` and says how much was written. A file opened with `append` takes it at
    /// its end, as Linux has it.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        rustix::io::pwrite(&self.fd, bytes, offset)
    }

    /// [`File::write_at`] from several buffers by one system call.
    pub fn write_vectored_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> Result<usize> {
        rustix::io::pwritev(&self.fd, bytes, offset)
    }

    /// Writes at the descriptor's own position and moves it.
    pub fn write_vectored(&self, bytes: &[IoSlice<'_>]) -> Result<usize> {
        rustix::io::writev(&self.fd, bytes)
    }

    /// Writes at the file's end, wherever that is by then, and says how much was written.
    pub fn append(&self, bytes: &[u8]) -> Result<usize> {
        let bytes = [IoSlice::new(bytes)];
        rustix::io::pwritev2(&self.fd, &bytes, 0, ReadWriteFlags::APPEND)
    }

    /// Moves the descriptor's own position; gives the new one.
    pub fn seek(&self, to: SeekFrom) -> Result<u64> {
        rustix::fs::seek(&self.fd, to)
    }

    /// Makes writes at the descriptor's own position go to the file's end, or not.
    pub fn set_append(&self, append: bool) -> Result<()> {
        let flags = rustix::fs::fcntl_getfl(&self.fd)?;
        let wanted = if append { flags | OFlags::APPEND } else { flags - OFlags::APPEND };
        rustix::fs::fcntl_setfl(&self.fd, wanted)
    }

    pub fn stat(&self) -> Result<Stat> {
        Ok(rustix::fs::fstat(&self.fd)?.into())
    }

    /// Bytes from the descriptor's own position to the end.
    pub fn left(&self) -> Result<u64> {
        let position = rustix::fs::tell(&self.fd)?;
        Ok(self.stat()?.size.saturating_sub(position))
    }

    /// Cuts or fills with zeroes. EFBIG beyond what the kernel can count.
    pub fn set_len(&self, length: u64) -> Result<()> {
        if i64::try_from(length).is_err() {
            return Err(Errno::FBIG);
        }
        rustix::fs::ftruncate(&self.fd, length)
    }

    pub fn sync_all(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd)
    }

    pub fn sync_data(&self) -> Result<()> {
        rustix::fs::fdatasync(&self.fd)
    }

    pub fn set_times(&self, times: SetTimes) -> Result<()> {
        rustix::fs::futimens(&self.fd, &times.timestamps()?)
    }

    /// Makes sure that writes from `offset` on for `length` bytes find room; the file grows.
    pub fn allocate(&self, offset: u64, length: u64) -> Result<()> {
        rustix::fs::fallocate(&self.fd, FallocateFlags::empty(), offset, length)
    }

    /// How the guest is going to use `length` bytes (0: all) from `offset` on.
    pub fn advise(&self, offset: u64, length: u64, advice: Advice) -> Result<()> {
        rustix::fs::fadvise(&self.fd, offset, std::num::NonZeroU64::new(length), advice)
    }
}
