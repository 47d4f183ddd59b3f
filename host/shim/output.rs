//! Where a guest's standard output and error go. Knows nothing of guests.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::kill::Kill;

/// One stream of a guest. `write` takes all bytes or fails; it may block the guest's thread (a
/// slow disk) and nobody else's.
pub trait Output: Send + Sync {
    fn write(&self, bytes: &[u8]) -> io::Result<()>;

    /// Whether somebody may look at it as it comes.
    fn is_terminal(&self) -> bool {
        false
    }
}

/// A pipe's writing end. A guest that writes waits for its reader, until it is killed.
pub struct Pipe {
    writer: OwnedFd,
    kill: Arc<Kill>,
}

impl Pipe {
    pub fn new(writer: OwnedFd, kill: Arc<Kill>) -> Self {
        Self { writer, kill }
    }
}

impl Output for Pipe {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        write_all(self.writer.as_fd(), bytes, &|| self.kill.is_killed())
    }
}

/// Writes all of `bytes`; interrupted for good once `is_over`.
pub fn write_all(
    to: BorrowedFd<'_>,
    mut bytes: &[u8],
    is_over: &dyn Fn() -> bool,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) if !is_over() => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Takes everything and keeps nothing.
pub struct Discard;

impl Output for Discard {
    fn write(&self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the first `limit` bytes in memory.
pub struct Capture {
    limit: usize,
    bytes: Mutex<Vec<u8>>,
}

impl Capture {
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: Mutex::new(Vec::new()) }
    }

    /// What was kept until now, leaving nothing.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Output for Capture {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.limit.saturating_sub(kept.len());
        kept.extend(bytes.iter().take(room));
        Ok(())
    }
}
