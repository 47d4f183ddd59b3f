//! The host as WASI 0.2 gives it. Names go to the root that is preopened as "/", past the C
//! library, which cannot tell `/etc` from `etc` where "." is preopened too, and which loses error
//! codes on the way.

mod net;
mod processes;

use std::cell::Cell;
use std::io::{self, ErrorKind};

use wasip2::cli;
use wasip2::clocks::wall_clock::Datetime;
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

pub use net::{Connection, Listener, resolve};
pub use processes::{
    Child, PipeReader, PipeWriter, hold_interrupts, kill, pipe, processes, release_interrupts,
    spawn,
};

use crate::applets::Identity;

use super::{Follow, Kind, Mode, Stat, Time};

/// Bytes that one call moves.
const CHUNK: usize = 1 << 18;

struct Host {
    root: Option<Descriptor>,
    stdin: InputStream,
    stdout: OutputStream,
    stderr: OutputStream,
}

thread_local! {
    static HOST: Host = {
        let mut folders = get_directories();
        let at = folders.iter().position(|(_, name)| name == "/").unwrap_or(0);
        Host {
            root: (!folders.is_empty()).then(|| folders.swap_remove(at).0),
            stdin: cli::stdin::get_stdin(),
            stdout: cli::stdout::get_stdout(),
            stderr: cli::stderr::get_stderr(),
        }
    };
}

fn fault(code: ErrorCode) -> io::Error {
    use ErrorKind as K;
    let kind = match code {
        ErrorCode::NoEntry => K::NotFound,
        ErrorCode::Access => K::PermissionDenied,
        ErrorCode::Exist => K::AlreadyExists,
        ErrorCode::NotDirectory => K::NotADirectory,
        ErrorCode::IsDirectory => K::IsADirectory,
        ErrorCode::NotEmpty => K::DirectoryNotEmpty,
        ErrorCode::ReadOnly => K::ReadOnlyFilesystem,
        ErrorCode::InsufficientSpace => K::StorageFull,
        ErrorCode::Quota => K::QuotaExceeded,
        ErrorCode::FileTooLarge => K::FileTooLarge,
        ErrorCode::Pipe => K::BrokenPipe,
        ErrorCode::Invalid => K::InvalidInput,
        ErrorCode::CrossDevice => K::CrossesDevices,
        ErrorCode::Busy => K::ResourceBusy,
        ErrorCode::NameTooLong => K::InvalidFilename,
        ErrorCode::Unsupported => K::Unsupported,
        ErrorCode::NotPermitted => {
            return io::Error::new(K::PermissionDenied, "Operation not permitted");
        }
        ErrorCode::Loop => return io::Error::other("Too many levels of symbolic links"),
        ErrorCode::TextFileBusy => return io::Error::other("Text file busy"),
        ErrorCode::NoSuchDevice | ErrorCode::NoDevice => {
            return io::Error::other("No such device or address");
        }
        ErrorCode::Io => return io::Error::other("Input/output error"),
        ErrorCode::BadDescriptor => return io::Error::other("Bad file descriptor"),
        other => return io::Error::other(other.message()),
    };
    kind.into()
}

/// Does something with the root and a name below it.
fn at<T>(path: &str, act: impl FnOnce(&Descriptor, &str) -> Result<T, ErrorCode>) -> io::Result<T> {
    // A name with a slash at its end means a folder, and that is kept.
    let below = path.trim_start_matches('/');
    let below = if below.is_empty() { "." } else { below };
    HOST.with(|host| {
        let root = host.root.as_ref().ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        act(root, below).map_err(fault)
    })
}

fn flags(follow: Follow) -> PathFlags {
    match follow {
        Follow::Yes => PathFlags::SYMLINK_FOLLOW,
        Follow::No => PathFlags::empty(),
    }
}

pub struct File {
    descriptor: Descriptor,
    at: Cell<u64>,
    appends: bool,
}

impl File {
    pub fn open(path: &str, mode: Mode) -> io::Result<Self> {
        let (open, access) = match mode {
            Mode::Read => (OpenFlags::empty(), DescriptorFlags::READ),
            Mode::Write => (OpenFlags::CREATE | OpenFlags::TRUNCATE, DescriptorFlags::WRITE),
            Mode::Update => (OpenFlags::CREATE, DescriptorFlags::READ | DescriptorFlags::WRITE),
            Mode::Append => (OpenFlags::CREATE, DescriptorFlags::WRITE),
            Mode::New => (OpenFlags::CREATE | OpenFlags::EXCLUSIVE, DescriptorFlags::WRITE),
        };
        let descriptor =
            at(path, |root, name| root.open_at(PathFlags::SYMLINK_FOLLOW, name, open, access))?;
        Ok(Self { descriptor, at: Cell::new(0), appends: mode == Mode::Append })
    }

