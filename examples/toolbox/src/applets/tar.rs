//! tar: makes, lists and unpacks archives, as `kubectl cp` asks for it.

use std::io::{Read, Write};

use ::tar::{Archive, Builder, EntryType, Header};

use super::files::{make_folders, remove_all};
use super::system::shown_time;
use super::{Call, Failure, Known, Order, Outcome};
use crate::shell;
use crate::stream::{Out, Stream};
use crate::sys::{self, File, Follow, Kind, Mode};

const OPTIONS: Known = Known {
    letters: "cxtf:C:vmpOkhzjJoX:ST:1:2:",
    long: &[
        ("create", 'c'),
        ("extract", 'x'),
        ("list", 't'),
        ("file", 'f'),
        ("directory", 'C'),
        ("verbose", 'v'),
        ("touch", 'm'),
        ("to-stdout", 'O'),
        ("keep-old-files", 'k'),
        ("dereference", 'h'),
        ("gzip", 'z'),
        ("exclude", '1'),
        ("strip-components", '2'),
        // There are no owners and modes to keep.
        ("no-same-owner", 'o'),
        ("no-same-permissions", 'o'),
        ("same-permissions", 'p'),
        ("preserve-permissions", 'p'),
        ("numeric-owner", 'o'),
        ("sparse", 'S'),
    ],
};

/// Folders inside of each other.
const DEEPEST: usize = 200;

struct Tar {
    verbose: bool,
    touches: bool,
    to_output: bool,
    keeps: bool,
    follow: Follow,
    excluded: Vec<String>,
    strips: usize,
    status: u8,
    told_of_slash: bool,
}

pub fn tar(call: &mut Call) -> Outcome {
    // `tar xf` is `tar -x -f`: letters with values take them in their order from what follows.
    if let Some(first) = call.arguments.first().filter(|word| !word.starts_with('-')).cloned() {
        let mut rest = call.arguments.split_off(1).into_iter();
        call.arguments.clear();
        for letter in first.chars() {
            call.arguments.push(format!("-{letter}"));
            if matches!(letter, 'f' | 'C' | 'T' | 'X') {
                call.arguments.extend(rest.next());
            }
        }
        call.arguments.extend(rest);
    }
    let given = call.options_of(&OPTIONS, Order::Any)?;
    if ['z', 'j', 'J'].into_iter().any(|letter| given.has(letter)) {
        return Err(Failure::Says("compressed archives are not supported".to_owned(), 1));
    }
    let begun = call.cwd.clone();
    if let Some(folder) = given.values('C').last() {
        call.cwd = call.path(folder);
        let found = sys::stat(&call.cwd, Follow::Yes);
        found.map_err(|error| {
            format!("can't change directory to '{folder}': {}", sys::text(&error))
        })?;
    }
    let file = given.value('f').filter(|name| *name != "-").map(str::to_owned);
    let mut tar = Tar {
        verbose: given.has('v'),
        touches: given.has('m'),
        to_output: given.has('O'),
        keeps: given.has('k'),
        follow: if given.has('h') { Follow::Yes } else { Follow::No },
        excluded: given.values('1').map(str::to_owned).collect(),
        strips: given.value('2').map_or(Ok(0), super::number)?,
        status: 0,
        told_of_slash: false,
    };
    // Relative to where it was called, which -C changed.
    let path = |name: &String| sys::join(&begun, name);
    let about = |name: &Option<String>, error: &std::io::Error| {
        format!("{}: {}", name.as_deref().unwrap_or("-"), sys::text(error))
    };
    if given.has('c') {
        let out = match &file {
            Some(name) => File::open(&path(name), Mode::Write).map(Stream::file),
            None => Ok(call.out.stream().clone()),
        };
        let out = Out::new(out.map_err(|error| about(&file, &error))?);
        let mut builder = Builder::new(out);
        for name in &given.rest {
            tar.add(call, &mut builder, name, 0)?;
        }
        let mut out = builder.into_inner()?;
        out.flush()?;
        return Ok(tar.status);
    }
    if !given.has('x') && !given.has('t') {
        return Err(Failure::Says("one of c, x and t is needed".to_owned(), 1));
    }
    let input = match &file {
        Some(name) => File::open(&path(name), Mode::Read).map(Stream::file),
        None => Ok(call.input.clone()),
    };
    let input = input.map_err(|error| about(&file, &error))?;
    let mut archive = Archive::new(input.clone());
    let mut wanted: Vec<(String, bool)> =
        given.rest.iter().map(|name| (name.trim_end_matches('/').to_owned(), false)).collect();
    for entry in archive.entries()? {
        let mut entry = entry.map_err(|error| format!("bad archive: {error}"))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_wanted = wanted.iter_mut().any(|(own, seen)| {
            let fits = name.trim_end_matches('/') == own || name.starts_with(&format!("{own}/"));
            *seen |= fits;
            fits
        });
        if (!wanted.is_empty() && !is_wanted) || tar.is_excluded(&name) {
            continue;
        }
        if given.has('t') {
            let line = if tar.verbose { long(&entry, &name) } else { name };
            call.out.line(&line)?;
            continue;
        }
        if let Err(failure) = tar.extract(call, &mut entry, &name) {
            call.complain(&failure);
            tar.status = 1;
        }
    }
    // What whoever writes still has to say after the archive's end.
    let mut rest = vec![0; 1 << 16];
    while file.is_none() && input.read(&mut rest)? > 0 {}
    for (name, _) in wanted.iter().filter(|(_, seen)| !seen) {
        call.complain(&format!("{name}: not found in archive"));
        tar.status = 1;
    }
    Ok(tar.status)
}

