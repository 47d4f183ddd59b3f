//! Reads sed's scripts.

use super::super::Failure;
use super::super::regex::{Case, Syntax, build, translate};
use super::{Address, Command, Piece, Substitute, Verb};

struct Reader {
    letters: Vec<char>,
    at: usize,
    syntax: Syntax,
    /// The last expression: what an empty one means.
    last: Option<String>,
}

fn bad<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::Says(format!("bad script: {what}"), 1))
}

pub fn script(text: &str, extended: bool) -> Result<Vec<Command>, Failure> {
    let syntax = if extended { Syntax::Extended } else { Syntax::Basic };
    let mut reader = Reader { letters: text.chars().collect(), at: 0, syntax, last: None };
    let (mut commands, mut open) = (Vec::new(), Vec::new());
    loop {
        reader.skip(|letter| letter.is_whitespace() || letter == ';');
        if reader.peek().is_none() {
            break;
        }
        if reader.peek() == Some('#') {
            reader.skip(|letter| letter != '\n');
            continue;
        }
        let command = reader.command()?;
        match command.verb {
            Verb::Block(_) => open.push(commands.len()),
            Verb::End => {
                let Some(begin) = open.pop() else { return bad("unexpected }") };
                let end = commands.len();
                if let Some(Command { verb, .. }) = commands.get_mut(begin) {
                    *verb = Verb::Block(end);
                }
            }
            _ => {}
        }
        commands.push(command);
    }
    if open.is_empty() { Ok(commands) } else { bad("unmatched {") }
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += 1;
        Some(letter)
    }

    fn skip(&mut self, is: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while let Some(letter) = self.peek().filter(|letter| is(*letter)) {
            text.push(letter);
            self.at += 1;
        }
        text
    }

    fn blanks(&mut self) {
        self.skip(|letter| letter == ' ' || letter == '\t');
    }

    /// Up to a sign that is not behind a backslash.
    fn until(&mut self, end: char) -> Result<String, Failure> {
        let (mut text, mut in_set) = (String::new(), false);
        loop {
            match self.next() {
                None => return bad("unterminated expression"),
                Some('\\') => match self.next() {
                    Some('n') => text.push_str("\\n"),
                    Some(letter) if letter == end && !"()|{}+?.*[]^$".contains(end) => {
                        text.push(letter)
                    }
                    Some(letter) => text.extend(['\\', letter]),
                    None => return bad("unterminated expression"),
                },
                Some(letter) if letter == end && !in_set => return Ok(text),
                Some(letter) => {
                    in_set = match letter {
                        '[' => true,
                        ']' => false,
                        _ => in_set,
                    };
                    text.push(letter);
                }
            }
        }
    }

    /// As [`Reader::until`], where brackets mean nothing.
    fn plain_until(&mut self, end: char) -> Result<String, Failure> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return bad("unterminated command"),
                Some('\\') => match self.next() {
                    Some(letter) if letter == end => text.push(letter),
                    Some(letter) => text.extend(['\\', letter]),
                    None => return bad("unterminated command"),
                },
                Some(letter) if letter == end => return Ok(text),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn pattern(&mut self, text: &str, case: Case) -> Result<regex_lite::Regex, Failure> {
        let own = match (text, &self.last) {
            ("", Some(last)) => last.clone(),
            (text, _) => translate(text, self.syntax)?,
        };
        self.last = Some(own.clone());
        build(&own, case)
    }

    fn address(&mut self) -> Result<Option<Address>, Failure> {
        Ok(match self.peek() {
            Some('$') => {
                self.at += 1;
                Some(Address::Last)
            }
            Some(letter @ ('/' | '\\')) => {
                self.at += 1;
                let end = if letter == '\\' { self.next().unwrap_or('/') } else { '/' };
                let text = self.until(end)?;
                let case = if self.peek() == Some('I') { Case::Ignored } else { Case::Counts };
                if case == Case::Ignored {
                    self.at += 1;
                }
                Some(Address::Match(self.pattern(&text, case)?))
            }
            Some(letter) if letter.is_ascii_digit() => {
                let digits = self.skip(|letter| letter.is_ascii_digit());
                Some(Address::Line(super::super::number(&digits)?))
            }
            _ => None,
        })
    }

    fn command(&mut self) -> Result<Command, Failure> {
        let from = self.address()?;
        self.blanks();
        let mut to = None;
        if from.is_some() && self.peek() == Some(',') {
            self.at += 1;
            self.blanks();
            to = self.address()?;
            if to.is_none() {
                return bad("unexpected ,");
            }
        }
        self.blanks();
        let mut negated = false;
        while self.peek() == Some('!') {
            self.at += 1;
            negated = true;
            self.blanks();
        }
        let Some(letter) = self.next() else { return bad("missing command") };
        let verb = match letter {
            '{' => Verb::Block(0),
            '}' => Verb::End,
            's' => Verb::Substitute(self.substitute()?),
            'y' => {
                let Some(end) = self.next() else { return bad("unterminated y") };
                let (from, to) = (self.plain_until(end)?, self.plain_until(end)?);
                let letters =
                    |text: &str| text.replace("\\n", "\n").replace("\\\\", "\\").chars().collect();
                let (from, to): (Vec<char>, Vec<char>) = (letters(&from), letters(&to));
                if from.len() != to.len() {
                    return bad("y needs as many letters on both sides");
                }
                Verb::Translate(from, to)
            }
            'a' | 'i' | 'c' => {
                let text = self.text();
                match letter {
                    'a' => Verb::Append(text),
                    'i' => Verb::Insert(text),
                    _ => Verb::Change(text),
                }
            }
            ':' | 'b' | 't' => {
                self.blanks();
                let name =
                    self.skip(|letter| !letter.is_whitespace() && letter != ';' && letter != '}');
                match letter {
                    ':' => Verb::Label(name),
                    'b' => Verb::Branch(name),
                    _ => Verb::BranchIfChanged(name),
                }
            }
            'w' => {
                self.blanks();
                Verb::Write(self.skip(|letter| letter != '\n'))
            }
            'q' | 'Q' => {
                self.blanks();
                let digits = self.skip(|letter| letter.is_ascii_digit());
                Verb::Quit(digits.parse().unwrap_or(0))
            }
            'd' | 'D' | 'p' | 'P' | '=' | 'n' | 'N' | 'h' | 'H' | 'g' | 'G' | 'x' => {
                Verb::Plain(letter)
            }
            other => return bad(&format!("unknown command {other:?}")),
        };
        self.blanks();
        match self.peek() {
            None | Some(';' | '\n' | '}' | '#') => Ok(Command { from, to, negated, verb }),
            Some(_) if matches!(letter, '{' | '}' | 'a' | 'i' | 'c') => {
                Ok(Command { from, to, negated, verb })
            }
            Some(other) => bad(&format!("unexpected {other:?} after {letter:?}")),
        }
    }

    /// The text of `a`, `i` and `c`: up to the line's end, more lines behind backslashes.
    fn text(&mut self) -> String {
        self.blanks();
        if self.peek() == Some('\\') {
            self.at += 1;
            self.skip(|letter| letter == ' ' || letter == '\t');
            if self.peek() == Some('\n') {
                self.at += 1;
            }
        }
        let mut text = String::new();
        while let Some(letter) = self.next() {
            match letter {
                '\n' => break,
                '\\' => text.extend(self.next()),
                letter => text.push(letter),
            }
        }
        text
    }

    fn substitute(&mut self) -> Result<Substitute, Failure> {
        let Some(end) = self.next() else { return bad("unterminated s") };
        let pattern = self.until(end)?;
        let replacement = self.plain_until(end)?;
        let mut own = Substitute {
            pattern: regex_lite::Regex::new("").map_err(|error| error.to_string())?,
            replacement: pieces(&replacement),
            all: false,
            prints: false,
            number: 1,
        };
        let mut case = Case::Counts;
        loop {
            match self.peek() {
                Some('g') => own.all = true,
                Some('p') => own.prints = true,
                Some('i' | 'I') => case = Case::Ignored,
                Some(letter) if letter.is_ascii_digit() => {
                    let digits = self.skip(|letter| letter.is_ascii_digit());
                    own.number = super::super::number::<usize>(&digits)?.max(1);
                    continue;
                }
                _ => break,
            }
            self.at += 1;
        }
        own.pattern = self.pattern(&pattern, case)?;
        Ok(own)
    }
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut own = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let group = match letter {
            '&' => Some(0),
            '\\' => match letters.next() {
                Some(digit @ '0'..='9') => digit.to_digit(10),
                Some('n') => {
                    own.push('\n');
                    None
                }
                Some('t') => {
                    own.push('\t');
                    None
                }
                Some(other) => {
                    own.push(other);
                    None
                }
                None => None,
            },
            letter => {
                own.push(letter);
                None
            }
        };
        if let Some(number) = group {
            pieces.push(Piece::Text(std::mem::take(&mut own)));
            pieces.push(Piece::Group(number as usize));
        }
    }
    pieces.push(Piece::Text(own));
    pieces
}
