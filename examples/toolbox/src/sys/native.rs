//! The host as the build machine gives it, for tests: plain std.

use std::fs::{self, FileTimes, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Follow, Kind, Mode, Start, Stat, Time};
use crate::programs::Process;
use crate::stream::{Out, Stream};

pub struct File(Mutex<fs::File>);

impl File {
    pub fn open(path: &str, mode: Mode) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        match mode {
            Mode::Read => options.read(true),
            Mode::Write => options.write(true).create(true).truncate(true),
            Mode::Update => options.read(true).write(true).create(true),
            Mode::Append => options.append(true).create(true),
            Mode::New => options.write(true).create_new(true),
        };
        options.open(path).map(|file| Self(Mutex::new(file)))
    }

    fn with<T>(&self, act: impl FnOnce(&mut fs::File) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.with(|file| file.read(bytes))
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write(bytes))
    }

    pub fn seek(&self, to: u64) {
        let _ = self.with(|file| file.seek(SeekFrom::Start(to)));
    }

    pub fn resize(&self, size: u64) -> io::Result<()> {
        self.with(|file| file.set_len(size))
    }

    pub fn sync(&self) -> io::Result<()> {
        self.with(|file| file.sync_all())
    }
}

fn kind(of: fs::FileType) -> Kind {
    match () {
        () if of.is_file() => Kind::File,
        () if of.is_dir() => Kind::Folder,
        () if of.is_symlink() => Kind::Link,
        () if of.is_char_device() => Kind::Character,
        () if of.is_block_device() => Kind::Block,
        () if of.is_fifo() => Kind::Fifo,
        () if of.is_socket() => Kind::Socket,
        () => Kind::Unknown,
    }
}

pub fn stat(path: &str, follow: Follow) -> io::Result<Stat> {
    let found = match follow {
        Follow::Yes => fs::metadata(path)?,
        Follow::No => fs::symlink_metadata(path)?,
    };
    Ok(Stat {
        kind: kind(found.file_type()),
        size: found.size(),
        links: found.nlink(),
        modified: (found.mtime(), found.mtime_nsec() as u32),
        accessed: (found.atime(), found.atime_nsec() as u32),
        changed: (found.ctime(), found.ctime_nsec() as u32),
        id: (found.dev(), found.ino()),
    })
}

pub fn list(path: &str) -> io::Result<Vec<(String, Kind)>> {
    let entries = fs::read_dir(path)?;
    entries
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), kind(entry.file_type()?)))
        })
        .collect()
}

pub fn make_folder(path: &str) -> io::Result<()> {
    fs::create_dir(path)
}

pub fn remove_folder(path: &str) -> io::Result<()> {
    fs::remove_dir(path)
}

pub fn remove_file(path: &str) -> io::Result<()> {
    fs::remove_file(path)
}

pub fn rename(from: &str, to: &str) -> io::Result<()> {
    fs::rename(from, to)
}

pub fn symlink(target: &str, path: &str) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

pub fn link(from: &str, to: &str) -> io::Result<()> {
    fs::hard_link(from, to)
}

pub fn read_link(path: &str) -> io::Result<String> {
    fs::read_link(path).map(|target| target.to_string_lossy().into_owned())
}

pub fn set_times(
    path: &str,
    accessed: Option<Time>,
    modified: Option<Time>,
    follow: Follow,
) -> io::Result<()> {
    if follow == Follow::No && fs::symlink_metadata(path)?.is_symlink() {
        return Ok(());
    }
    let file = fs::File::open(path)?;
    let system = |(seconds, nanos): Time| -> SystemTime {
        UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), nanos)
    };
    let mut times = FileTimes::new();
    if let Some(time) = accessed {
        times = times.set_accessed(system(time));
    }
    if let Some(time) = modified {
        times = times.set_modified(system(time));
    }
    file.set_times(times)
}

pub fn read_stdin(bytes: &mut [u8]) -> io::Result<usize> {
    io::stdin().read(bytes)
}

pub fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    io::stdout().write_all(bytes)?;
    io::stdout().flush()
}

pub fn write_stderr(bytes: &[u8]) -> io::Result<()> {
    io::stderr().write_all(bytes)
}

pub fn stdin_is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdin())
}

pub fn stdout_is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdout())
}

pub fn arguments() -> Vec<String> {
    std::env::args().collect()
}

pub fn environment() -> Vec<(String, String)> {
    std::env::vars().collect()
}

pub fn working_folder() -> String {
    std::env::current_dir().map_or("/".to_owned(), |path| path.to_string_lossy().into_owned())
}

pub fn exit(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() as i64, since.subsec_nanos())
}

pub fn monotonic() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

pub fn sleep(nanoseconds: u64) {
    std::thread::sleep(Duration::from_nanos(nanoseconds));
}

pub fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

pub fn identity() -> Option<crate::applets::Identity> {
    None
}

pub fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

pub struct Connection(TcpStream);

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(address).map(Self)
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }

    pub fn read(&self, bytes: &mut [u8], patience: u64) -> io::Result<usize> {
        self.0.set_read_timeout(Some(Duration::from_nanos(patience.max(1))))?;
        (&self.0).read(bytes)
    }

    pub fn end_writing(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }

    pub fn relay(&self, out: &mut Out) -> io::Result<()> {
        io::copy(&mut io::stdin(), &mut &self.0)?;
        self.end_writing();
        io::copy(&mut &self.0, out).map(drop)
    }
}

pub struct Listener(TcpListener);

impl Listener {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).map(Self)
    }

    pub fn accept(&self) -> io::Result<Connection> {
        self.0.accept().map(|(stream, _)| Connection(stream))
    }
}

const DENIED: &str = "processes are not allowed here";

/// There is none.
pub enum PipeReader {}

impl PipeReader {
    pub fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

pub struct PipeWriter;

pub fn pipe() -> Result<(PipeReader, PipeWriter), String> {
    Err(DENIED.to_owned())
}

pub fn spawn(_: &Start<'_>, _: [&Stream; 3], _: Option<&PipeWriter>) -> Result<Child, String> {
    Err(DENIED.to_owned())
}

pub enum Child {}

impl Child {
    pub fn id(&self) -> u32 {
        match *self {}
    }

    pub fn wait(&self) -> u8 {
        match *self {}
    }
}

pub fn processes() -> Result<Vec<Process>, String> {
    Err(DENIED.to_owned())
}

pub fn hold_interrupts() {}

pub fn release_interrupts() -> bool {
    false
}

pub fn kill(_: u32) -> Result<(), String> {
    Err(DENIED.to_owned())
}
