//! Open files, folders and devices as components hold them, and every operation on them. All
//! errors are the kernel's errno; the versions' interfaces only translate.

use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::iter;
use std::sync::Arc;

use rustix::io::Errno;

use super::state::Fault;
use super::stdin::Input;
use super::transfer::{Guarded, Reader, TRANSFER, Writer};
use crate::shim::kill::{Kill, Killed};
use crate::shim::wasi::fs::{
    self, Advice, Create, Device, Dir, Durability, File, Follow, Kind, Node, OpenOptions, Root,
    SetTimes, Stat, Timestamp,
};
use crate::shim::wasi::working_dir::{self, Spelling};

/// What a guest's descriptor handle stands for. Streams share the open file.
#[derive(Clone)]
pub enum Descriptor {
    File(Arc<File>, Access),
    Dir(Arc<Dir>, Access),
    /// The folder that the guest is given as ".".
    WorkingDir(Arc<Dir>),
    Device(Device, Access),
}

/// What a descriptor was opened for.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub read: bool,
    pub write: bool,
    pub mutate_directory: bool,
    pub durability: Durability,
}

/// What a folder is opened for: the kernel alone says what may be changed in it.
const FOLDER: Access =
    Access { read: true, write: false, mutate_directory: true, durability: Durability::Cached };

/// How a guest asks for a file to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    pub follow: Follow,
    pub create: bool,
    pub exclusive: bool,
    pub truncate: bool,
    pub directory: bool,
    pub access: Access,
}

impl Opening {
    fn options(self) -> OpenOptions {
        OpenOptions {
            read: self.access.read,
            // The kernel leaves open what truncating a file opened for reading does.
            write: self.access.write || self.truncate,
            append: false,
            create: match (self.create, self.exclusive) {
                (false, _) => Create::Never,
                (true, false) => Create::IfMissing,
                (true, true) => Create::New,
            },
            truncate: self.truncate,
            directory: self.directory,
            follow: self.follow,
            durability: self.access.durability,
        }
    }
}

/// Tells two files apart without showing their inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    pub lower: u64,
    pub upper: u64,
}

impl Hash {
    fn of(stat: Stat) -> Self {
        let mut hasher = DefaultHasher::new();
        (stat.device, stat.inode).hash(&mut hasher);
        let lower = hasher.finish();
        hasher.write_u64(lower);
        Self { lower, upper: hasher.finish() }
    }
}

impl Descriptor {
    /// The folder that it stands for.
    pub(super) fn dir(&self) -> fs::Result<&Arc<Dir>> {
        match self {
            Self::Dir(dir, _) | Self::WorkingDir(dir) => Ok(dir),
            Self::File(..) | Self::Device(..) => Err(Errno::NOTDIR),
        }
    }

    pub fn access(&self) -> Access {
        match self {
            Self::File(_, access) | Self::Dir(_, access) | Self::Device(_, access) => *access,
            Self::WorkingDir(_) => FOLDER,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::File(..) => Kind::File,
            Self::Dir(..) | Self::WorkingDir(_) => Kind::Dir,
            Self::Device(..) => Kind::CharacterDevice,
        }
    }
}

/// The folders that a guest is given, open. Stores of one run share them.
#[derive(Clone)]
pub struct Folders {
    top: Arc<Dir>,
    /// `None`: the root itself.
    working_dir: Option<Arc<Dir>>,
}

impl Folders {
    /// `Err` is one sentence.
    pub fn open(root: &Root, working_dir: &str, kill: &Kill) -> std::result::Result<Self, String> {
        let top = fs::uninterrupted(kill, || root.top())
            .map_err(|error| format!("the root file system cannot be opened: {error}"))?;
        let working_dir = working_dir::open(root, &top, working_dir)?.map(Arc::new);
        Ok(Self { top: Arc::new(top), working_dir })
    }
}

/// A container's files, as one guest's Store sees them.
pub struct Files {
    pub(super) root: Arc<Root>,
    folders: Folders,
    kill: Arc<Kill>,
    stdin: Input,
    stdout: Guarded,
    stderr: Guarded,
}

type Result<T> = std::result::Result<T, Fault>;

impl Files {
    pub fn new(
        root: Arc<Root>,
        folders: Folders,
        kill: Arc<Kill>,
        (stdin, stdout, stderr): (Input, Guarded, Guarded),
    ) -> Self {
        Self { root, folders, kill, stdin, stdout, stderr }
    }

    /// The folders that the guest is given, with their names.
    pub fn given(&self) -> impl Iterator<Item = (Descriptor, &'static str)> {
        let Folders { top, working_dir } = self.folders.clone();
        let (top, dir) = (Descriptor::Dir(top, FOLDER), working_dir.map(Descriptor::WorkingDir));
        iter::once((top, "/")).chain(dir.map(|dir| (dir, ".")))
    }

