//! File operations, each one line of output.
//!
//!     read P               contents, without the newline at their end
//!     write P TEXT         creates or truncates
//!     create P TEXT        fails when there is one
//!     append P TEXT
//!     overwrite P TEXT     opens what is there without creating or truncating it
//!     truncate P BYTES
//!     stat P / lstat P     kind and size
//!     ls P                 names, sorted
//!     mkdir P / rmdir P / unlink P
//!     link OLD NEW / symlink TARGET NEW / readlink P / rename OLD NEW
//!     touch P SECONDS      sets the time of modification
//!     mtime P              seconds
//!     head P BYTES         that many bytes, in hex
//!     await P              until P is there
//!     watch P LAST         prints each contents that it sees change, until they are LAST
//!     race P READS MARK    reads that often, tells how many reads succeeded and how many held MARK
//!     open-many P N        opens P until an error or N times, holding all
//!     hold P               opens P and keeps it open from there on
//!     io write P BLOCK COUNT / io read P BLOCK COUNT   nanoseconds for all

use std::ffi::{CString, c_char, c_int};
use std::fs::{self, File, FileTimes, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Outcome;

const PAUSE: Duration = Duration::from_millis(2);

pub fn run(words: &[&str]) -> Option<Outcome> {
    let done = |outcome: io::Result<()>| outcome.map(|()| Some(String::new()));
    Some(match words {
        ["read", path] => fs::read(path).map(|bytes| Some(text(&bytes))),
        ["write", path, text] => done(fs::write(path, text)),
        ["create", path, text] => {
            done(put(OpenOptions::new().write(true).create_new(true), path, text))
        }
        ["append", path, text] => {
            done(put(OpenOptions::new().append(true).create(true), path, text))
        }
        ["overwrite", path, text] => done(put(OpenOptions::new().write(true), path, text)),
        ["truncate", path, bytes] => done(truncate(path, bytes)),
        ["stat", path] => fs::metadata(path).map(|found| Some(described(&found))),
        ["lstat", path] => fs::symlink_metadata(path).map(|found| Some(described(&found))),
        ["ls", path] => list(path),
        ["mkdir", path] => done(fs::create_dir(path)),
        ["rmdir", path] => done(fs::remove_dir(path)),
        ["unlink", path] => done(fs::remove_file(path)),
        ["link", old, new] => done(fs::hard_link(old, new)),
        ["symlink", target, new] => done(make_symlink(target, new)),
        ["readlink", path] => fs::read_link(path).map(|to| Some(to.display().to_string())),
        ["rename", old, new] => done(fs::rename(old, new)),
        ["touch", path, seconds] => done(touch(path, seconds)),
        ["mtime", path] => mtime(path),
        ["head", path, bytes] => head(path, bytes),
        ["await", path] => done(await_file(path)),
        ["watch", path, last] => watch(path, last),
        ["race", path, reads, mark] => race(path, reads, mark),
        ["open-many", path, most] => open_many(path, most),
        ["hold", path] => hold(path),
        ["io", "write", path, block, count] => {
            io_write(path, number(block).ok()?, number(count).ok()?)
        }
        ["io", "read", path, block, count] => {
            io_read(path, number(block).ok()?, number(count).ok()?)
        }
        _ => return None,
    })
}

pub fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned()
}

fn put(options: &OpenOptions, path: &str, text: &str) -> io::Result<()> {
    options.open(path)?.write_all(text.as_bytes())
}

fn truncate(path: &str, bytes: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(number(bytes)? as u64)
}

fn described(found: &Metadata) -> String {
    let kind = found.file_type();
    let kind = if kind.is_dir() {
        "folder"
    } else if kind.is_symlink() {
        "link"
    } else if kind.is_file() {
        "file"
    } else {
        "other"
    };
    format!("{kind} {}", found.len())
}

fn list(path: &str) -> Outcome {
    let names: io::Result<Vec<String>> = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect();
    let mut names = names?;
    names.sort();
    Ok(Some(names.join(" ")))
}

unsafe extern "C" {
    // std's own is not stable on wasi.
    fn symlink(target: *const c_char, new: *const c_char) -> c_int;
}

fn make_symlink(target: &str, new: &str) -> io::Result<()> {
    let (target, new) = (CString::new(target)?, CString::new(new)?);
    // SAFETY: both are C strings that live through the call.
    match unsafe { symlink(target.as_ptr(), new.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn touch(path: &str, seconds: &str) -> io::Result<()> {
    let at = UNIX_EPOCH + Duration::from_secs(number(seconds)? as u64);
    OpenOptions::new().write(true).open(path)?.set_times(FileTimes::new().set_modified(at))
}

fn mtime(path: &str) -> Outcome {
    let at: SystemTime = fs::metadata(path)?.modified()?;
    Ok(Some(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string()))
}

fn head(path: &str, bytes: &str) -> Outcome {
    let mut held = vec![0; number(bytes)?];
    File::open(path)?.read_exact(&mut held)?;
    Ok(Some(held.iter().map(|byte| format!("{byte:02x}")).collect()))
}

fn await_file(path: &str) -> io::Result<()> {
    while !Path::new(path).exists() {
        sleep(PAUSE);
    }
    Ok(())
}

fn watch(path: &str, last: &str) -> Outcome {
    let mut seen = String::new();
    while seen != last {
        let now = text(&fs::read(path)?);
        if now != seen {
            println!("watch {path}: sees {now}");
            seen = now;
        }
        sleep(PAUSE);
    }
    Ok(Some(String::new()))
}

fn race(path: &str, reads: &str, mark: &str) -> Outcome {
    let (mut good, mut marked) = (0, 0);
    for _ in 0..number(reads)? {
        if let Ok(bytes) = fs::read(path) {
            good += 1;
            if text(&bytes).contains(mark) {
                marked += 1;
            }
        }
    }
    Ok(Some(format!("reads {good} marked {marked}")))
}

fn open_many(path: &str, most: &str) -> Outcome {
    let mut held = Vec::new();
    for _ in 0..number(most)? {
        match File::open(path) {
            Ok(file) => held.push(file),
            Err(error) => {
                let count = held.len();
                drop(held);
                return Ok(Some(format!("{count} then {}", crate::errno::name(&error))));
            }
        }
    }
    Ok(Some(held.len().to_string()))
}

fn hold(path: &str) -> Outcome {
    let file = File::open(path)?;
    std::mem::forget(file);
    Ok(Some(String::new()))
}

fn io_write(path: &str, block: usize, count: usize) -> Outcome {
    let bytes = vec![7_u8; block];
    let mut file = File::create(path)?;
    let start = Instant::now();
    for _ in 0..count {
        file.write_all(&bytes)?;
    }
    Ok(Some(start.elapsed().as_nanos().to_string()))
}

fn io_read(path: &str, block: usize, count: usize) -> Outcome {
    let mut bytes = vec![0_u8; block];
    let mut file = File::open(path)?;
    let start = Instant::now();
    for _ in 0..count {
        file.read_exact(&mut bytes)?;
    }
    Ok(Some(start.elapsed().as_nanos().to_string()))
}