fn long<R: Read>(entry: &::tar::Entry<'_, R>, name: &str) -> String {
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Directory => 'd',
        EntryType::Symlink => 'l',
        EntryType::Link => 'h',
        _ => '-',
    };
    let mode = header.mode().unwrap_or(0);
    let letter =
        |(place, letter): (u32, char)| if mode & (1 << (8 - place)) != 0 { letter } else { '-' };
    let mode: String = (0..9).zip("rwxrwxrwx".chars()).map(letter).collect();
    let time = shown_time((header.mtime().unwrap_or(0) as i64, 0), "%Y-%m-%d %H:%M:%S");
    let link = entry
        .link_name_bytes()
        .map_or(String::new(), |link| format!(" -> {}", String::from_utf8_lossy(&link)));
    let (user, group) = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
    format!("{kind}{mode} {user}/{group} {:9} {time} {name}{link}", entry.size())
}

impl Tar {
    fn is_excluded(&self, name: &str) -> bool {
        let fits = |pattern: &String, name: &str| {
            let letters: Vec<char> = name.chars().collect();
            shell::matches(&shell::letters(pattern, false), &letters)
        };
        let own = name.trim_end_matches('/');
        self.excluded.iter().any(|pattern| fits(pattern, own) || fits(pattern, super::base(own)))
    }

