//! Turns words into fields: parameters, substitutions, splitting, file names.

use super::arithmetic::{self, Variables};
use super::pattern::{self, Letter};
use super::syntax::{Change, Empty, End, Lack, List, Parameter, Part, Size, Word};
use super::{Shell, Stop};
use crate::stream::Stream;
use crate::sys::{self, Follow, Kind};

/// What a field is made of while its word is expanded.
#[derive(Default)]
struct Field {
    letters: Vec<Letter>,
    /// Quotes were there: it is a field even when empty.
    is_there: bool,
}

/// Fields as they come about.
#[derive(Default)]
struct Fields {
    done: Vec<Field>,
    last: Field,
}

/// Whether results of expansions are cut into fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Split {
    Yes,
    No,
}

impl Fields {
    fn push(&mut self, text: &str, quoted: bool) {
        self.last.letters.extend(pattern::letters(text, quoted));
    }

    fn next(&mut self) {
        let field = std::mem::take(&mut self.last);
        if field.is_there || !field.letters.is_empty() {
            self.done.push(field);
        }
    }

    /// The result of an expansion outside of quotes.
    fn split(&mut self, text: &str, ifs: &str) {
        let mut letters = text.chars().peekable();
        let is_blank = |letter: &char| ifs.contains(*letter) && letter.is_whitespace();
        while let Some(letter) = letters.next() {
            if !ifs.contains(letter) {
                self.last.letters.push(Letter { letter, quoted: false });
                continue;
            }
            let mut is_mark = !is_blank(&letter);
            while let Some(more) =
                letters.next_if(|l| is_blank(l) || (!is_mark && ifs.contains(*l)))
            {
                is_mark |= !is_blank(&more);
            }
            self.last.is_there |= is_mark;
            self.next();
        }
    }
}

struct Numbers<'a>(&'a mut Shell);

impl Variables for Numbers<'_> {
    fn get(&self, name: &str) -> String {
        self.0.get(name).unwrap_or_default().to_owned()
    }

    fn set(&mut self, name: &str, value: i64) -> Result<(), String> {
        self.0.set(name, value.to_string())
    }
}

impl Shell {
    /// All fields of some words, file names included.
    pub fn fields(&mut self, words: &[Word]) -> Result<Vec<String>, Stop> {
        let mut all = Vec::new();
        for word in words {
            let mut fields = Fields::default();
            self.parts(&word.0, &mut fields, (Split::Yes, false))?;
            fields.next();
            for field in fields.done {
                if !self.options.no_glob && pattern::is_pattern(&field.letters) {
                    let found = self.glob(&field.letters);
                    if !found.is_empty() {
                        all.extend(found);
                        continue;
                    }
                }
                all.push(pattern::text(&field.letters));
            }
        }
        Ok(all)
    }

    /// One text: an assignment's value, a redirection's target.
    pub fn text(&mut self, parts: &[Part]) -> Result<String, Stop> {
        self.letters(parts).map(|letters| pattern::text(&letters))
    }

    /// As [`Shell::text`], of which quoted letters are still told apart.
    pub fn letters(&mut self, parts: &[Part]) -> Result<Vec<Letter>, Stop> {
        let mut fields = Fields::default();
        self.parts(parts, &mut fields, (Split::No, false))?;
        fields.next();
        let mut all = Vec::new();
        for (number, field) in fields.done.into_iter().enumerate() {
            if number > 0 {
                all.extend(pattern::letters(" ", true));
            }
            all.extend(field.letters);
        }
        Ok(all)
    }

    /// A here-document's text: as within double quotes.
    pub fn document(&mut self, parts: &[Part]) -> Result<String, Stop> {
        let mut fields = Fields::default();
        self.parts(parts, &mut fields, (Split::No, true))?;
        fields.next();
        Ok(fields.done.iter().map(|field| pattern::text(&field.letters)).collect())
    }

    fn fail(&self, text: &str) -> Stop {
        self.complain(text);
        Stop::Abort(2)
    }

