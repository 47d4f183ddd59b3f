//! Reads shell commands as POSIX writes them, one complete line at a time. Words are in `word`.
//! Whatever the text is, it ends: no construct nests deeper than `DEEPEST`, and every step
//! consumes something or fails.

mod compound;
mod redirect;
mod word;

use super::syntax::{Chain, Command, Item, Join, List, Pipeline, Place, Simple, is_name};

/// Constructs inside of each other; far above what people write, far below the stack's end.
const DEEPEST: u32 = 180;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The text ends within a construct: more may come.
    Incomplete(String),
    Syntax(String),
}

type Parsed<T> = Result<T, Fault>;

pub struct Parser {
    text: Vec<char>,
    at: usize,
    depth: u32,
    /// Whether the last item ended with `;` or `&`.
    separated: bool,
    /// The line's end after which here-documents lie, and where they end.
    documents: Option<(usize, usize)>,
}

/// What ends a list inside of a construct.
const ENDS: [&str; 8] = ["then", "else", "elif", "fi", "do", "done", "esac", "}"];

impl Parser {
    pub fn new(text: &str) -> Self {
        Self::nested(text, 0)
    }

    fn nested(text: &str, depth: u32) -> Self {
        let text = text.chars().filter(|letter| *letter != '\0').collect();
        Self { text, at: 0, depth, separated: false, documents: None }
    }

    /// Everything at once.
    #[cfg(test)]
    pub fn all(text: &str) -> Parsed<List> {
        let (mut parser, mut all) = (Self::new(text), List::default());
        while let Some(line) = parser.line()? {
            all.0.extend(line.0);
        }
        Ok(all)
    }

    /// The next complete line of commands; `None` at the end.
    pub fn line(&mut self) -> Parsed<Option<List>> {
        self.newlines();
        if self.peek().is_none() {
            return Ok(None);
        }
        let mut list = List::default();
        loop {
            list.0.push(self.item()?);
            self.blanks();
            match self.peek() {
                None => return Ok(Some(list)),
                Some('\n') => {
                    self.bump();
                    return Ok(Some(list));
                }
                Some(_) if self.separated => {}
                Some(_) => return Err(self.unexpected()),
            }
        }
    }

    fn peek(&mut self) -> Option<char> {
        // A backslash at a line's end joins the next line to it.
        self.at = self.joined(self.at);
        self.text.get(self.at).copied()
    }

    /// The letter so many places on.
    fn after(&self, places: usize) -> Option<char> {
        let mut at = self.joined(self.at);
        for _ in 0..places {
            at = self.joined(at + 1);
        }
        self.text.get(at).copied()
    }

    /// Behind backslashes that join this line to the next.
    fn joined(&self, mut at: usize) -> usize {
        while self.text.get(at) == Some(&'\\') && self.text.get(at + 1) == Some(&'\n') {
            at += 2;
        }
        at
    }

    /// The letters from here that are such, and where they end.
    fn run_of(&self, from: usize, is: impl Fn(char) -> bool) -> (String, usize) {
        let (mut text, mut at) = (String::new(), self.joined(from));
        while let Some(letter) = self.text.get(at).copied().filter(|letter| is(*letter)) {
            text.push(letter);
            at = self.joined(at + 1);
        }
        (text, at)
    }

    fn bump(&mut self) -> Option<char> {
        let letter = self.text.get(self.at).copied()?;
        self.at += 1;
        if let Some((line_end, end)) = self.documents
            && line_end + 1 == self.at
        {
            self.at = end;
            self.documents = None;
        }
        Some(letter)
    }

    /// Where these letters end that are next, joined lines between them or not.
    fn reaches(&self, wanted: &str) -> Option<usize> {
        let mut at = self.at;
        for letter in wanted.chars() {
            at = self.joined(at);
            if self.text.get(at) != Some(&letter) {
                return None;
            }
            at += 1;
        }
        Some(at)
    }

    fn takes(&mut self, wanted: &str) -> bool {
        let end = self.reaches(wanted);
        self.at = end.unwrap_or(self.at);
        end.is_some()
    }

    fn blanks(&mut self) {
        while let Some(' ' | '\t' | '\r') = self.peek() {
            self.at += 1;
        }
        if self.peek() == Some('#') {
            while !matches!(self.text.get(self.at), None | Some('\n')) {
                self.at += 1;
            }
        }
    }

