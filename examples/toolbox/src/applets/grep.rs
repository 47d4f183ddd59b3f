//! grep.

use std::io::Write;

use regex_lite::Regex;

use super::regex::{Case, Syntax, build, text, translate};
use super::{Call, Failure, Known, Lines, Order, Outcome};
use crate::stream::Stream;
use crate::sys::{self, Follow, Kind};

const OPTIONS: Known = Known {
    letters: "EFGe:f:ivwxcnqsrRlLHhoam:A:B:C:",
    long: &[
        ("extended-regexp", 'E'),
        ("fixed-strings", 'F'),
        ("ignore-case", 'i'),
        ("invert-match", 'v'),
        ("count", 'c'),
        ("line-number", 'n'),
        ("quiet", 'q'),
        ("recursive", 'r'),
        ("only-matching", 'o'),
        ("text", 'a'),
    ],
};

/// Folders inside of each other that are gone through.
const DEEPEST: usize = 64;

struct Search {
    pattern: Regex,
    inverted: bool,
    most: Option<u64>,
    before: usize,
    after: usize,
    show: Show,
    numbers: bool,
    names: bool,
    /// Nothing but the exit status.
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    Lines,
    Matches,
    Count,
    Files,
    FilesWithout,
}

pub fn grep(call: &mut Call) -> Outcome {
    let given = call.options_of(&OPTIONS, Order::Any)?;
    let mut rest = given.rest.iter().cloned();
    let mut patterns: Vec<String> = given.values('e').map(str::to_owned).collect();
    for file in given.values('f') {
        let bytes = call
            .open(file)
            .and_then(|stream| stream.read_all())
            .map_err(|error| Failure::Says(format!("{file}: {}", sys::text(&error)), 2))?;
        patterns.extend(String::from_utf8_lossy(&bytes).lines().map(str::to_owned));
    }
    if !given.has('e') && !given.has('f') {
        let own = rest.next();
        let own =
            own.ok_or_else(|| Failure::Says("usage: grep PATTERN [FILE...]".to_owned(), 2))?;
        patterns.extend(own.split('\n').map(str::to_owned));
    }
    let syntax = match () {
        () if given.has('F') => Syntax::Fixed,
        () if given.has('E') => Syntax::Extended,
        () => Syntax::Basic,
    };
    let own: Result<Vec<String>, Failure> = patterns.iter().map(|p| translate(p, syntax)).collect();
    let mut pattern = own?.iter().map(|own| format!("(?:{own})")).collect::<Vec<_>>().join("|");
    if patterns.is_empty() {
        // Matches nothing.
        pattern = "$a".to_owned();
    }
    if given.has('x') {
        pattern = format!("^(?:{pattern})$");
    } else if given.has('w') {
        pattern = format!(r"\b(?:{pattern})\b");
    }
    let case = if given.has('i') { Case::Ignored } else { Case::Counts };
    let context = |letter: char| -> Result<usize, Failure> {
        let own = given.value(letter).or_else(|| given.value('C'));
        own.map_or(Ok(0), super::number)
    };
    let recursive = given.has('r') || given.has('R');
    let files: Vec<String> = rest.collect();
    let search = Search {
        pattern: build(&pattern, case)?,
        inverted: given.has('v'),
        most: given.value('m').map(super::number).transpose()?,
        before: context('B')?,
        after: context('A')?,
        show: match () {
            () if given.has('l') => Show::Files,
            () if given.has('L') => Show::FilesWithout,
            () if given.has('c') => Show::Count,
            () if given.has('o') => Show::Matches,
            () => Show::Lines,
        },
        numbers: given.has('n'),
        names: given.has('H') || ((files.len() > 1 || recursive) && !given.has('h')),
        quiet: given.has('q'),
    };
    let (mut found, mut failed) = (false, false);
    let files = match (files.is_empty(), recursive) {
        (true, false) => vec!["-".to_owned()],
        (true, true) => vec![".".to_owned()],
        _ => files,
    };
    for name in files {
        let mut all = Vec::new();
        if recursive {
            walk(call, &name, &mut all, 0)
        } else {
            all.push(name)
        }
        for name in all {
            match call.open(&name) {
                Ok(stream) => found |= search.file(call, &name, stream)?,
                Err(error) => {
                    failed = true;
                    if !given.has('s') {
                        call.out.flush()?;
                        call.blame(&name, &error);
                    }
                }
            }
            if found && search.quiet {
                return Ok(0);
            }
        }
    }
    Ok(match (found, failed) {
        (_, true) => 2,
        (true, false) => 0,
        (false, false) => 1,
    })
}

