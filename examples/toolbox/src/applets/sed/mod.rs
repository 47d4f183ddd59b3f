//! sed: the commands that scripts use, `s p d q = a i c y n N D P h H g G x b t :` and `{}`.

mod parse;

use std::collections::VecDeque;
use std::io::Write;

use regex_lite::Regex;

use super::regex::{bytes, text};
use super::{Call, Failure, Known, Lines, Order, Outcome};
use crate::stream::Stream;
use crate::sys::{self, File, Mode};

/// Which lines a command is for.
enum Address {
    Line(u64),
    Last,
    Match(Regex),
}

struct Command {
    from: Option<Address>,
    to: Option<Address>,
    negated: bool,
    verb: Verb,
}

enum Verb {
    Substitute(Substitute),
    /// Where the `}` of this block is.
    Block(usize),
    End,
    Label(String),
    Branch(String),
    BranchIfChanged(String),
    Append(String),
    Insert(String),
    Change(String),
    Translate(Vec<char>, Vec<char>),
    Write(String),
    Quit(u8),
    /// Of one letter.
    Plain(char),
}

struct Substitute {
    pattern: Regex,
    replacement: Vec<Piece>,
    all: bool,
    prints: bool,
    /// The how-manieth is the first that is replaced.
    number: usize,
}

enum Piece {
    Text(String),
    Group(usize),
}

/// Commands that one line may take: a loop of branches ends somewhere.
const MOST_STEPS: u32 = 1_000_000;

pub fn sed(call: &mut Call) -> Outcome {
    let known = Known {
        letters: "nErsze:f:i",
        long: &[("quiet", 'n'), ("regexp-extended", 'E'), ("expression", 'e'), ("in-place", 'i')],
    };
    let given = call.options_of(&known, Order::Any)?;
    let mut rest = given.rest.iter().cloned();
    let mut script: Vec<String> = given.values('e').map(str::to_owned).collect();
    for name in given.values('f') {
        let bytes = call.open(name).and_then(|stream| stream.read_all());
        let bytes = bytes.map_err(|error| format!("{name}: {}", sys::text(&error)))?;
        script.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    if script.is_empty() {
        script.extend(rest.next());
    }
    if script.is_empty() {
        return Err(Failure::Says("usage: sed [-nEi] SCRIPT [FILE...]".to_owned(), 1));
    }
    let commands = parse::script(&script.join("\n"), given.has('E') || given.has('r'))?;
    let files: Vec<String> = rest.collect();
    let quiet = given.has('n');
    if !given.has('i') {
        let names = if files.is_empty() { vec!["-".to_owned()] } else { files };
        let mut run = Run::new(&commands, names, quiet);
        let quit = run.all(call)?;
        return Ok(quit.unwrap_or(run.status));
    }
    let mut status = 0;
    for name in files {
        let out = Stream::memory();
        let before = std::mem::replace(&mut call.out, crate::stream::Out::new(out.clone()));
        let mut run = Run::new(&commands, vec![name.clone()], quiet);
        let ran = run.all(call).and_then(|_| Ok(call.out.flush()?));
        call.out = before;
        ran?;
        if run.status != 0 {
            status = run.status;
            continue;
        }
        let written = File::open(&call.path(&name), Mode::Write)
            .and_then(|file| Stream::file(file).write(&out.read_all()?));
        written.map_err(|error| format!("{name}: {}", sys::text(&error)))?;
    }
    Ok(status)
}

struct Run<'a> {
    commands: &'a [Command],
    /// Of each command with two addresses: whether it is between them.
    inside: Vec<bool>,
    files: VecDeque<String>,
    lines: Option<Lines>,
    /// Read ahead, to know the last line.
    next: Option<Vec<u8>>,
    number: u64,
    hold: String,
    space: String,
    is_utf8: bool,
    appended: Vec<String>,
    quiet: bool,
    status: u8,
}