    /// The folder from which a guest means `path`.
    fn at<'a>(&'a self, at: &'a Descriptor, path: &str) -> fs::Result<&'a Dir> {
        match at {
            Descriptor::WorkingDir(dir) => {
                // The guest's own copy is not to be seen.
                let spelling = Spelling::Unknown;
                let top = &self.folders.top;
                Ok(working_dir::meant(&self.root, (top, dir), path.as_bytes(), spelling))
            }
            at => Ok(at.dir()?),
        }
    }

    /// For loops that run without the guest's code, which would notice a kill.
    pub fn check_alive(&self) -> std::result::Result<(), Killed> {
        self.kill.check()
    }

    pub(super) fn call<T>(&self, call: impl FnMut() -> fs::Result<T>) -> Result<T> {
        Ok(fs::uninterrupted(&self.kill, call)?)
    }

    pub fn open(&self, at: &Descriptor, path: &str, opening: Opening) -> Result<Descriptor> {
        let (dir, options) = (self.at(at, path)?, opening.options());
        Ok(match self.call(|| self.root.open(dir, path.as_bytes(), &options))? {
            Node::File(file) => Descriptor::File(Arc::new(file), opening.access),
            Node::Dir(dir) => Descriptor::Dir(Arc::new(dir), FOLDER),
            Node::Device(device) => Descriptor::Device(device, opening.access),
        })
    }

    /// Up to `length` bytes, at most [`TRANSFER`], and whether the end was reached.
    pub fn read(&self, from: &Descriptor, length: u64, offset: u64) -> Result<(Vec<u8>, bool)> {
        let length = usize::try_from(length).unwrap_or(TRANSFER).min(TRANSFER);
        let mut bytes = vec![0; length];
        let read = match from {
            Descriptor::File(file, _) => self.call(|| file.read_at(&mut bytes, offset))?,
            Descriptor::Device(Device::Stdin, _) => self.stdin.read_waiting(&mut bytes)?,
            _ => self.reader(from, offset)?.read(&mut bytes)?.unwrap_or(0),
        };
        bytes.truncate(read);
        Ok((bytes, read == 0 && length > 0))
    }

    /// Writes some of `bytes` and says how many.
    pub fn write(&self, to: &Descriptor, bytes: &[u8], offset: u64) -> Result<u64> {
        Ok(self.writer(to, Some(offset))?.write(bytes)? as u64)
    }

    pub fn reader(&self, from: &Descriptor, offset: u64) -> Result<Reader> {
        if from.kind() != Kind::Dir && !from.access().read {
            return Err(Errno::BADF.into());
        }
        Ok(match from {
            Descriptor::File(file, _) => {
                Reader::File { file: file.clone(), position: offset, kill: self.kill.clone() }
            }
            Descriptor::Device(Device::Stdin, _) => Reader::Input(self.stdin.clone()),
            Descriptor::Device(device, _) => Reader::Device(*device),
            Descriptor::Dir(..) | Descriptor::WorkingDir(_) => return Err(Errno::ISDIR.into()),
        })
    }

    /// Without an offset it writes at the end.
    pub fn writer(&self, to: &Descriptor, offset: Option<u64>) -> Result<Writer> {
        let (file, kill) = match to {
            Descriptor::Dir(..) | Descriptor::WorkingDir(_) => return Err(Errno::ISDIR.into()),
            to if !to.access().write => return Err(Errno::BADF.into()),
            Descriptor::Device(Device::Stdout, _) => {
                return Ok(Writer::Output(self.stdout.clone()));
            }
            Descriptor::Device(Device::Stderr, _) => {
                return Ok(Writer::Output(self.stderr.clone()));
            }
            Descriptor::Device(device, _) => return Ok(Writer::Device(*device)),
            Descriptor::File(file, _) => (file.clone(), self.kill.clone()),
        };
        Ok(match offset {
            Some(position) => Writer::File { file, position, kill },
            None => Writer::Append { file, kill },
        })
    }

    pub fn stat(&self, of: &Descriptor) -> Result<Stat> {
        match of {
            Descriptor::File(file, _) => self.call(|| file.stat()),
            Descriptor::Dir(dir, _) | Descriptor::WorkingDir(dir) => self.call(|| dir.stat()),
            Descriptor::Device(device, _) => Ok(device_stat(*device)),
        }
    }

    pub fn stat_at(&self, at: &Descriptor, path: &str, follow: Follow) -> Result<Stat> {
        let dir = self.at(at, path)?;
        self.call(|| self.root.stat(dir, path.as_bytes(), follow))
    }

    pub fn hash(&self, of: &Descriptor) -> Result<Hash> {
        self.stat(of).map(Hash::of)
    }

