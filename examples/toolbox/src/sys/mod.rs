//! What the toolbox asks of its host: files, standard streams, time, sockets. `wasi` is the real
//! one; `native` lets `cargo test` run the shell and the applets on the build machine. Paths are
//! absolute; whoever calls has joined them with its working directory.

#[cfg(not(target_os = "wasi"))]
mod native;
#[cfg(target_os = "wasi")]
mod wasi;

use std::io;

#[cfg(not(target_os = "wasi"))]
pub use native::*;
#[cfg(target_os = "wasi")]
pub use wasi::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Link,
    Character,
    Block,
    Fifo,
    Socket,
    Unknown,
}

/// Seconds and nanoseconds since the Unix epoch.
pub type Time = (i64, u32);

#[derive(Clone, Debug)]
pub struct Stat {
    pub kind: Kind,
    pub size: u64,
    pub links: u64,
    pub modified: Time,
    pub accessed: Time,
    pub changed: Time,
    /// The same for two names of one file.
    pub id: (u64, u64),
}

/// Whether a link at a path's end is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    Yes,
    No,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Read,
    /// Made or emptied.
    Write,
    /// Made if need be, else left as it is.
    Update,
    /// Made if need be, written at its end.
    Append,
    /// Made; an error where there is one.
    New,
}

/// What a process is started with.
#[cfg_attr(not(target_os = "wasi"), expect(dead_code, reason = "`native` starts none"))]
pub struct Start<'a> {
    /// `None`: this very program again.
    pub file: Option<&'a str>,
    pub arguments: &'a [String],
    pub cwd: &'a str,
    pub environment: &'a [(String, String)],
}

/// A POSIX text for an error, without numbers.
pub fn text(error: &io::Error) -> String {
    use io::ErrorKind as K;
    if let Some(inner) = error.get_ref() {
        return inner.to_string();
    }
    let known = match error.kind() {
        K::NotFound => "No such file or directory",
        K::PermissionDenied => "Permission denied",
        K::AlreadyExists => "File exists",
        K::NotADirectory => "Not a directory",
        K::IsADirectory => "Is a directory",
        K::DirectoryNotEmpty => "Directory not empty",
        K::ReadOnlyFilesystem => "Read-only file system",
        K::StorageFull => "No space left on device",
        K::QuotaExceeded => "Disk quota exceeded",
        K::FileTooLarge => "File too large",
        K::BrokenPipe => "Broken pipe",
        K::InvalidInput => "Invalid argument",
        K::CrossesDevices => "Cross-device link",
        K::ResourceBusy => "Device or resource busy",
        K::InvalidFilename => "File name too long",
        K::ConnectionRefused => "Connection refused",
        K::ConnectionReset => "Connection reset by peer",
        K::HostUnreachable => "No route to host",
        K::NetworkUnreachable => "Network is unreachable",
        K::TimedOut => "Operation timed out",
        K::AddrInUse => "Address already in use",
        K::Unsupported => "Operation not supported",
        _ => return error.to_string(),
    };
    known.to_owned()
}

/// `name` as seen from the folder `cwd`, absolute.
pub fn join(cwd: &str, name: &str) -> String {
    match name.starts_with('/') {
        true => name.to_owned(),
        false => format!("{}/{name}", cwd.trim_end_matches('/')),
    }
}

/// Without `.`, `..` and double slashes, by the letters alone.
pub fn normal(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}
