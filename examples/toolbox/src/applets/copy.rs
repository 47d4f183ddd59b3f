//! cp, mv.

use std::io::{self, ErrorKind};

use super::files::remove_all;
use super::{Call, Failure, Known, Order, Outcome, base};
use crate::sys::{self, File, Follow, Kind, Mode};

const DEEPEST: usize = 200;

struct Ways {
    recursive: bool,
    times: bool,
    /// Of what is named; below, links are copied as links.
    follow: Follow,
    force: bool,
    update: bool,
}

/// Sources and what each is to become.
fn targets(call: &Call, names: &[String], whole: bool) -> Result<Vec<(String, String)>, Failure> {
    let Some((to, from)) = names.split_last().filter(|(_, from)| !from.is_empty()) else {
        return Err(Failure::Says("missing file operand".to_owned(), 1));
    };
    let is_folder = !whole
        && sys::stat(&call.path(to), Follow::Yes).is_ok_and(|found| found.kind == Kind::Folder);
    if from.len() > 1 && !is_folder {
        return Err(Failure::Says(format!("target '{to}': Not a directory"), 1));
    }
    let target = |name: &String| match is_folder {
        true => format!("{}/{}", to.trim_end_matches('/'), base(name.trim_end_matches('/'))),
        false => to.clone(),
    };
    Ok(from.iter().map(|name| (name.clone(), target(name))).collect())
}

pub fn cp(call: &mut Call) -> Outcome {
    let known = Known {
        letters: "rRapfiTLPHdvun",
        long: &[("recursive", 'r'), ("archive", 'a'), ("force", 'f')],
    };
    let given = call.options_of(&known, Order::Any)?;
    let all = given.has('a');
    let recursive = all || given.has('r') || given.has('R');
    let keeps = all
        || given.has('P')
        || given.has('d')
        || (recursive && !given.has('L') && !given.has('H'));
    let ways = Ways {
        recursive,
        times: all || given.has('p'),
        follow: if keeps { Follow::No } else { Follow::Yes },
        force: given.has('f'),
        update: given.has('n'),
    };
    let mut status = 0;
    for (from, to) in targets(call, &given.rest, given.has('T'))? {
        if let Err(error) = copy(call, (&from, &to), &ways, 0) {
            call.complain(&error);
            status = 1;
        }
    }
    Ok(status)
}

/// `Err` names the file.
fn copy(call: &Call, (from, to): (&str, &str), ways: &Ways, depth: usize) -> Result<(), String> {
    let (source, target) = (call.path(from), call.path(to));
    let about = |name: &str| {
        let name = name.to_owned();
        move |error: io::Error| format!("{name}: {}", sys::text(&error))
    };
    let found = sys::stat(&source, ways.follow).map_err(about(from))?;
    let there = sys::stat(&target, Follow::Yes).ok();
    if there.as_ref().is_some_and(|there| there.id == found.id && found.id != (0, 0)) {
        return Err(format!("{from} and {to} are the same file"));
    }
    if there.is_some() && ways.update {
        return Ok(());
    }
    match found.kind {
        Kind::Folder if !ways.recursive => return Err(format!("{from}: is a folder (use -r)")),
        Kind::Folder => {
            if depth > DEEPEST {
                return Err(format!("{from}: folders are nested too deeply"));
            }
            if sys::normal(&target).starts_with(&format!("{}/", sys::normal(&source))) {
                return Err(format!("{to} lies in {from} itself"));
            }
            match sys::make_folder(&target) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(about(to)(error));
                }
                _ => {}
            }
            for (name, _) in sys::list(&source).map_err(about(from))? {
                copy(call, (&format!("{from}/{name}"), &format!("{to}/{name}")), ways, depth + 1)?;
            }
        }
        Kind::Link => {
            let link = sys::read_link(&source).map_err(about(from))?;
            if there.is_some() || sys::stat(&target, Follow::No).is_ok() {
                sys::remove_file(&target).map_err(about(to))?;
            }
            return sys::symlink(&link, &target).map_err(about(to));
        }
        _ => {
            let input = File::open(&source, Mode::Read).map_err(about(from))?;
            let output = match File::open(&target, Mode::Write) {
                Err(_) if ways.force && there.is_some() => {
                    sys::remove_file(&target).map_err(about(to))?;
                    File::open(&target, Mode::Write)
                }
                opened => opened,
            };
            let output = output.map_err(about(to))?;
            let mut bytes = vec![0; 1 << 18];
            loop {
                let count = input.read(&mut bytes).map_err(about(from))?;
                if count == 0 {
                    break;
                }
                let mut left = bytes.get(..count).unwrap_or_default();
                while !left.is_empty() {
                    let wrote = output.write(left).map_err(about(to))?;
                    left = left.get(wrote.max(1)..).unwrap_or_default();
                }
            }
        }
    }
    if ways.times {
        let times = (Some(found.accessed), Some(found.modified));
        sys::set_times(&target, times.0, times.1, Follow::Yes).map_err(about(to))?;
    }
    Ok(())
}

pub fn mv(call: &mut Call) -> Outcome {
    let given = call.options("finTv")?;
    let mut status = 0;
    for (from, to) in targets(call, &given.rest, given.has('T'))? {
        let (source, target) = (call.path(&from), call.path(&to));
        if given.has('n') && sys::stat(&target, Follow::No).is_ok() {
            continue;
        }
        let moved = match sys::rename(&source, &target) {
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                let ways = Ways {
                    recursive: true,
                    times: true,
                    follow: Follow::No,
                    force: true,
                    update: false,
                };
                copy(call, (&from, &to), &ways, 0).and_then(|()| {
                    remove_all(&source).map_err(|e| format!("{from}: {}", sys::text(&e)))
                })
            }
            moved => moved.map_err(|error| format!("{from}: {}", sys::text(&error))),
        };
        if let Err(sentence) = moved {
            call.complain(&sentence);
            status = 1;
        }
    }
    Ok(status)
}