    pub fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = bytes.len().min(CHUNK) as u64;
        let (got, _) = self.descriptor.read(most, self.at.get()).map_err(fault)?;
        for (to, from) in bytes.iter_mut().zip(&got) {
            *to = *from;
        }
        self.at.set(self.at.get() + got.len() as u64);
        Ok(got.len())
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.appends {
            self.at.set(self.descriptor.stat().map_err(fault)?.size);
        }
        let part = bytes.get(..bytes.len().min(CHUNK)).unwrap_or(bytes);
        let wrote = self.descriptor.write(part, self.at.get()).map_err(fault)?;
        self.at.set(self.at.get() + wrote);
        Ok(wrote as usize)
    }

    /// Where the next byte is read or written.
    pub fn seek(&self, to: u64) {
        self.at.set(to);
    }

    pub fn resize(&self, size: u64) -> io::Result<()> {
        self.descriptor.set_size(size).map_err(fault)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.descriptor.sync().map_err(fault)
    }
}

fn kind(of: DescriptorType) -> Kind {
    match of {
        DescriptorType::RegularFile => Kind::File,
        DescriptorType::Directory => Kind::Folder,
        DescriptorType::SymbolicLink => Kind::Link,
        DescriptorType::CharacterDevice => Kind::Character,
        DescriptorType::BlockDevice => Kind::Block,
        DescriptorType::Fifo => Kind::Fifo,
        DescriptorType::Socket => Kind::Socket,
        DescriptorType::Unknown => Kind::Unknown,
    }
}

fn time(of: Option<Datetime>) -> Time {
    of.map_or((0, 0), |time| (time.seconds as i64, time.nanoseconds))
}

pub fn stat(path: &str, follow: Follow) -> io::Result<Stat> {
    let found = at(path, |root, name| root.stat_at(flags(follow), name))?;
    let hash = at(path, |root, name| root.metadata_hash_at(flags(follow), name)).ok();
    Ok(Stat {
        kind: kind(found.type_),
        size: found.size,
        links: found.link_count,
        modified: time(found.data_modification_timestamp),
        accessed: time(found.data_access_timestamp),
        changed: time(found.status_change_timestamp),
        id: hash.map_or((0, 0), |hash| (hash.upper, hash.lower)),
    })
}

/// Names and kinds, in no order, without `.` and `..`.
pub fn list(path: &str) -> io::Result<Vec<(String, Kind)>> {
    let folder = at(path, |root, name| {
        let access = DescriptorFlags::READ;
        root.open_at(PathFlags::SYMLINK_FOLLOW, name, OpenFlags::DIRECTORY, access)
    })?;
    let entries = folder.read_directory().map_err(fault)?;
    let mut found = Vec::new();
    while let Some(entry) = entries.read_directory_entry().map_err(fault)? {
        if entry.name != "." && entry.name != ".." {
            found.push((entry.name, kind(entry.type_)));
        }
    }
    Ok(found)
}

pub fn make_folder(path: &str) -> io::Result<()> {
    at(path, |root, name| root.create_directory_at(name))
}

pub fn remove_folder(path: &str) -> io::Result<()> {
    at(path, |root, name| root.remove_directory_at(name))
}

pub fn remove_file(path: &str) -> io::Result<()> {
    at(path, |root, name| root.unlink_file_at(name))
}

pub fn rename(from: &str, to: &str) -> io::Result<()> {
    let to = to.trim_start_matches('/');
    at(from, |root, name| root.rename_at(name, root, to))
}

pub fn symlink(target: &str, path: &str) -> io::Result<()> {
    at(path, |root, name| root.symlink_at(target, name))
}

pub fn link(from: &str, to: &str) -> io::Result<()> {
    let to = to.trim_start_matches('/');
    at(from, |root, name| root.link_at(PathFlags::empty(), name, root, to))
}

pub fn read_link(path: &str) -> io::Result<String> {
    at(path, |root, name| root.readlink_at(name))
}

