//! mkdir, rmdir, rm, touch, mktemp, du, df.

use super::{Call, Failure, Known, Order, Outcome};
use crate::sys::{self, File, Follow, Kind, Mode};

/// Folders inside of each other that are gone through: the stack's room.
const DEEPEST: usize = 200;

/// Does something with each, telling what failed.
pub fn each(call: &Call, names: &[String], act: impl Fn(&str) -> std::io::Result<()>) -> Outcome {
    if names.is_empty() {
        return Err(Failure::Says("missing operand".to_owned(), 1));
    }
    let mut status = 0;
    for name in names {
        if let Err(error) = act(&call.path(name)) {
            call.blame(name, &error);
            status = 1;
        }
    }
    Ok(status)
}

pub fn make_folders(path: &str) -> std::io::Result<()> {
    let is_folder = |path: &str| sys::stat(path, Follow::Yes).is_ok_and(|s| s.kind == Kind::Folder);
    if path.trim_matches('/').is_empty() || is_folder(path) {
        return Ok(());
    }
    if let Some((above, _)) = path.trim_end_matches('/').rsplit_once('/') {
        make_folders(above)?;
    }
    match sys::make_folder(path.trim_end_matches('/')) {
        Err(_) if is_folder(path) => Ok(()),
        made => made,
    }
}

pub fn mkdir(call: &mut Call) -> Outcome {
    let given =
        call.options_of(&Known { letters: "pm:v", long: &[("parents", 'p')] }, Order::Any)?;
    each(call, &given.rest, |path| match given.has('p') {
        true => make_folders(path),
        false => sys::make_folder(path.trim_end_matches('/')),
    })
}

pub fn rmdir(call: &mut Call) -> Outcome {
    let given = call.options("p")?;
    each(call, &given.rest, |path| {
        let mut path = path.trim_end_matches('/');
        sys::remove_folder(path)?;
        while given.has('p')
            && let Some((above, _)) = path.rsplit_once('/')
            && !above.is_empty()
        {
            path = above;
            sys::remove_folder(path)?;
        }
        Ok(())
    })
}

/// Removes whatever is there, links not followed.
pub fn remove_all(path: &str) -> std::io::Result<()> {
    remove(path, 0)
}

fn remove(path: &str, depth: usize) -> std::io::Result<()> {
    if sys::stat(path, Follow::No)?.kind != Kind::Folder {
        return sys::remove_file(path);
    }
    if depth > DEEPEST {
        return Err(std::io::Error::other("folders are nested too deeply"));
    }
    for (name, _) in sys::list(path)? {
        remove(&format!("{path}/{name}"), depth + 1)?;
    }
    sys::remove_folder(path)
}

pub fn rm(call: &mut Call) -> Outcome {
    let known = Known { letters: "rRfiv", long: &[("recursive", 'r'), ("force", 'f')] };
    let given = call.options_of(&known, Order::Any)?;
    let (recursive, force) = (given.has('r') || given.has('R'), given.has('f'));
    if given.rest.is_empty() && force {
        return Ok(0);
    }
    each(call, &given.rest, |path| {
        let path = path.trim_end_matches('/');
        let kind = match sys::stat(path, Follow::No) {
            Err(error) if force && error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            found => found?.kind,
        };
        match (kind, recursive) {
            (Kind::Folder, true) if sys::normal(path) == "/" => {
                Err(std::io::Error::other("it is the root, which is not removed"))
            }
            (Kind::Folder, true) => remove_all(path),
            (Kind::Folder, false) => Err(std::io::ErrorKind::IsADirectory.into()),
            _ => sys::remove_file(path),
        }
    })
}

pub fn touch(call: &mut Call) -> Outcome {
    let given = call.options("cd:r:amht:")?;
    let time = match (given.value('d'), given.value('r')) {
        (Some(text), _) => {
            let time = super::system::parse_time(text);
            Some(time.ok_or_else(|| format!("invalid date '{text}'"))?)
        }
        (None, Some(name)) => {
            let found = sys::stat(&call.path(name), Follow::Yes);
            Some(found.map_err(|error| format!("{name}: {}", sys::text(&error)))?.modified)
        }
        (None, None) => None,
    };
    let time = time.unwrap_or_else(sys::now);
    let accessed = (!given.has('m') || given.has('a')).then_some(time);
    let modified = (!given.has('a') || given.has('m')).then_some(time);
    each(call, &given.rest, |path| match sys::set_times(path, accessed, modified, Follow::Yes) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if given.has('c') {
                return Ok(());
            }
            File::open(path, Mode::Update)?;
            match given.has('d') || given.has('r') {
                true => sys::set_times(path, accessed, modified, Follow::Yes),
                false => Ok(()),
            }
        }
        set => set,
    })
}

