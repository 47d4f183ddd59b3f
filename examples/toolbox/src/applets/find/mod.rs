//! find.

mod parse;

use regex_lite::Regex;

use super::files::remove_all;
use super::{Call, Failure, Outcome, base};
use crate::programs;
use crate::shell;
use crate::sys::{self, Follow, Kind, Stat};

/// Folders, and parentheses, inside of each other.
const DEEPEST: usize = 200;

enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    True,
    False,
    /// A pattern, of the last name or the path, and whether capitals count.
    Name(String, bool, bool),
    Regex(Regex),
    Type(Vec<Kind>),
    Empty,
    /// Compared as the sign says, in units of so many bytes.
    Size(std::cmp::Ordering, u64, u64),
    /// In units of so many seconds since the last change.
    Age(std::cmp::Ordering, i64, i64),
    Newer(sys::Time),
    Prune,
    Quit,
    Delete,
    Print(char),
    /// For each, or for many at once.
    Exec(Vec<String>, bool),
}

struct Search {
    test: Test,
    deepest: usize,
    highest: usize,
    children_first: bool,
    follow: Follow,
    /// Names that `-exec ... +` gathers.
    gathered: Vec<String>,
    status: u8,
}

/// What stops the search of a folder, or all of it.
struct Ended;

pub fn find(call: &mut Call) -> Outcome {
    let words = call.arguments.clone();
    let is_test = |word: &&String| word.starts_with('-') || matches!(word.as_str(), "(" | "!");
    let options =
        words.iter().take_while(|word| matches!(word.as_str(), "-L" | "-P" | "-H")).count();
    let count =
        words.get(options..).unwrap_or_default().iter().take_while(|word| !is_test(word)).count();
    let (paths, tests) = words.get(options..).unwrap_or_default().split_at(count);
    let follow =
        if words.iter().take(options).any(|w| w == "-L") { Follow::Yes } else { Follow::No };
    let mut reader = parse::Reader {
        call,
        words: tests,
        at: 0,
        depth: 0,
        acts: false,
        deepest: DEEPEST,
        highest: 0,
        children_first: false,
    };
    let test = if tests.is_empty() { Test::True } else { reader.any()? };
    if let Some(word) = tests.get(reader.at) {
        return Err(Failure::Says(format!("unexpected {word}"), 1));
    }
    let (acts, deepest, highest, children_first) =
        (reader.acts, reader.deepest, reader.highest, reader.children_first);
    let test = if acts { test } else { Test::And(vec![test, Test::Print('\n')]) };
    let mut search =
        Search { test, deepest, highest, children_first, follow, gathered: Vec::new(), status: 0 };
    let own = [".".to_owned()];
    for path in if paths.is_empty() { &own } else { paths } {
        if search.walk(call, path, 0)?.is_err() {
            break;
        }
    }
    search.finish(call)?;
    Ok(search.status)
}

/// One file as the tests see it.
struct Entry<'a> {
    name: &'a str,
    path: String,
    stat: Stat,
}

impl Search {
    fn walk(
        &mut self,
        call: &mut Call,
        name: &str,
        depth: usize,
    ) -> Result<Result<(), Ended>, Failure> {
        let path = call.path(name);
        let stat = match sys::stat(&path, self.follow).or_else(|_| sys::stat(&path, Follow::No)) {
            Ok(stat) => stat,
            Err(error) => {
                call.blame(name, &error);
                self.status = 1;
                return Ok(Ok(()));
            }
        };
        let is_folder = stat.kind == Kind::Folder;
        let entry = Entry { name, path, stat };
        let mut goes_on = true;
        if depth >= self.highest && !self.children_first {
            match self.visit(call, &entry)? {
                Ok(below) => goes_on = below,
                Err(ended) => return Ok(Err(ended)),
            }
        }
        if is_folder && goes_on && depth < self.deepest {
            match sys::list(&entry.path) {
                Ok(mut names) => {
                    names.sort_by(|a, b| a.0.cmp(&b.0));
                    for (own, _) in names {
                        let below = format!("{}/{own}", name.trim_end_matches('/'));
                        if self.walk(call, &below, depth + 1)?.is_err() {
                            return Ok(Err(Ended));
                        }
                    }
                }
                Err(error) => {
                    call.blame(name, &error);
                    self.status = 1;
                }
            }
        }
        if depth >= self.highest && self.children_first && self.visit(call, &entry)?.is_err() {
            return Ok(Err(Ended));
        }
        Ok(Ok(()))
    }