/// `None` leaves a time as it is.
pub fn set_times(
    path: &str,
    accessed: Option<Time>,
    modified: Option<Time>,
    follow: Follow,
) -> io::Result<()> {
    let new = |time: Option<Time>| match time {
        Some((seconds, nanoseconds)) => NewTimestamp::Timestamp(Datetime {
            seconds: u64::try_from(seconds).unwrap_or(0),
            nanoseconds,
        }),
        None => NewTimestamp::NoChange,
    };
    at(path, |root, name| root.set_times_at(flags(follow), name, new(accessed), new(modified)))
}

/// Waits until there is something; 0 is the end.
pub fn read_stdin(bytes: &mut [u8]) -> io::Result<usize> {
    HOST.with(|host| read_stream(&host.stdin, bytes))
}

fn read_stream(stream: &InputStream, bytes: &mut [u8]) -> io::Result<usize> {
    let got = stream.blocking_read(bytes.len().min(CHUNK) as u64);
    Ok(taken(got, bytes)?.unwrap_or(0))
}

/// What is there at once, which may be nothing although it was said to be ready; `None` at the
/// stream's end.
fn read_now(stream: &InputStream, bytes: &mut [u8]) -> io::Result<Option<usize>> {
    taken(stream.read(bytes.len().min(CHUNK) as u64), bytes)
}

fn taken(got: Result<Vec<u8>, StreamError>, bytes: &mut [u8]) -> io::Result<Option<usize>> {
    match got {
        Ok(got) => {
            for (to, from) in bytes.iter_mut().zip(&got) {
                *to = *from;
            }
            Ok(Some(got.len()))
        }
        Err(StreamError::Closed) => Ok(None),
        Err(StreamError::LastOperationFailed(error)) => {
            Err(io::Error::other(error.to_debug_string()))
        }
    }
}

pub fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    HOST.with(|host| write_stream(&host.stdout, bytes))
}

pub fn write_stderr(bytes: &[u8]) -> io::Result<()> {
    HOST.with(|host| write_stream(&host.stderr, bytes))
}

fn write_stream(stream: &OutputStream, mut bytes: &[u8]) -> io::Result<()> {
    let broken = |error| match error {
        StreamError::Closed => io::Error::from(ErrorKind::BrokenPipe),
        StreamError::LastOperationFailed(error) => match error.to_debug_string() {
            text if text.to_lowercase().contains("pipe") => io::Error::from(ErrorKind::BrokenPipe),
            text => io::Error::other(text),
        },
    };
    while !bytes.is_empty() {
        let room = stream.check_write().map_err(broken)?;
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let most = usize::try_from(room).unwrap_or(CHUNK).min(CHUNK).min(bytes.len());
        let (now, later) = bytes.split_at(most);
        stream.write(now).map_err(broken)?;
        bytes = later;
    }
    stream.blocking_flush().map_err(broken)
}

pub fn stdin_is_terminal() -> bool {
    cli::terminal_stdin::get_terminal_stdin().is_some()
}

pub fn stdout_is_terminal() -> bool {
    cli::terminal_stdout::get_terminal_stdout().is_some()
}

pub fn arguments() -> Vec<String> {
    cli::environment::get_arguments()
}

pub fn environment() -> Vec<(String, String)> {
    cli::environment::get_environment()
}

pub fn working_folder() -> String {
    cli::environment::initial_cwd().filter(|path| path.starts_with('/')).unwrap_or("/".to_owned())
}

pub fn exit(code: u8) -> ! {
    cli::exit::exit_with_code(code);
    std::process::exit(i32::from(code))
}

pub fn now() -> Time {
    let time = wall_clock::now();
    (time.seconds as i64, time.nanoseconds)
}

/// Nanoseconds since some moment.
pub fn monotonic() -> u64 {
    monotonic_clock::now()
}

pub fn sleep(nanoseconds: u64) {
    monotonic_clock::subscribe_duration(nanoseconds).block();
}

pub fn random() -> u64 {
    wasip2::random::random::get_random_u64()
}

mod identities {
    wit_bindgen::generate!({ path: "../../wit/identity.wit", world: "container" });
}

pub fn identity() -> Option<Identity> {
    let own = identities::wasmpod::container::identity::current();
    Some(Identity { user: own.uid, group: own.gid, groups: own.groups, name: own.name })
}
