//! Where a guest's standard output and error go. Knows nothing of guests.

use std::io;
use std::sync::{Mutex, PoisonError};

/// One stream of a guest. `write` takes all bytes or fails; it may block the guest's thread (a
/// slow disk) and nobody else's.
pub trait Output: Send + Sync {
    fn write(&self, bytes: &[u8]) -> io::Result<()>;
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
