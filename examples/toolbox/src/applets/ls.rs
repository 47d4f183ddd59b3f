//! ls.

use super::files::human;
use super::system::shown_time;
use super::{Call, Failure, Known, Order, Outcome};
use crate::sys::{self, Follow, Kind, Stat};

const DEEPEST: usize = 100;

struct Look {
    all: bool,
    /// `.` and `..` as well.
    dots: bool,
    long: bool,
    human: bool,
    recursive: bool,
    marks: bool,
    slashes: bool,
    reversed: bool,
    by_time: bool,
    by_size: bool,
    inodes: bool,
    follow: Follow,
}

pub fn ls(call: &mut Call) -> Outcome {
    let known = Known {
        letters: "aAlhRrtSdFp1iCLHnox",
        long: &[("all", 'a'), ("almost-all", 'A'), ("recursive", 'R'), ("color", '1')],
    };
    let given = call.options_of(&known, Order::Any)?;
    let look = Look {
        all: given.has('a') || given.has('A'),
        dots: given.has('a'),
        long: given.has('l') || given.has('n') || given.has('o'),
        human: given.has('h'),
        recursive: given.has('R'),
        marks: given.has('F'),
        slashes: given.has('p'),
        reversed: given.has('r'),
        by_time: given.has('t'),
        by_size: given.has('S'),
        inodes: given.has('i'),
        follow: if given.has('L') { Follow::Yes } else { Follow::No },
    };
    let names = if given.rest.is_empty() { vec![".".to_owned()] } else { given.rest.clone() };
    let (mut files, mut folders, mut status) = (Vec::new(), Vec::new(), 0);
    for name in names {
        let path = call.path(&name);
        // A link that is named shows what it leads to, but for `-l` and `-d`.
        let through =
            !look.long && !given.has('d') || look.follow == Follow::Yes || name.ends_with('/');
        let found = match through {
            true => sys::stat(&path, Follow::Yes).or_else(|_| sys::stat(&path, Follow::No)),
            false => sys::stat(&path, Follow::No),
        };
        match found {
            Ok(found) if found.kind == Kind::Folder && !given.has('d') => folders.push(name),
            Ok(found) => files.push((name, found)),
            Err(error) => {
                call.blame(&name, &error);
                status = 1;
            }
        }
    }
    look.sort(&mut files);
    let titled = folders.len() + files.len() > 1 || look.recursive || status != 0;
    let mut is_first = files.is_empty();
    look.show(call, "", &files)?;
    folders.sort();
    for folder in folders {
        look.folder(call, &folder, (titled, 0), (&mut is_first, &mut status))?;
    }
    Ok(status)
}

impl Look {
    fn sort(&self, entries: &mut [(String, Stat)]) {
        entries.sort_by(|a, b| {
            let order = match () {
                () if self.by_time => b.1.modified.cmp(&a.1.modified),
                () if self.by_size => b.1.size.cmp(&a.1.size),
                () => std::cmp::Ordering::Equal,
            };
            order.then_with(|| a.0.cmp(&b.0))
        });
        if self.reversed {
            entries.reverse();
        }
    }

    fn folder(
        &self,
        call: &mut Call,
        name: &str,
        (titled, depth): (bool, usize),
        (is_first, status): (&mut bool, &mut u8),
    ) -> Result<(), Failure> {
        let path = call.path(name);
        let names = match sys::list(&path) {
            Ok(names) => names,
            Err(error) => {
                call.out_then_blame(name, &error)?;
                *status = 1;
                return Ok(());
            }
        };
        let mut names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
        names.retain(|name| self.all || !name.starts_with('.'));
        if self.dots {
            names.extend([".".to_owned(), "..".to_owned()]);
        }
        let mut entries = Vec::new();
        for own in names {
            let below = format!("{path}/{own}");
            // Gone meanwhile, or a link to nothing.
            let found = sys::stat(&below, self.follow).or_else(|_| sys::stat(&below, Follow::No));
            match found {
                Ok(found) => entries.push((own, found)),
                Err(error) => {
                    call.out_then_blame(&below, &error)?;
                    *status = 1;
                }
            }
        }
        self.sort(&mut entries);
        if titled {
            let between = if *is_first { "" } else { "\n" };
            call.out.line(&format!("{between}{name}:"))?;
        }
        *is_first = false;
        self.show(call, &path, &entries)?;
        if self.recursive && depth < DEEPEST {
            for (own, found) in entries {
                if found.kind == Kind::Folder && own != "." && own != ".." {
                    let below = format!("{}/{own}", name.trim_end_matches('/'));
                    self.folder(call, &below, (titled, depth + 1), (is_first, status))?;
                }
            }
        }
        Ok(())
    }

    fn show(
        &self,
        call: &mut Call,
        folder: &str,
        entries: &[(String, Stat)],
    ) -> Result<(), Failure> {
        let shown = |bytes: u64| if self.human { human(bytes) } else { bytes.to_string() };
        let width = entries.iter().map(|(_, found)| shown(found.size).len()).max().unwrap_or(0);
        for (name, found) in entries {
            let mark = match found.kind {
                Kind::Folder if self.marks || self.slashes => "/",
                Kind::Link if self.marks && !self.long => "@",
                Kind::Fifo if self.marks => "|",
                Kind::Socket if self.marks => "=",
                _ => "",
            };
            let inode = if self.inodes { format!("{} ", found.id.1) } else { String::new() };
            if !self.long {
                call.out.line(&format!("{inode}{name}{mark}"))?;
                continue;
            }
            let letter = match found.kind {
                Kind::Folder => 'd',
                Kind::Link => 'l',
                Kind::Character => 'c',
                Kind::Block => 'b',
                Kind::Fifo => 'p',
                Kind::Socket => 's',
                Kind::File => '-',
                Kind::Unknown => '?',
            };
            let target = match found.kind {
                Kind::Link => {
                    let path = sys::join(if folder.is_empty() { &call.cwd } else { folder }, name);
                    sys::read_link(&path).map_or(String::new(), |target| format!(" -> {target}"))
                }
                _ => String::new(),
            };
            let time = shown_time(found.modified, "%b %e %H:%M %Y");
            let (links, size) = (found.links, shown(found.size));
            // Modes and owners are not told to a WASI program.
            call.out.line(&format!(
                "{inode}{letter}????????? {links:>3} ? ? {size:>width$} {time} {name}{mark}{target}"
            ))?;
        }
        Ok(())
    }
}

impl Call {
    /// So that both come in the order in which they came about.
    fn out_then_blame(&mut self, name: &str, error: &std::io::Error) -> Result<(), Failure> {
        std::io::Write::flush(&mut self.out)?;
        self.blame(name, error);
        Ok(())
    }
}