    fn add(
        &mut self,
        call: &mut Call,
        builder: &mut Builder<Out>,
        name: &str,
        depth: usize,
    ) -> Result<(), Failure> {
        if self.is_excluded(name) {
            return Ok(());
        }
        let path = call.path(name);
        let found = match sys::stat(&path, self.follow) {
            Ok(found) if depth <= DEEPEST => found,
            Ok(_) => {
                return Err(Failure::Says(format!("{name}: folders are nested too deeply"), 1));
            }
            Err(error) => {
                call.blame(name, &error);
                self.status = 1;
                return Ok(());
            }
        };
        let mut own = name.trim_start_matches('/');
        if own.len() < name.len() && !self.told_of_slash {
            call.complain("removing leading '/' from member names");
            self.told_of_slash = true;
        }
        own = own.trim_end_matches('/');
        let own = if own.is_empty() { "." } else { own };
        let mut header = Header::new_gnu();
        header.set_mtime(u64::try_from(found.modified.0).unwrap_or(0));
        header.set_size(0);
        // WASI does not tell modes: those that new files have.
        header.set_mode(if found.kind == Kind::Folder { 0o755 } else { 0o644 });
        if self.verbose {
            call.errors.write(format!("{own}\n").as_bytes())?;
        }
        match found.kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, format!("{own}/"), std::io::empty())?;
                let mut names = match sys::list(&path) {
                    Ok(names) => names,
                    Err(error) => {
                        call.blame(name, &error);
                        self.status = 1;
                        return Ok(());
                    }
                };
                names.sort_by(|a, b| a.0.cmp(&b.0));
                for (below, _) in names {
                    let below = format!("{}/{below}", name.trim_end_matches('/'));
                    self.add(call, builder, &below, depth + 1)?;
                }
            }
            Kind::Link => {
                header.set_entry_type(EntryType::Symlink);
                let target = sys::read_link(&path).map_err(|error| sys::text(&error))?;
                builder.append_link(&mut header, own, target)?;
            }
            Kind::File => {
                let file = match File::open(&path, Mode::Read) {
                    Ok(file) => Stream::file(file),
                    Err(error) => {
                        call.blame(name, &error);
                        self.status = 1;
                        return Ok(());
                    }
                };
                header.set_size(found.size);
                // A file that grows meanwhile is cut, one that shrinks is filled with zeros: the
                // header has said how long it is.
                let content = Read::take(Read::chain(file, std::io::repeat(0)), found.size);
                builder.append_data(&mut header, own, content)?;
            }
            _ => call.complain(&format!("{name}: is no file, folder or link: left out")),
        }
        Ok(())
    }

    fn extract<R: Read>(
        &self,
        call: &mut Call,
        entry: &mut ::tar::Entry<'_, R>,
        name: &str,
    ) -> Result<(), String> {
        let parts: Vec<&str> =
            name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err(format!("{name}: names a folder above: left out"));
        }
        let Some(parts) = parts.get(self.strips..).filter(|parts| !parts.is_empty()) else {
            return Ok(());
        };
        let own = parts.join("/");
        let path = call.path(&own);
        let about = |error: std::io::Error| format!("{own}: {}", sys::text(&error));
        if self.verbose {
            let text = format!("{own}\n");
            let _ = if self.to_output {
                call.errors.write(text.as_bytes())
            } else {
                call.out.write_all(text.as_bytes())
            };
        }
        let kind = entry.header().entry_type();
        if self.to_output {
            std::io::copy(entry, &mut call.out).map_err(about)?;
            return Ok(());
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            make_folders(above).map_err(about)?;
        }
        let there = sys::stat(&path, Follow::No).ok();
        if kind.is_dir() {
            make_folders(&path).map_err(about)?;
        } else {
            if let Some(there) = &there {
                if self.keeps {
                    return Err(format!("{own}: File exists"));
                }
                // Never written through: a link is replaced.
                if there.kind != Kind::Folder {
                    remove_all(&path).map_err(about)?;
                }
            }
            let target = || {
                let target = entry.link_name_bytes().unwrap_or_default();
                String::from_utf8_lossy(&target).into_owned()
            };
            if kind.is_symlink() {
                sys::symlink(&target(), &path).map_err(about)?;
                return Ok(());
            }
            if kind.is_hard_link() {
                return sys::link(&call.path(&target()), &path).map_err(about);
            }
            let mut file = Stream::file(File::open(&path, Mode::Write).map_err(about)?);
            std::io::copy(entry, &mut file).map_err(about)?;
        }
        if !self.touches
            && let Ok(time) = entry.header().mtime()
        {
            // Not every file system keeps times.
            let time = Some((time as i64, 0));
            let _ = sys::set_times(&path, time, time, Follow::No);
        }
        Ok(())
    }
}