    fn newlines(&mut self) {
        self.blanks();
        while self.peek() == Some('\n') {
            self.bump();
            self.blanks();
        }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEEPEST {
            return Err(Fault::Syntax(format!("nested deeper than {DEEPEST} levels")));
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        done
    }

    fn unexpected(&mut self) -> Fault {
        let Some(letter) = self.peek() else {
            return Fault::Incomplete("unexpected end of file".to_owned());
        };
        let line = self.text.iter().take(self.at).filter(|letter| **letter == '\n').count() + 1;
        let what = match letter {
            '\n' => "newline".to_owned(),
            _ => match self.keyword() {
                Some(word) => format!("\"{word}\""),
                None => format!("\"{letter}\""),
            },
        };
        Fault::Syntax(format!("line {line}: syntax error: unexpected {what}"))
    }

    fn expect(&mut self, wanted: &str) -> Parsed<()> {
        self.newlines();
        let found = match wanted {
            "(" | ")" => self.takes(wanted),
            _ => self.keyword() == Some(wanted) && self.takes(wanted),
        };
        if found { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The reserved word that is next, where one may stand.
    fn keyword(&mut self) -> Option<&'static str> {
        self.blanks();
        let is_next = |word: &&str| {
            let Some(end) = self.reaches(word) else { return false };
            self.text.get(self.joined(end)).is_none_or(|letter| ends_word(*letter))
        };
        RESERVED.into_iter().find(|word| is_next(&word))
    }

    /// Commands up to what ends a construct, which is left there.
    fn list(&mut self) -> Parsed<List> {
        let mut list = List::default();
        loop {
            self.newlines();
            let at_end = match self.peek() {
                None | Some(')') => true,
                Some(';') => self.after(1) == Some(';'),
                Some(_) => self.keyword().is_some_and(|word| ENDS.contains(&word)),
            };
            if at_end {
                return Ok(list);
            }
            list.0.push(self.item()?);
            self.blanks();
            let goes_on = self.separated
                || match self.peek() {
                    None | Some('\n' | ')') => true,
                    Some(';') => self.after(1) == Some(';'),
                    Some(_) => false,
                };
            if !goes_on {
                return Err(self.unexpected());
            }
        }
    }

    /// As [`Parser::list`], of at least one command.
    fn some(&mut self) -> Parsed<List> {
        let list = self.list()?;
        if list.0.is_empty() { Err(self.unexpected()) } else { Ok(list) }
    }

    /// A chain and the `;` or `&` after it.
    fn item(&mut self) -> Parsed<Item> {
        let chain = self.chain()?;
        self.blanks();
        let sign = self.peek();
        let place = if sign == Some('&') { Place::Background } else { Place::Foreground };
        self.separated = sign == Some('&') || (sign == Some(';') && self.after(1) != Some(';'));
        if self.separated {
            self.bump();
        }
        Ok(Item { chain, place })
    }

    fn chain(&mut self) -> Parsed<Chain> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.blanks();
            let join = match (self.peek(), self.after(1)) {
                (Some('&'), Some('&')) => Join::And,
                (Some('|'), Some('|')) => Join::Or,
                _ => return Ok(Chain { first, rest }),
            };
            self.takes(if join == Join::And { "&&" } else { "||" });
            self.newlines();
            rest.push((join, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Parsed<Pipeline> {
        let mut negated = false;
        while self.keyword() == Some("!") {
            self.bump();
            negated = !negated;
        }
        let mut stages = vec![self.deeper(Self::command)?];
        loop {
            self.blanks();
            if self.peek() != Some('|') || self.after(1) == Some('|') {
                return Ok(Pipeline { negated, stages });
            }
            self.bump();
            self.newlines();
            stages.push(self.deeper(Self::command)?);
        }
    }

    fn command(&mut self) -> Parsed<Command> {
        let Some(compound) = self.compound()? else { return self.simple() };
        let mut redirects = Vec::new();
        while let Some(redirect) = self.redirect()? {
            redirects.push(redirect);
        }
        Ok(Command::Compound(compound, redirects))
    }

    fn simple(&mut self) -> Parsed<Command> {
        let mut simple = Simple::default();
        loop {
            self.blanks();
            if let Some(redirect) = self.redirect()? {
                simple.redirects.push(redirect);
                continue;
            }
            if simple.words.is_empty()
                && let Some(name) = self.assigned()
            {
                let value = self.word()?.unwrap_or_default();
                simple.assignments.push((name, value));
                continue;
            }
            let Some(word) = self.word()? else { break };
            let is_first = simple.words.is_empty()
                && simple.assignments.is_empty()
                && simple.redirects.is_empty();
            if let (true, Some(name)) = (is_first, word.literal()) {
                self.blanks();
                if self.peek() == Some('(') {
                    let name = name.to_owned();
                    return self.function(name);
                }
            }
            simple.words.push(word);
        }
        if simple == Simple::default() {
            Err(self.unexpected())
        } else {
            Ok(Command::Simple(simple))
        }
    }

    /// The name before an assignment's `=`, both consumed.
    fn assigned(&mut self) -> Option<String> {
        let (name, end) =
            self.run_of(self.at, |letter| letter.is_ascii_alphanumeric() || letter == '_');
        (is_name(&name) && self.text.get(end) == Some(&'=')).then(|| {
            self.at = end + 1;
            name
        })
    }
}

const RESERVED: [&str; 16] = [
    "if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "{",
    "}", "!", "in",
];

/// Whether a word means something where a command begins.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// Whether a letter ends an unquoted word.
fn ends_word(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')')
}