    pub fn hash_at(&self, at: &Descriptor, path: &str, follow: Follow) -> Result<Hash> {
        self.stat_at(at, path, follow).map(Hash::of)
    }

    pub fn is_same(&self, one: &Descriptor, other: &Descriptor) -> Result<bool> {
        let (one, other) = (self.stat(one)?, self.stat(other)?);
        Ok((one.device, one.inode) == (other.device, other.inode))
    }

    pub fn set_len(&self, of: &Descriptor, length: u64) -> Result<()> {
        match of {
            Descriptor::File(file, _) => self.call(|| file.set_len(length)),
            Descriptor::Dir(..) | Descriptor::WorkingDir(_) => Err(Errno::ISDIR.into()),
            Descriptor::Device(..) => Err(Errno::INVAL.into()),
        }
    }

    pub fn set_times(&self, of: &Descriptor, times: SetTimes) -> Result<()> {
        match of {
            Descriptor::File(file, _) => self.call(|| file.set_times(times)),
            Descriptor::Dir(dir, _) | Descriptor::WorkingDir(dir) => {
                self.call(|| dir.set_times(times))
            }
            Descriptor::Device(..) => Err(Errno::PERM.into()),
        }
    }

    pub fn set_times_at(
        &self,
        at: &Descriptor,
        (path, follow): (&str, Follow),
        times: SetTimes,
    ) -> Result<()> {
        let dir = self.at(at, path)?;
        self.call(|| self.root.set_times(dir, path.as_bytes(), follow, times))
    }

    /// Data and all about the file.
    pub fn sync(&self, of: &Descriptor) -> Result<()> {
        match of {
            Descriptor::File(file, _) => self.call(|| file.sync_all()),
            Descriptor::Dir(dir, _) | Descriptor::WorkingDir(dir) => self.call(|| dir.sync()),
            Descriptor::Device(..) => Err(Errno::INVAL.into()),
        }
    }

    pub fn sync_data(&self, of: &Descriptor) -> Result<()> {
        match of {
            Descriptor::File(file, _) => self.call(|| file.sync_data()),
            of => self.sync(of),
        }
    }

    pub fn advise(&self, of: &Descriptor, range: (u64, u64), advice: Advice) -> Result<()> {
        match of {
            Descriptor::File(file, _) => self.call(|| file.advise(range.0, range.1, advice)),
            Descriptor::Dir(..) | Descriptor::WorkingDir(_) => Err(Errno::BADF.into()),
            Descriptor::Device(..) => Ok(()),
        }
    }

    pub fn make_dir(&self, at: &Descriptor, path: &str) -> Result<()> {
        let dir = self.at(at, path)?;
        self.call(|| self.root.make_dir(dir, path.as_bytes()))
    }

    pub fn remove_dir(&self, at: &Descriptor, path: &str) -> Result<()> {
        let dir = self.at(at, path)?;
        self.call(|| self.root.remove_dir(dir, path.as_bytes()))
    }

    pub fn unlink(&self, at: &Descriptor, path: &str) -> Result<()> {
        let dir = self.at(at, path)?;
        self.call(|| self.root.unlink(dir, path.as_bytes()))
    }

    pub fn rename(&self, from: (&Descriptor, &str), to: (&Descriptor, &str)) -> Result<()> {
        let (old, new) = (self.at(from.0, from.1)?, self.at(to.0, to.1)?);
        self.call(|| self.root.rename((old, from.1.as_bytes()), (new, to.1.as_bytes())))
    }

    pub fn link(
        &self,
        from: (&Descriptor, &str),
        follow: Follow,
        to: (&Descriptor, &str),
    ) -> Result<()> {
        let (old, new) = (self.at(from.0, from.1)?, self.at(to.0, to.1)?);
        self.call(|| self.root.link((old, from.1.as_bytes()), follow, (new, to.1.as_bytes())))
    }

    pub fn symlink(&self, target: &str, at: &Descriptor, path: &str) -> Result<()> {
        let dir = self.at(at, path)?;
        self.call(|| self.root.symlink(target.as_bytes(), dir, path.as_bytes()))
    }

    /// EILSEQ when the link's text is not UTF-8.
    pub fn read_link(&self, at: &Descriptor, path: &str) -> Result<String> {
        let dir = self.at(at, path)?;
        let target = self.call(|| self.root.read_link(dir, path.as_bytes()))?;
        Ok(String::from_utf8(target).map_err(|_| Errno::ILSEQ)?)
    }
}

/// A device has no file of its own to ask.
fn device_stat(device: Device) -> Stat {
    let start = Timestamp { seconds: 0, nanoseconds: 0 };
    Stat {
        kind: Kind::CharacterDevice,
        device: 0,
        inode: device as u64 + 1,
        links: 1,
        size: 0,
        accessed: start,
        modified: start,
        changed: start,
    }
}