fn walk(call: &Call, name: &str, all: &mut Vec<String>, depth: usize) {
    let path = call.path(name);
    let is_folder = sys::stat(&path, Follow::Yes).is_ok_and(|found| found.kind == Kind::Folder);
    if !is_folder || depth > DEEPEST {
        all.push(name.to_owned());
        return;
    }
    let mut entries = sys::list(&path).unwrap_or_default();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (entry, kind) in entries {
        let below = format!("{}/{entry}", name.trim_end_matches('/'));
        match kind {
            Kind::Folder => walk(call, &below, all, depth + 1),
            Kind::File => all.push(below),
            _ => {}
        }
    }
}

impl Search {
    /// Whether something was found.
    fn file(&self, call: &mut Call, name: &str, stream: Stream) -> Result<bool, Failure> {
        let shown = if name == "-" { "(standard input)" } else { name };
        let prefix = |line: u64, sign: char| {
            let name = if self.names { format!("{shown}{sign}") } else { String::new() };
            if self.numbers { format!("{name}{line}{sign}") } else { name }
        };
        let mut lines = Lines::new(stream);
        let (mut number, mut count, mut after) = (0, 0u64, 0);
        let mut before: std::collections::VecDeque<(u64, Vec<u8>)> = Default::default();
        while let Some(line) = lines.next()? {
            number += 1;
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let (own, is_utf8) = text(line);
            if self.pattern.is_match(&own) == self.inverted {
                if self.show == Show::Lines && !self.quiet {
                    if after > 0 {
                        after -= 1;
                        call.out.write_all(prefix(number, '-').as_bytes())?;
                        call.out.write_all(line)?;
                        call.out.write_all(b"\n")?;
                    } else if self.before > 0 {
                        before.push_back((number, line.to_vec()));
                        if before.len() > self.before {
                            before.pop_front();
                        }
                    }
                }
                continue;
            }
            count += 1;
            if self.quiet || matches!(self.show, Show::Files | Show::FilesWithout) {
                break;
            }
            match self.show {
                Show::Lines => {
                    for (number, line) in before.drain(..) {
                        call.out.write_all(prefix(number, '-').as_bytes())?;
                        call.out.write_all(&line)?;
                        call.out.write_all(b"\n")?;
                    }
                    call.out.write_all(prefix(number, ':').as_bytes())?;
                    call.out.write_all(line)?;
                    call.out.write_all(b"\n")?;
                    after = self.after;
                }
                Show::Matches if !self.inverted => {
                    for found in self.pattern.find_iter(&own).filter(|found| !found.is_empty()) {
                        call.out.write_all(prefix(number, ':').as_bytes())?;
                        call.out.write_all(&super::regex::bytes(found.as_str(), is_utf8))?;
                        call.out.write_all(b"\n")?;
                    }
                }
                _ => {}
            }
            if self.most.is_some_and(|most| count >= most) {
                break;
            }
        }
        let found = count > 0;
        match self.show {
            _ if self.quiet => {}
            Show::Count => {
                let name = if self.names { format!("{shown}:") } else { String::new() };
                call.out.line(&format!("{name}{count}"))?;
            }
            Show::Files if found => call.out.line(shown)?,
            Show::FilesWithout if !found => call.out.line(shown)?,
            _ => {}
        }
        Ok(found)
    }
}