/// Of the files that are named. Without any there is nothing to do: WASI has no call for a whole
/// system, and what a guest has written is the kernel's already.
pub fn sync(call: &mut Call) -> Outcome {
    let given = call.options("df")?;
    if given.rest.is_empty() {
        return Ok(0);
    }
    each(call, &given.rest, |path| File::open(path, Mode::Read)?.sync())
}

pub fn mktemp(call: &mut Call) -> Outcome {
    let given = call.options("dqtup:")?;
    let folder = given.value('p').or_else(|| call.variable("TMPDIR")).unwrap_or("/tmp");
    let template = match given.rest.first() {
        Some(template) if given.has('t') || given.has('p') => format!("{folder}/{template}"),
        Some(template) => template.clone(),
        None => format!("{folder}/tmp.XXXXXX"),
    };
    let stem = template.trim_end_matches('X').to_owned();
    let count = template.len() - stem.len();
    if count < 3 {
        return Err(format!("{template}: a template ends with XXX at least").into());
    }
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    for _ in 0..100 {
        let letter = |_| {
            let at = (sys::random() % LETTERS.len() as u64) as usize;
            LETTERS.get(at).copied().map_or('a', char::from)
        };
        let name: String = stem.chars().chain((0..count).map(letter)).collect();
        let path = call.path(&name);
        let made = match given.has('d') {
            _ if given.has('u') => Ok(()),
            true => sys::make_folder(&path),
            false => File::open(&path, Mode::New).map(drop),
        };
        match made {
            Ok(()) => {
                call.out.line(&name)?;
                return Ok(0);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("{template}: {}", sys::text(&error)).into()),
        }
    }
    Err(format!("{template}: no name is free").into())
}

/// 1.5M and the like.
pub fn human(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    const UNITS: [&str; 6] = ["", "K", "M", "G", "T", "P"];
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes}") } else { format!("{value:.1}{name}") }
}

pub fn du(call: &mut Call) -> Outcome {
    let given = call.options("skhabcmxd:")?;
    let names = if given.rest.is_empty() { vec![".".to_owned()] } else { given.rest.clone() };
    let most = match given.value('d') {
        Some(text) => super::number(text)?,
        None if given.has('s') => 0,
        None => usize::MAX,
    };
    let shown = |bytes: u64| match () {
        () if given.has('h') => human(bytes),
        () if given.has('b') => bytes.to_string(),
        () if given.has('m') => bytes.div_ceil(1 << 20).to_string(),
        () => bytes.div_ceil(1024).to_string(),
    };
    let mut status = 0;
    let mut total = 0;
    for name in names {
        let mut lines = Vec::new();
        match sizes(&call.path(&name), (&name, 0), &mut |path, depth, bytes, kind| {
            if depth <= most && (kind == Kind::Folder || given.has('a') || depth == 0) {
                lines.push(format!("{}\t{path}", shown(bytes)));
            }
        }) {
            Ok(bytes) => total += bytes,
            Err(error) => {
                call.blame(&name, &error);
                status = 1;
            }
        }
        for line in lines {
            call.out.line(&line)?;
        }
    }
    if given.has('c') {
        let line = format!("{}\ttotal", shown(total));
        call.out.line(&line)?;
    }
    Ok(status)
}

/// Bytes that files say they have: WASI does not tell what they take on disk.
fn sizes(
    path: &str,
    (name, depth): (&str, usize),
    tell: &mut impl FnMut(&str, usize, u64, Kind),
) -> std::io::Result<u64> {
    let found = sys::stat(path, Follow::No)?;
    let mut bytes = found.size;
    if found.kind == Kind::Folder && depth < DEEPEST {
        for (entry, _) in sys::list(path)? {
            let below = format!("{}/{entry}", name.trim_end_matches('/'));
            bytes += sizes(&format!("{path}/{entry}"), (&below, depth + 1), tell).unwrap_or(0);
        }
    }
    tell(name, depth, bytes, found.kind);
    Ok(bytes)
}

pub fn df(_: &mut Call) -> Outcome {
    Err(Failure::Says("WASI does not tell a program how large its file systems are".to_owned(), 1))
}