/// How one line's commands ended.
enum Step {
    Next,
    /// Without printing.
    Delete,
    /// Again with what is left.
    Restart,
    Quit(u8),
}

impl<'a> Run<'a> {
    fn new(commands: &'a [Command], files: Vec<String>, quiet: bool) -> Self {
        Self {
            commands,
            inside: commands.iter().map(|_| false).collect(),
            files: files.into(),
            lines: None,
            next: None,
            number: 0,
            hold: String::new(),
            space: String::new(),
            is_utf8: true,
            appended: Vec::new(),
            quiet,
            status: 0,
        }
    }

    fn fetch(&mut self, call: &mut Call) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(lines) = &mut self.lines
                && let Some(mut line) = lines.next()?
            {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                return Ok(Some(line));
            }
            let Some(name) = self.files.pop_front() else { return Ok(None) };
            match call.open(&name) {
                Ok(stream) => self.lines = Some(Lines::new(stream)),
                Err(error) => {
                    call.blame(&name, &error);
                    self.status = 1;
                }
            }
        }
    }

    /// Moves to the next line.
    fn advance(&mut self, call: &mut Call) -> Result<Option<String>, Failure> {
        let Some(line) = self.next.take() else { return Ok(None) };
        self.next = self.fetch(call)?;
        self.number += 1;
        let (own, is_utf8) = text(&line);
        self.is_utf8 = is_utf8;
        Ok(Some(own))
    }

    fn print(&self, call: &mut Call, line: &str) -> Result<(), Failure> {
        call.out.write_all(&bytes(line, self.is_utf8))?;
        Ok(call.out.write_all(b"\n")?)
    }

    /// An exit status where `q` ended it.
    fn all(&mut self, call: &mut Call) -> Result<Option<u8>, Failure> {
        self.next = self.fetch(call)?;
        let mut again = false;
        loop {
            if !again {
                match self.advance(call)? {
                    Some(line) => self.space = line,
                    None => return Ok(None),
                }
            }
            let step = self.line(call)?;
            if matches!(step, Step::Next | Step::Quit(_)) && !self.quiet {
                self.print(call, &self.space)?;
            }
            for text in std::mem::take(&mut self.appended) {
                call.out.line(&text)?;
            }
            again = matches!(step, Step::Restart);
            if let Step::Quit(status) = step {
                return Ok(Some(status));
            }
        }
    }

    fn selected(&mut self, at: usize, command: &Command) -> bool {
        let fits = |address: &Address, run: &Self| match address {
            Address::Line(number) => run.number == *number,
            Address::Last => run.next.is_none(),
            Address::Match(pattern) => pattern.is_match(&run.space),
        };
        let is = match (&command.from, &command.to) {
            (None, _) => true,
            (Some(from), None) => fits(from, self),
            (Some(from), Some(to)) => {
                let was_inside = self.inside.get(at).copied().unwrap_or(false);
                let begins = !was_inside && fits(from, self);
                let ends = match to {
                    Address::Line(number) => self.number >= *number,
                    _ => was_inside && fits(to, self),
                };
                if let Some(inside) = self.inside.get_mut(at) {
                    *inside = (was_inside || begins) && !ends;
                }
                was_inside || begins
            }
        };
        is != command.negated
    }

    fn line(&mut self, call: &mut Call) -> Result<Step, Failure> {
        let commands = self.commands;
        let (mut at, mut changed, mut steps) = (0, false, 0);
        while let Some(command) = commands.get(at) {
            steps += 1;
            if steps > MOST_STEPS {
                return Err(Failure::Says("the script does not end".to_owned(), 1));
            }
            let own = at;
            at += 1;
            if !self.selected(own, command) {
                if let Verb::Block(end) = command.verb {
                    at = end + 1;
                }
                continue;
            }
            let label = |name: &str| {
                let is =
                    |command: &Command| matches!(&command.verb, Verb::Label(own) if own == name);
                if name.is_empty() {
                    commands.len()
                } else {
                    commands.iter().position(is).unwrap_or(commands.len())
                }
            };
            match &command.verb {
                Verb::Block(_) | Verb::End | Verb::Label(_) => {}
                Verb::Branch(name) => at = label(name),
                Verb::BranchIfChanged(name) => {
                    if std::mem::take(&mut changed) {
                        at = label(name);
                    }
                }
                Verb::Substitute(own) => {
                    if let Some(new) = own.apply(&self.space) {
                        self.space = new;
                        changed = true;
                        if own.prints {
                            self.print(call, &self.space)?;
                        }
                    }
                }
                Verb::Append(text) => self.appended.push(text.clone()),
                Verb::Insert(text) => call.out.line(text)?,
                Verb::Change(text) => {
                    let is_inside = self.inside.get(own).copied().unwrap_or(false);
                    if command.to.is_none() || !is_inside {
                        call.out.line(text)?;
                    }
                    return Ok(Step::Delete);
                }
                Verb::Translate(from, to) => {
                    let new = self.space.chars().map(|letter| {
                        let place = from.iter().position(|own| *own == letter);
                        place.and_then(|place| to.get(place)).copied().unwrap_or(letter)
                    });
                    self.space = new.collect();
                }
                Verb::Write(name) => {
                    let file = File::open(&call.path(name), Mode::Append)?;
                    Stream::file(file).write(format!("{}\n", self.space).as_bytes())?;
                }
                Verb::Quit(status) => return Ok(Step::Quit(*status)),
                Verb::Plain(letter) => match letter {
                    'd' => return Ok(Step::Delete),
                    'D' => match self.space.split_once('\n') {
                        Some((_, rest)) => {
                            self.space = rest.to_owned();
                            return Ok(Step::Restart);
                        }
                        None => return Ok(Step::Delete),
                    },
                    'p' => self.print(call, &self.space)?,
                    'P' => {
                        let first = self.space.split('\n').next().unwrap_or_default().to_owned();
                        self.print(call, &first)?;
                    }
                    '=' => call.out.line(&self.number.to_string())?,
                    'n' => {
                        if self.next.is_none() {
                            return Ok(Step::Next);
                        }
                        if !self.quiet {
                            self.print(call, &self.space)?;
                        }
                        if let Some(line) = self.advance(call)? {
                            self.space = line;
                        }
                    }
                    'N' => match self.advance(call)? {
                        Some(line) => {
                            self.space.push('\n');
                            self.space.push_str(&line);
                        }
                        None => return Ok(Step::Next),
                    },
                    'h' => self.hold.clone_from(&self.space),
                    'H' => {
                        self.hold.push('\n');
                        self.hold.push_str(&self.space);
                    }
                    'g' => self.space.clone_from(&self.hold),
                    'G' => {
                        self.space.push('\n');
                        self.space.push_str(&self.hold);
                    }
                    'x' => std::mem::swap(&mut self.space, &mut self.hold),
                    _ => {}
                },
            }
        }
        Ok(Step::Next)
    }
}

impl Substitute {
    /// `None`: nothing matched.
    fn apply(&self, line: &str) -> Option<String> {
        let (mut out, mut last, mut count) = (String::new(), 0, 0);
        for found in self.pattern.captures_iter(line) {
            let Some(whole) = found.get(0) else { continue };
            count += 1;
            if count < self.number {
                continue;
            }
            out.push_str(line.get(last..whole.start()).unwrap_or_default());
            for piece in &self.replacement {
                match piece {
                    Piece::Text(text) => out.push_str(text),
                    Piece::Group(number) => {
                        out.push_str(found.get(*number).map_or("", |group| group.as_str()));
                    }
                }
            }
            last = whole.end();
            if !self.all {
                break;
            }
        }
        if count < self.number {
            return None;
        }
        out.push_str(line.get(last..).unwrap_or_default());
        Some(out)
    }
}