    /// Whether to go on below it.
    fn visit(
        &mut self,
        call: &mut Call,
        entry: &Entry<'_>,
    ) -> Result<Result<bool, Ended>, Failure> {
        // Out of the way while what it says is done to the rest.
        let test = std::mem::replace(&mut self.test, Test::True);
        let (mut below, mut quits) = (true, false);
        let ran = self.holds(&test, call, entry, (&mut below, &mut quits));
        self.test = test;
        ran?;
        Ok(if quits { Err(Ended) } else { Ok(below) })
    }

    fn holds(
        &mut self,
        test: &Test,
        call: &mut Call,
        entry: &Entry<'_>,
        (below, quits): (&mut bool, &mut bool),
    ) -> Result<bool, Failure> {
        let stat = &entry.stat;
        Ok(match test {
            Test::True => true,
            Test::False => false,
            Test::And(tests) => {
                for test in tests {
                    if !self.holds(test, call, entry, (below, quits))? {
                        return Ok(false);
                    }
                }
                true
            }
            Test::Or(tests) => {
                for test in tests {
                    if self.holds(test, call, entry, (below, quits))? {
                        return Ok(true);
                    }
                }
                false
            }
            Test::Not(test) => !self.holds(test, call, entry, (below, quits))?,
            Test::Name(pattern, whole, case) => {
                let own = if *whole { entry.name } else { base(entry.name.trim_end_matches('/')) };
                let own = if own.is_empty() { "/" } else { own };
                let fold = |text: &str| if *case { text.to_owned() } else { text.to_lowercase() };
                let letters: Vec<char> = fold(own).chars().collect();
                shell::matches(&shell::letters(&fold(pattern), false), &letters)
            }
            Test::Regex(pattern) => pattern.is_match(entry.name),
            Test::Type(kinds) => kinds.contains(&stat.kind),
            Test::Empty => match stat.kind {
                Kind::Folder => sys::list(&entry.path).is_ok_and(|names| names.is_empty()),
                kind => kind == Kind::File && stat.size == 0,
            },
            Test::Size(order, count, unit) => stat.size.div_ceil(*unit).cmp(count) == *order,
            Test::Age(order, count, unit) => {
                ((sys::now().0 - stat.modified.0) / unit).cmp(count) == *order
            }
            Test::Newer(time) => stat.modified > *time,
            Test::Prune => {
                *below = false;
                true
            }
            Test::Quit => {
                *quits = true;
                true
            }
            Test::Delete => match remove(entry) {
                Ok(()) => true,
                Err(error) => {
                    call.blame(entry.name, &error);
                    self.status = 1;
                    false
                }
            },
            Test::Print(end) => {
                let line = format!("{}{end}", entry.name);
                std::io::Write::write_all(&mut call.out, line.as_bytes())?;
                true
            }
            Test::Exec(_, true) => {
                self.gathered.push(entry.name.to_owned());
                true
            }
            Test::Exec(argv, false) => {
                std::io::Write::flush(&mut call.out)?;
                let argv: Vec<String> =
                    argv.iter().map(|word| word.replace("{}", entry.name)).collect();
                programs::run(&argv, &call.surroundings(), "find") == 0
            }
        })
    }

    fn finish(&mut self, call: &mut Call) -> Result<(), Failure> {
        std::io::Write::flush(&mut call.out)?;
        let names = std::mem::take(&mut self.gathered);
        if let (Some(argv), false) = (many(&self.test), names.is_empty()) {
            let argv: Vec<String> = argv.iter().cloned().chain(names).collect();
            let status = programs::run(&argv, &call.surroundings(), "find");
            self.status = self.status.max(u8::from(status != 0));
        }
        Ok(())
    }
}

fn many(test: &Test) -> Option<&Vec<String>> {
    match test {
        Test::Exec(argv, true) => Some(argv),
        Test::And(tests) | Test::Or(tests) => tests.iter().find_map(many),
        Test::Not(test) => many(test),
        _ => None,
    }
}

fn remove(entry: &Entry<'_>) -> std::io::Result<()> {
    match entry.stat.kind {
        Kind::Folder if entry.name == "." => Ok(()),
        Kind::Folder => sys::remove_folder(&entry.path),
        _ => remove_all(&entry.path),
    }
}
