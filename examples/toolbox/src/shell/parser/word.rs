//! Words: quotes, parameters, command substitutions, arithmetic.

use std::rc::Rc;

use super::super::syntax::{Change, Empty, End, Lack, Parameter, Part, Size, Word, is_name};
use super::{Fault, Parsed, Parser, ends_word};

/// Where parts stand: what ends them, and which letters mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A word of a command.
    Plain,
    /// Up to `"`.
    Double,
    /// Up to the text's end.
    Document,
    /// In `${...}` up to `}`.
    Brace,
    /// The same within double quotes.
    DoubleBrace,
    /// Up to the `))` that closes it.
    Arithmetic,
}

/// The text of a here-document's delimiter and whether some of it was quoted.
pub fn delimiter(word: &Word) -> Option<(String, bool)> {
    let (mut text, mut is_quoted) = (String::new(), false);
    for part in &word.0 {
        match part {
            Part::Literal(letters) => text.push_str(letters),
            Part::Quoted(letters) => {
                text.push_str(letters);
                is_quoted = true;
            }
            Part::Double(parts) => {
                is_quoted = true;
                match parts.as_slice() {
                    [] => {}
                    [Part::Literal(letters)] => text.push_str(letters),
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    (!text.contains('\n')).then_some((text, is_quoted))
}

pub fn quoted(text: String) -> Word {
    Word(vec![Part::Quoted(text)])
}

fn literal(parts: &mut Vec<Part>, letter: char) {
    match parts.last_mut() {
        Some(Part::Literal(text)) => text.push(letter),
        _ => parts.push(Part::Literal(letter.to_string())),
    }
}

fn quote(parts: &mut Vec<Part>, more: &str) {
    match parts.last_mut() {
        Some(Part::Quoted(text)) => text.push_str(more),
        _ => parts.push(Part::Quoted(more.to_owned())),
    }
}

fn unterminated(what: &str) -> Fault {
    Fault::Incomplete(format!("syntax error: unterminated {what}"))
}

impl Parser {
    /// The word that begins here; `None` where none does.
    pub fn word(&mut self) -> Parsed<Option<Word>> {
        if self.peek().is_none_or(ends_word) {
            return Ok(None);
        }
        let mut parts = Vec::new();
        if self.peek() == Some('~') {
            let is_user = |letter: char| letter.is_alphanumeric() || "_-.".contains(letter);
            let (user, end) = self.run_of(self.at + 1, is_user);
            if self.text.get(end).is_none_or(|letter| *letter == '/' || ends_word(*letter)) {
                self.at = end;
                parts.push(Part::Home(user));
            }
        }
        self.deeper(|parser| parser.more_parts(Context::Plain, parts))
            .map(|parts| Some(Word(parts)))
    }

    pub fn parts(&mut self, context: Context) -> Parsed<Vec<Part>> {
        self.more_parts(context, Vec::new())
    }

    fn more_parts(&mut self, context: Context, mut parts: Vec<Part>) -> Parsed<Vec<Part>> {
        let is_double = !matches!(context, Context::Plain | Context::Brace);
        let mut open = 0u32;
        loop {
            let Some(letter) = self.peek() else {
                return match context {
                    Context::Plain | Context::Document => Ok(parts),
                    Context::Double => Err(unterminated("quoted string")),
                    _ => Err(unterminated("substitution")),
                };
            };
            match (letter, context) {
                (letter, Context::Plain) if ends_word(letter) => return Ok(parts),
                ('"', Context::Double) | ('}', Context::Brace | Context::DoubleBrace) => {
                    self.bump();
                    return Ok(parts);
                }
                (')', Context::Arithmetic) if open == 0 => {
                    self.bump();
                    return if self.takes(")") { Ok(parts) } else { Err(self.unexpected()) };
                }
                ('(' | ')', Context::Arithmetic) => {
                    open = if letter == '(' { open + 1 } else { open.saturating_sub(1) };
                    self.bump();
                    literal(&mut parts, letter);
                }
                ('"', Context::Arithmetic) => drop(self.bump()),
                ('"', Context::Plain | Context::Brace | Context::DoubleBrace) => {
                    self.bump();
                    let inner = self.deeper(|parser| parser.parts(Context::Double))?;
                    parts.push(Part::Double(inner));
                }
                ('\'', Context::Plain | Context::Brace) => {
                    self.bump();
                    let text = self.single()?;
                    quote(&mut parts, &text);
                }
                ('\\', _) => self.backslash(context, &mut parts),
                ('$', _) => {
                    let part = self.deeper(|parser| parser.dollar(is_double))?;
                    match part {
                        Some(part) => parts.push(part),
                        // What follows must not become its own when it is written out.
                        None if is_double => literal(&mut parts, '$'),
                        None => quote(&mut parts, "$"),
                    }
                }
                ('`', _) => {
                    let part = self.deeper(|parser| parser.backquotes(is_double))?;
                    parts.push(part);
                }
                (letter, _) => {
                    self.bump();
                    literal(&mut parts, letter);
                }
            }
        }
    }

    /// Up to the quote that closes, which is consumed.
    fn single(&mut self) -> Parsed<String> {
        let mut text = String::new();
        loop {
            match self.bump() {
                None => return Err(unterminated("quoted string")),
                Some('\'') => return Ok(text),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn backslash(&mut self, context: Context, parts: &mut Vec<Part>) {
        self.bump();
        let Some(letter) = self.text.get(self.at).copied() else {
            return match context {
                Context::Plain | Context::Brace => quote(parts, "\\"),
                _ => literal(parts, '\\'),
            };
        };
        let escapes = match context {
            Context::Plain | Context::Brace => {
                self.bump();
                return quote(parts, &letter.to_string());
            }
            Context::Double => matches!(letter, '$' | '`' | '"' | '\\'),
            Context::DoubleBrace => matches!(letter, '$' | '`' | '"' | '\\' | '}'),
            Context::Document | Context::Arithmetic => matches!(letter, '$' | '`' | '\\'),
        };
        if !escapes {
            return literal(parts, '\\');
        }
        self.bump();
        literal(parts, letter);
    }

    /// What a `$` begins; `None`: nothing, it is only itself.
    fn dollar(&mut self, is_double: bool) -> Parsed<Option<Part>> {
        self.bump();
        let Some(letter) = self.peek() else { return Ok(None) };
        match letter {
            '(' if self.after(1) == Some('(') && self.is_arithmetic() => {
                self.takes("((");
                self.parts(Context::Arithmetic).map(|parts| Some(Part::Arithmetic(parts)))
            }
            '(' => {
                self.bump();
                let list = self.list()?;
                match self.takes(")") {
                    true => Ok(Some(Part::Command(Rc::new(list)))),
                    false if self.peek().is_none() => Err(unterminated("command substitution")),
                    false => Err(self.unexpected()),
                }
            }
            '{' => {
                self.bump();
                self.braces(is_double).map(|parameter| Some(Part::Parameter(parameter)))
            }
            '@' | '*' | '#' | '?' | '-' | '$' | '!' | '0'..='9' => {
                self.bump();
                Ok(Some(plain(letter.to_string())))
            }
            letter if letter == '_' || letter.is_ascii_alphabetic() => Ok(Some(plain(self.name()))),
            _ => Ok(None),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(letter) = self.peek().filter(|l| *l == '_' || l.is_ascii_alphanumeric()) {
            name.push(letter);
            self.bump();
        }
        name
    }

    /// Whether the `((` here is closed by `))`: else it is a subshell in a substitution.
    fn is_arithmetic(&self) -> bool {
        let (mut open, mut at) = (0u32, self.joined(self.at));
        while let Some(letter) = self.text.get(at) {
            match letter {
                '(' => open += 1,
                ')' if open == 2 => return self.text.get(self.joined(at + 1)) == Some(&')'),
                ')' => open = open.saturating_sub(1),
                '\\' => at += 1,
                _ => {}
            }
            at = self.joined(at + 1);
        }
        false
    }

    /// After `${`.
    fn braces(&mut self, is_double: bool) -> Parsed<Parameter> {
        let bad = || Fault::Syntax("syntax error: bad substitution".to_owned());
        let is_length = self.peek() == Some('#') && self.after(1) != Some('}') && {
            // `${#-x}` and the like ask about `$#`; `${#x}` and `${#?}` for a length.
            let (next, end) = (self.after(1), self.after(2));
            next.is_some_and(|l| l.is_ascii_alphanumeric() || l == '_')
                || (next.is_some_and(|l| "@*?-$!#".contains(l)) && end == Some('}'))
        };
        if is_length {
            self.bump();
        }
        let first = self.peek().ok_or_else(|| unterminated("substitution"))?;
        let name = match first {
            '@' | '*' | '#' | '?' | '-' | '$' | '!' => {
                self.bump();
                first.to_string()
            }
            _ => self.name(),
        };
        let is_number = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_digit());
        let is_special = name.chars().count() == 1 && "@*#?-$!".contains(name.as_str());
        if !is_name(&name) && !is_number && !is_special {
            return Err(bad());
        }
        let change = match self.peek().ok_or_else(|| unterminated("substitution"))? {
            '}' => {
                self.bump();
                if is_length { Change::Length } else { Change::None }
            }
            _ if is_length => return Err(bad()),
            sign => self.change(sign, is_double)?.ok_or_else(bad)?,
        };
        Ok(Parameter { name, change })
    }

    fn change(&mut self, sign: char, is_double: bool) -> Parsed<Option<Change>> {
        let context = if is_double { Context::DoubleBrace } else { Context::Brace };
        if matches!(sign, '#' | '%') {
            self.bump();
            let end = if sign == '#' { End::Prefix } else { End::Suffix };
            let size = match self.takes(&sign.to_string()) {
                true => Size::Longest,
                false => Size::Shortest,
            };
            // Quotes count in patterns, even within double quotes.
            return self.parts(Context::Brace).map(|parts| Some(Change::Cut(end, size, parts)));
        }
        let empty = if self.takes(":") { Empty::IsNone } else { Empty::Counts };
        let lack = match self.peek() {
            Some('-') => Lack::Use,
            Some('=') => Lack::Assign,
            Some('?') => Lack::Fail,
            Some('+') => Lack::Instead,
            _ => return Ok(None),
        };
        self.bump();
        self.parts(context).map(|parts| Some(Change::Lack(lack, empty, parts)))
    }

    fn backquotes(&mut self, is_double: bool) -> Parsed<Part> {
        self.bump();
        let mut text = String::new();
        loop {
            match self.bump() {
                None => return Err(unterminated("command substitution")),
                Some('`') => break,
                Some('\\') => match self.text.get(self.at).copied() {
                    Some(letter @ ('$' | '`' | '\\')) => {
                        self.bump();
                        text.push(letter);
                    }
                    Some('"') if is_double => {
                        self.bump();
                        text.push('"');
                    }
                    _ => text.push('\\'),
                },
                Some(letter) => text.push(letter),
            }
        }
        let mut inner = Self::nested(&text, self.depth);
        let list = inner.list()?;
        match inner.peek() {
            None => Ok(Part::Command(Rc::new(list))),
            Some(_) => Err(inner.unexpected()),
        }
    }
}

fn plain(name: String) -> Part {
    Part::Parameter(Parameter { name, change: Change::None })
}