    fn parts(
        &mut self,
        parts: &[Part],
        fields: &mut Fields,
        (split, quoted): (Split, bool),
    ) -> Result<(), Stop> {
        for part in parts {
            match part {
                Part::Literal(text) => fields.push(text, quoted),
                Part::Quoted(text) => {
                    fields.last.is_there = true;
                    fields.push(text, true);
                }
                Part::Double(inner) => {
                    // "$@" of nothing is no field at all.
                    let only_all = matches!(inner.as_slice(), [Part::Parameter(Parameter { name, change: Change::None })] if name == "@");
                    fields.last.is_there |= !only_all;
                    self.parts(inner, fields, (split, true))?;
                }
                Part::Parameter(parameter) => self.parameter(parameter, fields, (split, quoted))?,
                Part::Command(list) => {
                    let output = self.substitute(list)?;
                    self.result(&output, fields, (split, quoted));
                }
                Part::Arithmetic(inner) => {
                    let text = self.document(inner)?;
                    let value = arithmetic::value(&text, &mut Numbers(self));
                    let value = value.map_err(|sentence| self.fail(&sentence))?;
                    self.result(&value.to_string(), fields, (split, quoted));
                }
                Part::Home(user) => {
                    let home = match user.as_str() {
                        "" => self.get("HOME").map(str::to_owned),
                        "root" => Some("/root".to_owned()),
                        _ => None,
                    };
                    fields.push(&home.unwrap_or_else(|| format!("~{user}")), true);
                }
            }
        }
        Ok(())
    }

    fn result(&self, text: &str, fields: &mut Fields, (split, quoted): (Split, bool)) {
        match (split, quoted) {
            (Split::Yes, false) => {
                let ifs = self.get("IFS").unwrap_or(" \t\n").to_owned();
                fields.split(text, &ifs);
            }
            _ => fields.push(text, quoted),
        }
    }

    fn parameter(
        &mut self,
        parameter: &Parameter,
        fields: &mut Fields,
        (split, quoted): (Split, bool),
    ) -> Result<(), Stop> {
        let Parameter { name, change } = parameter;
        let is_all = name == "@" || (name == "*" && !quoted);
        if is_all && *change == Change::None {
            for (number, argument) in self.arguments.clone().iter().enumerate() {
                if number > 0 {
                    fields.next();
                }
                fields.last.is_there |= quoted;
                self.result(argument, fields, (split, quoted));
            }
            return Ok(());
        }
        let value = self.value_of(name);
        let changed = match change {
            Change::None => self.needed(name, value)?,
            Change::Length if name == "@" || name == "*" => self.arguments.len().to_string(),
            Change::Length => self.needed(name, value)?.chars().count().to_string(),
            Change::Lack(lack, empty, parts) => {
                let there = value.filter(|value| *empty == Empty::Counts || !value.is_empty());
                let takes_other = match lack {
                    Lack::Instead => there.is_some(),
                    _ => there.is_none(),
                };
                match (takes_other, lack) {
                    (false, Lack::Instead) => return Ok(()),
                    (false, _) if is_all => {
                        let plain = Parameter { name: name.clone(), change: Change::None };
                        return self.parameter(&plain, fields, (split, quoted));
                    }
                    (false, _) => there.unwrap_or_default(),
                    (true, Lack::Use | Lack::Instead) => {
                        // Its own quotes count, and so do its fields.
                        return self.parts(parts, fields, (split, quoted));
                    }
                    (true, Lack::Assign) => {
                        let text = self.text(parts)?;
                        self.set(name, text.clone()).map_err(|sentence| self.fail(&sentence))?;
                        text
                    }
                    (true, Lack::Fail) => {
                        let text = self.text(parts)?;
                        let text =
                            if text.is_empty() { "parameter not set".to_owned() } else { text };
                        return Err(self.fail(&format!("{name}: {text}")));
                    }
                }
            }
            Change::Cut(end, size, parts) => {
                let value = self.needed(name, value)?;
                let pattern = self.letters(parts)?;
                cut(&value, &pattern, (*end, *size))
            }
        };
        self.result(&changed, fields, (split, quoted));
        Ok(())
    }

