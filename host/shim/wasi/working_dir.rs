//! The working directory, which WASI knows only by name: guests are given "." beside "/", and
//! what their C library makes of paths has to be undone.

use rustix::io::Errno;

use super::fs::{Dir, Follow, Node, OpenOptions, Root};

/// Opens the working directory, made when it is missing as runc does; `None` when it is the root
/// itself. `Err` is one sentence.
pub fn open(root: &Root, top: &Dir, path: &str) -> Result<Option<Dir>, String> {
    if path.split('/').all(|name| name.is_empty() || name == ".") {
        return Ok(None);
    }
    let options = OpenOptions { directory: true, ..OpenOptions::default() };
    let open = || root.open(top, path.as_bytes(), &options);
    let opened = match open() {
        Err(Errno::NOENT) => root.make_dirs(top, path.as_bytes()).and_then(|()| open()),
        opened => opened,
    };
    match opened {
        Ok(Node::Dir(dir)) => Ok(Some(dir)),
        Ok(_) => Err(format!("working directory {path}: {}", Errno::NOTDIR)),
        Err(error) => Err(format!("working directory {path}: {error}")),
    }
}

/// Where a path starts that a guest asks of ".". The C library (and with it Rust) strips the
/// leading slash of absolute paths and asks the last preopen that fits, so `/etc/hosts` and
/// `etc/hosts` arrive alike when there is a working directory. What is there from the root is
/// meant from the root, then what is there from the working directory; a new name belongs where
/// its folder is, and without one to the working directory.
pub fn meant<'a>(root: &Root, (top, dir): (&'a Dir, &'a Dir), path: &[u8]) -> &'a Dir {
    let first = path.split(|&byte| byte == b'/').next();
    if matches!(first, Some(b"." | b".." | b"")) {
        return dir;
    }
    let there = |dir: &Dir, path: &[u8]| root.stat(dir, path, Follow::No).is_ok();
    let parent = path.iter().rposition(|&byte| byte == b'/').map(|slash| path.split_at(slash));
    if there(top, path) {
        top
    } else if there(dir, path) {
        dir
    } else {
        match parent {
            Some((parent, _)) if there(top, parent) => top,
            _ => dir,
        }
    }
}
