//! The devices that every container has under /dev. Each is a plain empty file on a tmpfs of the
//! container's own, known by its inode, so that no device node is needed and mounts stay NODEV.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::{Kind, Result, Stat};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Null,
    Zero,
    Full,
    Random,
    /// The three are the guest's own streams; whoever runs the guest reads and writes them.
    Stdin,
    Stdout,
    Stderr,
}

/// The names under /dev.
const NAMES: [(&str, Device); 8] = [
    ("null", Device::Null),
    ("zero", Device::Zero),
    ("full", Device::Full),
    ("random", Device::Random),
    ("urandom", Device::Random),
    ("stdin", Device::Stdin),
    ("stdout", Device::Stdout),
    ("stderr", Device::Stderr),
];

impl Device {
    /// Fills `bytes` and says how much was filled (0: the end). EINVAL for the streams.
    pub fn read(self, bytes: &mut [u8]) -> Result<usize> {
        match self {
            Self::Null => Ok(0),
            Self::Zero | Self::Full => {
                bytes.fill(0);
                Ok(bytes.len())
            }
            Self::Random => getrandom(bytes, GetRandomFlags::empty()),
            Self::Stdin | Self::Stdout | Self::Stderr => Err(Errno::INVAL),
        }
    }

    /// Takes `length` bytes and says how many were taken. EINVAL for the streams.
    pub fn write(self, length: usize) -> Result<usize> {
        match self {
            Self::Null | Self::Zero | Self::Random => Ok(length),
            Self::Full => Err(Errno::NOSPC),
            Self::Stdin | Self::Stdout | Self::Stderr => Err(Errno::INVAL),
        }
    }
}

/// Which inodes of which file system stand for devices. The default knows none.
#[derive(Debug, Default)]
pub struct Devices {
    file_system: u64,
    inodes: HashMap<u64, Device>,
}

impl Devices {
    /// Creates the files in `dir`, the top of a file system that holds nothing else yet.
    pub fn make(dir: &Path) -> io::Result<Self> {
        let mut made = Self { file_system: dir.metadata()?.dev(), inodes: HashMap::new() };
        for (name, device) in NAMES {
            let file =
                OpenOptions::new().write(true).create_new(true).mode(0o666).open(dir.join(name))?;
            file.set_permissions(PermissionsExt::from_mode(0o666))?;
            made.inodes.insert(file.metadata()?.ino(), device);
        }
        Ok(made)
    }

    /// The device that an inode of a file system stands for.
    pub fn find(&self, file_system: u64, inode: u64) -> Option<Device> {
        (file_system == self.file_system).then(|| self.inodes.get(&inode).copied()).flatten()
    }

    /// Whether an inode of the devices' file system stands for one.
    pub(super) fn is_device(&self, inode: u64) -> bool {
        self.inodes.contains_key(&inode)
    }

    /// Whether this is the devices' file system.
    pub(super) fn has(&self, file_system: u64) -> bool {
        self.file_system == file_system && !self.inodes.is_empty()
    }

    /// `stat` as the guest is to see it: a device's file is a character device.
    pub(super) fn dress(&self, mut stat: Stat) -> Stat {
        if self.find(stat.device, stat.inode).is_some() {
            stat.kind = Kind::CharacterDevice;
            stat.size = 0;
        }
        stat
    }
}