    fn needed(&self, name: &str, value: Option<String>) -> Result<String, Stop> {
        match value {
            Some(value) => Ok(value),
            None if self.options.nounset && !matches!(name, "@" | "*") => {
                Err(self.fail(&format!("{name}: parameter not set")))
            }
            None => Ok(String::new()),
        }
    }

    fn value_of(&self, name: &str) -> Option<String> {
        let own = match name {
            "#" => self.arguments.len().to_string(),
            "?" => self.status.to_string(),
            "$" => crate::programs::own_pid().to_string(),
            "!" => return self.get("!").map(str::to_owned),
            "-" => self.option_letters(),
            "@" | "*" => {
                let ifs = self.get("IFS").unwrap_or(" ");
                let between = ifs.chars().next().map(String::from).unwrap_or_default();
                return (!self.arguments.is_empty()).then(|| self.arguments.join(&between));
            }
            name => match name.parse::<usize>() {
                Ok(0) => self.name.clone(),
                Ok(number) => return self.arguments.get(number - 1).cloned(),
                Err(_) => return self.get(name).map(str::to_owned),
            },
        };
        Some(own)
    }

    /// What a list of commands writes, without the newlines at its end.
    fn substitute(&mut self, list: &List) -> Result<String, Stop> {
        let mut shell = self.subshell();
        let output = Stream::memory();
        shell.descriptors.insert(1, output.clone());
        shell.pipe = Some(output.clone());
        let status = shell.to_its_end(list)?;
        self.substituted = Some(status);
        self.status = status;
        let bytes = output.read_all().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\0', "");
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Files that a pattern names, sorted; none when there are none.
    fn glob(&self, letters: &[Letter]) -> Vec<String> {
        let mut found = vec![String::new()];
        let mut names = letters.split(|letter| letter.letter == '/').peekable();
        let mut is_first = true;
        while let Some(name) = names.next() {
            let is_last = names.peek().is_none();
            let mut next = Vec::new();
            for before in found {
                let begin = if is_first { before } else { format!("{before}/") };
                if !pattern::is_pattern(name) {
                    next.push(format!("{begin}{}", pattern::text(name)));
                    continue;
                }
                let folder = sys::join(&self.cwd, if begin.is_empty() { "." } else { &begin });
                let is_hidden = name.first().is_some_and(|letter| letter.letter == '.');
                let mut entries = sys::list(&folder).unwrap_or_default();
                entries.retain(|(entry, kind)| {
                    let letters: Vec<char> = entry.chars().collect();
                    let may_hold =
                        is_last || matches!(kind, Kind::Folder | Kind::Link | Kind::Unknown);
                    may_hold
                        && (is_hidden || !entry.starts_with('.'))
                        && pattern::matches(name, &letters)
                });
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                next.extend(entries.into_iter().map(|(entry, _)| format!("{begin}{entry}")));
            }
            found = next;
            is_first = false;
        }
        found.retain(|path| sys::stat(&sys::join(&self.cwd, path), Follow::No).is_ok());
        found
    }
}

fn cut(value: &str, pattern: &[Letter], (end, size): (End, Size)) -> String {
    let letters: Vec<char> = value.chars().collect();
    let most = letters.len();
    let fits = |length: &usize| {
        let part = match end {
            End::Prefix => letters.get(..*length),
            End::Suffix => letters.get(most - length..),
        };
        part.is_some_and(|part| pattern::matches(pattern, part))
    };
    let length = match size {
        Size::Shortest => (0..=most).find(fits),
        Size::Longest => (0..=most).rev().find(fits),
    };
    let Some(length) = length else { return value.to_owned() };
    let rest = match end {
        End::Prefix => letters.get(length..),
        End::Suffix => letters.get(..most - length),
    };
    rest.unwrap_or_default().iter().collect()
}
