//! A container's log in CRI format: `2016-10-06T00:17:09.669794202Z stdout F text`. Lines are
//! written by the guest's own threads, so a slow disk holds up the guest and nobody else.
//! Knows nothing of guests.
//!
//! Rules (kubelet's log reader): one file for both streams; F ends a line, P is a part of one
//! that is longer than [`MAX_LINE`] or that ended without a newline; times are RFC 3339 with
//! nanoseconds.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::fmt::temporal::DateTimePrinter;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::output::Output;
use crate::error::{Error, Result};

/// Bytes of text in one entry; a longer line is split into P entries.
pub const MAX_LINE: usize = 16 * 1024;

/// Input taken at a time, so that one huge write needs no huge buffer.
const CHUNK: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One log file, shared by both streams of a container.
pub struct LogFile {
    path: PathBuf,
    sink: Mutex<Sink>,
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
}

struct Sink {
    file: File,
    /// The last write failed in the middle: the next entry begins on a line of its own.
    torn: bool,
    lost: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses what is no regular file; a FIFO would keep whoever opens it until somebody reads.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened =
        OpenOptions::new().create(true).append(true).mode(0o640).custom_flags(flags).open(path);
    let other = || io::Error::other("it is no regular file");
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(other()),
        // What the kernel says of a FIFO that nobody reads, and of a socket.
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Err(other()),
        Err(error) => Err(error),
    }
}

fn is_same(one: &File, other: &File) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

impl LogFile {
    /// Opens or creates the file at `path`, and its folder with it.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let opened = match (open(path), path.parent()) {
            (Err(error), Some(folder)) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder).and_then(|()| open(path))
            }
            (opened, _) => opened,
        };
        let file = opened.map_err(Error::io(format!("opening log {}", path.display())))?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            sink: Mutex::new(Sink { file, torn: false, lost: 0 }),
            stdout: Mutex::new(Vec::new()),
            stderr: Mutex::new(Vec::new()),
        }))
    }

    /// One stream of the container as what its guest writes to.
    pub fn output(self: &Arc<Self>, stream: Stream) -> Arc<dyn Output> {
        Arc::new(LogStream { log: self.clone(), stream })
    }

    /// Goes on in a new file at the same path, after the kubelet has renamed the old one (CRI
    /// ReopenContainerLog). On an error the old file stays in use.
    pub fn reopen(&self) -> Result<()> {
        let file = open(&self.path)
            .map_err(Error::io(format!("reopening log {}", self.path.display())))?;
        let mut sink = lock(&self.sink);
        // What was torn stays in the old file, unless nobody has moved it away.
        sink.torn = sink.torn && is_same(&sink.file, &file);
        sink.file = file;
        Ok(())
    }

    /// Adds wasmpod's own words as lines of stderr.
    pub fn note(&self, text: &str) {
        let mut entries = Entries::new(Stream::Stderr);
        for line in text.lines() {
            entries.line(line.as_bytes());
        }
        lock(&self.sink).write(&entries.bytes, &self.path);
    }

    /// Writes what came without a newline, as partial entries. After the last output.
    pub fn finish(&self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut *lock(self.pending(stream)));
            if !rest.is_empty() {
                let mut entries = Entries::new(stream);
                entries.partial(&rest);
                lock(&self.sink).write(&entries.bytes, &self.path);
            }
        }
    }

    fn pending(&self, stream: Stream) -> &Mutex<Vec<u8>> {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    fn append(&self, stream: Stream, bytes: &[u8]) {
        let mut pending = lock(self.pending(stream));
        for chunk in bytes.chunks(CHUNK) {
            let mut entries = Entries::new(stream);
            let mut rest = chunk;
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let (line, after) = rest.split_at(end);
                if pending.is_empty() {
                    entries.line(line);
                } else {
                    pending.extend_from_slice(line);
                    entries.line(&pending);
                    pending.clear();
                }
                rest = after.get(1..).unwrap_or_default();
            }
            pending.extend_from_slice(rest);
            let whole = pending.len() - pending.len() % MAX_LINE;
            if let Some(full) = pending.get(..whole).filter(|full| !full.is_empty()) {
                entries.partial(full);
                pending.drain(..whole);
            }
            if !entries.bytes.is_empty() {
                lock(&self.sink).write(&entries.bytes, &self.path);
            }
        }
        if pending.is_empty() {
            // An idle container's log keeps no memory.
            *pending = Vec::new();
        }
    }
}

impl Sink {
    /// Writes whole entries. A log that cannot be written (a full disk) loses lines, counted and
    /// told in the log once it can; the guest goes on, as with every other CRI runtime.
    fn write(&mut self, entries: &[u8], path: &Path) {
        if self.torn || self.lost > 0 {
            let mut notice = Entries::new(Stream::Stderr);
            if self.torn {
                notice.bytes.push(b'\n');
            }
            let text = format!("wasmpod: {} bytes of log could not be written here", self.lost);
            notice.line(text.as_bytes());
            if self.write_all(&notice.bytes).is_err() {
                self.lost += entries.len() as u64;
                return;
            }
            self.lost = 0;
            self.torn = false;
        }
        if let Err(lost) = self.write_all(entries) {
            if self.lost == 0 {
                tracing::warn!(path = %path.display(), lost, "the log cannot be written");
            }
            self.lost += lost as u64;
        }
    }

    /// The error is how many bytes at the end of `bytes` are not in the file; those that are end
    /// with a whole entry wherever the file lets itself be cut.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if written == bytes.len() {
            return Ok(());
        }
        let begun = bytes.get(..written).unwrap_or_default();
        let whole = begun.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole < written && self.cut(written - whole).is_err() {
            self.torn = true;
        }
        Err(bytes.len() - whole)
    }

    fn cut(&self, bytes: usize) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        self.file.set_len(length.saturating_sub(bytes as u64))
    }
}

/// Log entries of one moment and stream.
struct Entries {
    prefix: String,
    bytes: Vec<u8>,
}

impl Entries {
    fn new(stream: Stream) -> Self {
        let time =
            DateTimePrinter::new().precision(Some(9)).timestamp_to_string(&jiff::Timestamp::now());
        Self { prefix: format!("{time} {} ", stream.name()), bytes: Vec::new() }
    }

    /// A line without its newline, split where it is too long.
    fn line(&mut self, text: &[u8]) {
        let mut rest = text;
        while let Some((head, tail)) =
            rest.split_at_checked(MAX_LINE).filter(|(_, t)| !t.is_empty())
        {
            self.entry(b"P ", head);
            rest = tail;
        }
        self.entry(b"F ", rest);
    }

    fn partial(&mut self, text: &[u8]) {
        for piece in text.chunks(MAX_LINE) {
            self.entry(b"P ", piece);
        }
    }

    fn entry(&mut self, tag: &[u8], text: &[u8]) {
        self.bytes.extend_from_slice(self.prefix.as_bytes());
        self.bytes.extend_from_slice(tag);
        self.bytes.extend_from_slice(text);
        self.bytes.push(b'\n');
    }
}

struct LogStream {
    log: Arc<LogFile>,
    stream: Stream,
}

impl Output for LogStream {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.log.append(self.stream, bytes);
        Ok(())
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
