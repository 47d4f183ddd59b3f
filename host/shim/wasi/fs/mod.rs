//! The path layer: every file a guest names is found here, under one root, by openat2 with
//! RESOLVE_IN_ROOT, so that no `..`, no link and no race leads out of it, and absolute links
//! stay inside. Every error is the kernel's own errno. Knows nothing of WASI's ABIs.
//!
//! Mounts below a root are NODEV; opening is O_NONBLOCK and what turns out to be neither a
//! regular file nor a folder is closed again, so no open ever waits. The devices under /dev are
//! this layer's own (`Device`).
//!
//! EINTR is passed on, never retried here: the only signal that guests' threads get is the
//! kill's. Callers wrap their calls in [`uninterrupted`].

mod device;
mod dir;
mod file;
mod path;
mod root;
#[cfg(test)]
mod tests;

pub use device::{Device, Devices};
pub use dir::{Dir, Entry};
pub use file::File;
pub use root::Root;
pub use rustix::fs::Advice;

use rustix::fs::{FileType, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use crate::shim::kill::Kill;

pub type Result<T, E = Errno> = std::result::Result<T, E>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// ENOENT when it is not there.
    #[default]
    Never,
    IfMissing,
    /// EEXIST when it is there.
    New,
}

/// How to open. With neither `read` nor `write` it is opened for reading.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    pub read: bool,
    pub write: bool,
    pub append: bool,
    pub create: Create,
    pub truncate: bool,
    /// ENOTDIR unless it is a folder.
    pub directory: bool,
    /// `No`: ELOOP when the last name is a link.
    pub follow: Follow,
    pub durability: Durability,
}

impl Default for OpenOptions {
    /// Reads what is there, following links.
    fn default() -> Self {
        Self {
            read: true,
            write: false,
            append: false,
            create: Create::Never,
            truncate: false,
            directory: false,
            follow: Follow::Yes,
            durability: Durability::Cached,
        }
    }
}

/// What of a write is on the disk when it returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    #[default]
    Cached,
    /// Its data (O_DSYNC).
    Data,
    /// Its data and all about the file (O_SYNC).
    All,
}

/// What an open gave.
#[derive(Debug)]
pub enum Node {
    File(File),
    Dir(Dir),
    Device(Device),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
    Unknown,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Symlink,
            FileType::CharacterDevice => Self::CharacterDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            _ => Self::Unknown,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Stat {
    pub kind: Kind,
    pub device: u64,
    pub inode: u64,
    pub links: u64,
    /// Bytes.
    pub size: u64,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
}

impl From<rustix::fs::Stat> for Stat {
    // The fields' types differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    fn from(stat: rustix::fs::Stat) -> Self {
        let time = |seconds: i64, nanoseconds: u32| Timestamp { seconds, nanoseconds };
        Self {
            kind: FileType::from_raw_mode(stat.st_mode).into(),
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            size: stat.st_size as u64,
            accessed: time(stat.st_atime as i64, stat.st_atime_nsec as u32),
            modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}

/// Since 1970; before it with negative seconds and nanoseconds counted upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Nanoseconds since 1970: 0 for what is earlier, the last one for what is too late for 64
    /// bits (the year 2554).
    pub fn as_nanoseconds(self) -> u64 {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(self.nanoseconds))
    }

    pub fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self {
            seconds: (nanoseconds / 1_000_000_000) as i64,
            nanoseconds: (nanoseconds % 1_000_000_000) as u32,
        }
    }
}

/// What to set a file's time to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    Keep,
    Now,
    /// EINVAL when its nanoseconds are a second or more.
    To(Timestamp),
}

impl SetTime {
    fn timespec(self) -> Result<Timespec> {
        Ok(match self {
            Self::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            Self::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            Self::To(Timestamp { nanoseconds: 1_000_000_000.., .. }) => return Err(Errno::INVAL),
            Self::To(time) => Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
        })
    }
}

/// The two times of a file that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetTimes {
    pub accessed: SetTime,
    pub modified: SetTime,
}

impl SetTimes {
    fn timestamps(self) -> Result<Timestamps> {
        Ok(Timestamps {
            last_access: self.accessed.timespec()?,
            last_modification: self.modified.timespec()?,
        })
    }
}

/// Does `call` again while a signal interrupts it, until the guest is killed: then EINTR.
pub fn uninterrupted<T>(kill: &Kill, mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) if !kill.is_killed() => {}
            done => return done,
        }
    }
}
