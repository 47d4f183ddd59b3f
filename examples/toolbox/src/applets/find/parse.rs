//! Reads find's expression.

use super::super::regex::{Case, Syntax, build, translate};
use super::super::{Call, Failure, number};
use super::{DEEPEST, Test};
use crate::sys::{self, Follow, Kind};

pub struct Reader<'a> {
    pub call: &'a Call,
    pub words: &'a [String],
    pub at: usize,
    pub depth: usize,
    pub acts: bool,
    pub deepest: usize,
    pub highest: usize,
    pub children_first: bool,
}

/// `+5` is more than five, `-5` less.
fn sign(text: &str) -> (std::cmp::Ordering, String) {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(text), _) => (Greater, text.to_owned()),
        (_, Some(text)) => (Less, text.to_owned()),
        _ => (Equal, text.to_owned()),
    }
}

impl Reader<'_> {
    fn peek(&self) -> Option<&str> {
        self.words.get(self.at).map(String::as_str)
    }

    fn value(&mut self, of: &str) -> Result<String, Failure> {
        let word = self.words.get(self.at).cloned();
        self.at += 1;
        word.ok_or_else(|| Failure::Says(format!("{of} requires an argument"), 1))
    }

    pub fn any(&mut self) -> Result<Test, Failure> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Failure::Says("nested too deeply".to_owned(), 1));
        }
        let mut tests = vec![self.all()?];
        while matches!(self.peek(), Some("-o" | "-or")) {
            self.at += 1;
            tests.push(self.all()?);
        }
        self.depth -= 1;
        Ok(Test::Or(tests))
    }

    fn all(&mut self) -> Result<Test, Failure> {
        let mut tests = Vec::new();
        loop {
            match self.peek() {
                None | Some("-o" | "-or" | ")") => break,
                Some("-a" | "-and") => self.at += 1,
                Some(_) => tests.push(self.one()?),
            }
        }
        Ok(Test::And(tests))
    }

    fn one(&mut self) -> Result<Test, Failure> {
        let mut negated = false;
        while matches!(self.peek(), Some("!" | "-not")) {
            self.at += 1;
            negated = !negated;
        }
        let word = self.value("!")?;
        let test = self.primary(&word)?;
        Ok(if negated { Test::Not(Box::new(test)) } else { test })
    }

    fn primary(&mut self, word: &str) -> Result<Test, Failure> {
        self.acts |= matches!(word, "-print" | "-print0" | "-exec" | "-delete" | "-quit" | "-ok");
        Ok(match word {
            "(" => {
                let test = self.any()?;
                if self.peek() != Some(")") {
                    return Err(Failure::Says("missing )".to_owned(), 1));
                }
                self.at += 1;
                test
            }
            "-true" => Test::True,
            "-false" => Test::False,
            "-name" => Test::Name(self.value(word)?, false, true),
            "-iname" => Test::Name(self.value(word)?, false, false),
            "-path" | "-wholename" => Test::Name(self.value(word)?, true, true),
            "-ipath" => Test::Name(self.value(word)?, true, false),
            "-regex" => {
                let own = translate(&self.value(word)?, Syntax::Basic)?;
                Test::Regex(build(&format!("^(?:{own})$"), Case::Counts)?)
            }
            "-type" => {
                let letters = self.value(word)?;
                let kind = |letter| match letter {
                    'f' => Ok(Kind::File),
                    'd' => Ok(Kind::Folder),
                    'l' => Ok(Kind::Link),
                    'c' => Ok(Kind::Character),
                    'b' => Ok(Kind::Block),
                    'p' => Ok(Kind::Fifo),
                    's' => Ok(Kind::Socket),
                    _ => Err(Failure::Says(format!("unknown type {letter}"), 1)),
                };
                Test::Type(
                    letters.split(',').flat_map(str::chars).map(kind).collect::<Result<_, _>>()?,
                )
            }
            "-empty" => Test::Empty,
            "-size" => {
                let (order, text) = sign(&self.value(word)?);
                let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
                let unit = match text.get(digits.len()..).unwrap_or_default() {
                    "c" => 1,
                    "" | "b" => 512,
                    "k" => 1 << 10,
                    "M" => 1 << 20,
                    "G" => 1 << 30,
                    other => return Err(Failure::Says(format!("unknown unit {other}"), 1)),
                };
                Test::Size(order, number(digits)?, unit)
            }
            "-mtime" | "-mmin" => {
                let (order, text) = sign(&self.value(word)?);
                Test::Age(order, number(&text)?, if word == "-mtime" { 86_400 } else { 60 })
            }
            "-newer" => {
                let name = self.value(word)?;
                let found = sys::stat(&self.call.path(&name), Follow::Yes);
                Test::Newer(
                    found.map_err(|error| format!("{name}: {}", sys::text(&error)))?.modified,
                )
            }
            "-maxdepth" => {
                self.deepest = number::<usize>(&self.value(word)?)?.min(DEEPEST);
                Test::True
            }
            "-mindepth" => {
                self.highest = number(&self.value(word)?)?;
                Test::True
            }
            "-depth" => {
                self.children_first = true;
                Test::True
            }
            "-xdev" | "-mount" | "-noleaf" => Test::True,
            "-prune" => Test::Prune,
            "-quit" => Test::Quit,
            "-delete" => {
                self.children_first = true;
                Test::Delete
            }
            "-print" => Test::Print('\n'),
            "-print0" => Test::Print('\0'),
            "-exec" => {
                let rest = self.words.get(self.at..).unwrap_or_default();
                let end = rest.iter().position(|word| word == ";" || word == "+");
                let end = end.ok_or_else(|| Failure::Says("-exec has no ; or +".to_owned(), 1))?;
                let many = rest.get(end).is_some_and(|word| word == "+");
                let mut argv = rest.get(..end).unwrap_or_default().to_vec();
                if many {
                    argv.retain(|word| word != "{}");
                }
                self.at += end + 1;
                Test::Exec(argv, many)
            }
            other => return Err(Failure::Says(format!("unrecognized: {other}"), 1)),
        })
    }
}
