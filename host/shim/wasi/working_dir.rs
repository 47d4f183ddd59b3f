//! The working directory, which WASI knows only by name: guests are given "." beside "/", and
//! what their C library makes of paths has to be undone.
//!
//! The C library (and with it Rust's) strips the leading slash of absolute paths and asks the last
//! folder that it was given, "."; `/etc/hosts` and `etc/hosts` arrive alike. A module of preview 1
//! shows more, the guest's memory: a slash is stripped by pointing behind it. That makes programs
//! exact that never link `chdir`, as C ones do as a rule. With it (every Rust program) the library
//! copies what it stripped, and a component's paths always arrive as copies: there only what
//! exists can decide. Go tells absolute paths apart by itself and needs none of this. "/" itself
//! arrives as ".", the working directory, from all but Go.

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

/// How a guest wrote a path that it asks of ".", as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    Absolute,
    Relative,
    Unknown,
}

impl Spelling {
    /// Reads it out of the guest's memory: the path begins at `at`, after these bytes. A slash
    /// there was stripped from an absolute path, unless it is in the middle of a name: then it is
    /// the guest's own doing, which opens the last part of a longer path.
    pub fn read(before: &[u8], at: u32) -> Self {
        if is_allocated(before, at) {
            return Self::Unknown;
        }
        let Some((b'/', _)) = before.split_last() else { return Self::Relative };
        match before.iter().rev().find(|&&byte| byte != b'/') {
            Some(byte) if is_of_a_name(*byte) => Self::Relative,
            _ => Self::Absolute,
        }
    }
}

/// Whether an allocation of wasi-libc's malloc begins here, as the copies do that it makes of
/// paths: the word before it holds its size, in eights, and a bit that says that it is in use.
fn is_allocated(before: &[u8], at: u32) -> bool {
    let head = before.last_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    at.is_multiple_of(8) && head & 2 != 0 && (16..LARGEST_COPY).contains(&(head & !7))
}

/// Bytes of an allocation that holds no more than a path.
const LARGEST_COPY: u32 = 64 << 10;

/// Whether names end with it as a rule: what separates a path from text before it does not.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-~".contains(&byte) || !byte.is_ascii()
}

/// Where a path starts that a guest asks of ".": from the root or from the working directory.
/// Where it is written decides between two that are there; one that is there is preferred to one
/// that is not, so that a slash which was misread hides nothing. A new name goes where it is
/// written, if its folder is there. Of an unknown spelling, the root is looked at first, and a new
/// name without a folder is the working directory's.
pub fn meant<'a>(
    root: &Root,
    (top, dir): (&'a Dir, &'a Dir),
    path: &[u8],
    spelling: Spelling,
) -> &'a Dir {
    let first = path.split(|&byte| byte == b'/').next();
    if matches!(first, Some(b"." | b".." | b"")) {
        return if spelling == Spelling::Absolute { top } else { dir };
    }
    let there = |dir: &Dir, path: &[u8]| root.stat(dir, path, Follow::No).is_ok();
    let (first, second) = match spelling {
        Spelling::Absolute | Spelling::Unknown => (top, dir),
        Spelling::Relative => (dir, top),
    };
    if there(first, path) {
        return first;
    }
    if there(second, path) {
        return second;
    }
    let name_at = path.iter().rposition(|&byte| byte == b'/');
    match (name_at.map(|slash| path.split_at(slash)), spelling) {
        (None, Spelling::Unknown) => dir,
        (None, Spelling::Absolute | Spelling::Relative) => first,
        (Some((parent, _)), _) if there(first, parent) => first,
        (Some((parent, _)), _) if there(second, parent) => second,
        (Some(_), Spelling::Absolute) => top,
        (Some(_), Spelling::Relative | Spelling::Unknown) => dir,
    }
}

#[cfg(test)]
mod tests {
    use super::Spelling::{self, Absolute, Relative, Unknown};

    #[test]
    fn a_slash_before_a_path_was_stripped_unless_it_is_within_a_name() {
        for (before, spelling) in [
            (&b""[..], Relative),
            (b"/", Absolute),
            (b"//", Absolute),
            (b"text\0/", Absolute),
            (b"--out=/", Absolute),
            (b"/bin:/", Absolute),
            (b"text\0", Relative),
            (b"folder/", Relative),
            (b"folder//", Relative),
            (b"\0./", Relative),
            ("\u{e4}/".as_bytes(), Relative),
        ] {
            assert_eq!(Spelling::read(before, 1025), spelling, "{}", before.escape_ascii());
        }
    }

    #[test]
    fn of_a_copy_nothing_is_known() {
        for (before, at, spelling) in [
            (b"\0\0\0\0\x13\0\0\0", 1024, Unknown),
            (b"\0\0\0\0\x12\x02\0\0", 1032, Unknown),
            (b"\0\0\0\0\x13\0\0\0", 1025, Relative),
            (b"\0\0\0\0\x11\0\0\0", 1024, Relative),
            (b"\0\0\0\0\x03\0\0\0", 1024, Relative),
            (b"\0\0\0text\0", 1024, Relative),
        ] {
            assert_eq!(Spelling::read(before, at), spelling, "{} {at}", before.escape_ascii());
        }
    }
}
