//! ln, readlink, realpath, stat.

use super::system::shown_time;
use super::{Call, Failure, Outcome, base};
use crate::sys::{self, Follow, Kind, Stat};

/// As many links as the kernel follows.
const LINKS: usize = 40;

pub fn ln(call: &mut Call) -> Outcome {
    let given = call.options("sfnTv")?;
    let (names, own);
    match given.rest.as_slice() {
        [only] => {
            own = base(only).to_owned();
            names = vec![only.clone(), own];
        }
        _ => names = given.rest.clone(),
    }
    let Some((to, from)) = names.split_last().filter(|(_, from)| !from.is_empty()) else {
        return Err(Failure::Says("missing file operand".to_owned(), 1));
    };
    let follow = if given.has('n') { Follow::No } else { Follow::Yes };
    let is_folder = !given.has('T')
        && sys::stat(&call.path(to), follow).is_ok_and(|found| found.kind == Kind::Folder);
    let mut status = 0;
    for name in from {
        let to = if is_folder {
            format!("{}/{}", to.trim_end_matches('/'), base(name))
        } else {
            to.clone()
        };
        let path = call.path(&to);
        if given.has('f') && sys::stat(&path, Follow::No).is_ok() {
            // The link's own error tells more.
            let _ = sys::remove_file(&path);
        }
        let made = match given.has('s') {
            true => sys::symlink(name, &path),
            false => sys::link(&call.path(name), &path),
        };
        if let Err(error) = made {
            call.blame(&to, &error);
            status = 1;
        }
    }
    Ok(status)
}

/// A path with every link followed; what is missing at its end is left as it is.
pub fn resolve(path: &str) -> std::io::Result<String> {
    let (mut own, mut links) = (String::new(), 0);
    let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    while let Some(name) = left.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                own.truncate(own.rfind('/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let below = format!("{own}/{name}");
        match sys::read_link(&below) {
            Ok(target) => {
                links += 1;
                if links > LINKS {
                    return Err(std::io::Error::other("Too many levels of symbolic links"));
                }
                if target.starts_with('/') {
                    own.clear();
                }
                left.extend(target.split('/').rev().map(str::to_owned));
            }
            Err(_) => own = below,
        }
    }
    Ok(if own.is_empty() { "/".to_owned() } else { own })
}

pub fn readlink(call: &mut Call) -> Outcome {
    let given = call.options("fnemqsvz")?;
    let mut status = 0;
    for name in &given.rest {
        let path = call.path(name);
        let found = match given.has('f') || given.has('e') || given.has('m') {
            true => resolve(&path).ok(),
            false => sys::read_link(&path).ok(),
        };
        let found = found.filter(|path| !given.has('e') || sys::stat(path, Follow::Yes).is_ok());
        match found {
            Some(target) if given.has('n') => {
                std::io::Write::write_all(&mut call.out, target.as_bytes())?
            }
            Some(target) => call.out.line(&target)?,
            None => status = 1,
        }
    }
    Ok(status)
}

pub fn realpath(call: &mut Call) -> Outcome {
    let given = call.options("emqsLP")?;
    let mut status = 0;
    for name in &given.rest {
        let found = resolve(&call.path(name)).and_then(|path| {
            if !given.has('m') {
                sys::stat(&path, Follow::Yes)?;
            }
            Ok(path)
        });
        match found {
            Ok(path) => call.out.line(&path)?,
            Err(error) => {
                call.blame(name, &error);
                status = 1;
            }
        }
    }
    Ok(status)
}

pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "regular file",
        Kind::Folder => "directory",
        Kind::Link => "symbolic link",
        Kind::Character => "character special file",
        Kind::Block => "block special file",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::Unknown => "unknown",
    }
}

pub fn stat(call: &mut Call) -> Outcome {
    let given = call.options("Lc:ft")?;
    let follow = if given.has('L') { Follow::Yes } else { Follow::No };
    let mut status = 0;
    for name in &given.rest {
        let found = match sys::stat(&call.path(name), follow) {
            Ok(found) => found,
            Err(error) => {
                call.complain(&format!("can't stat '{name}': {}", sys::text(&error)));
                status = 1;
                continue;
            }
        };
        let text = match given.value('c') {
            Some(format) => formatted(format, name, &found),
            None => format!(
                "  File: {name}\n  Size: {}\tLinks: {}\t{}\nAccess: {}\nModify: {}\nChange: {}",
                found.size,
                found.links,
                kind_name(found.kind),
                shown_time(found.accessed, "%Y-%m-%d %H:%M:%S"),
                shown_time(found.modified, "%Y-%m-%d %H:%M:%S"),
                shown_time(found.changed, "%Y-%m-%d %H:%M:%S"),
            ),
        };
        call.out.line(&text)?;
    }
    Ok(status)
}

/// Modes and owners are `?`: WASI does not tell them.
fn formatted(format: &str, name: &str, found: &Stat) -> String {
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let time = |time: sys::Time| shown_time(time, "%Y-%m-%d %H:%M:%S");
        match letters.next() {
            Some('n') => text.push_str(name),
            Some('s') => text.push_str(&found.size.to_string()),
            Some('h') => text.push_str(&found.links.to_string()),
            Some('F') => text.push_str(kind_name(found.kind)),
            Some('X') => text.push_str(&found.accessed.0.to_string()),
            Some('Y') => text.push_str(&found.modified.0.to_string()),
            Some('Z') => text.push_str(&found.changed.0.to_string()),
            Some('x') => text.push_str(&time(found.accessed)),
            Some('y') => text.push_str(&time(found.modified)),
            Some('z') => text.push_str(&time(found.changed)),
            Some('%') => text.push('%'),
            _ => text.push('?'),
        }
    }
    text
}
