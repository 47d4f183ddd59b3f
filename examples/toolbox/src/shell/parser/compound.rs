//! Compound commands: groups, loops, conditions, `case`, functions.

use std::rc::Rc;

use super::super::syntax::{Command, Compound, List, While, is_name};
use super::{Parsed, Parser};

impl Parser {
    pub(super) fn compound(&mut self) -> Parsed<Option<Compound>> {
        self.blanks();
        if self.peek() == Some('(') {
            self.bump();
            let list = self.some()?;
            self.expect(")")?;
            return Ok(Some(Compound::Subshell(list)));
        }
        let Some(word) = self.keyword() else { return Ok(None) };
        if !matches!(word, "{" | "if" | "while" | "until" | "for" | "case") {
            return if word == "in" { Ok(None) } else { Err(self.unexpected()) };
        }
        self.takes(word);
        let compound = match word {
            "{" => {
                let list = self.some()?;
                self.expect("}")?;
                Compound::Group(list)
            }
            "if" => self.branches()?,
            "for" => self.for_loop()?,
            "case" => self.case()?,
            _ => {
                let until = if word == "while" { While::Succeeds } else { While::Fails };
                let condition = self.some()?;
                Compound::Loop(until, condition, self.body()?)
            }
        };
        Ok(Some(compound))
    }

    fn body(&mut self) -> Parsed<List> {
        self.expect("do")?;
        let list = self.some()?;
        self.expect("done")?;
        Ok(list)
    }

    fn branches(&mut self) -> Parsed<Compound> {
        let mut branches = Vec::new();
        loop {
            let condition = self.some()?;
            self.expect("then")?;
            branches.push((condition, self.some()?));
            match self.keyword() {
                Some("elif") => drop(self.takes("elif")),
                Some("else") => {
                    self.takes("else");
                    let other = self.some()?;
                    self.expect("fi")?;
                    return Ok(Compound::If(branches, Some(other)));
                }
                _ => {
                    self.expect("fi")?;
                    return Ok(Compound::If(branches, None));
                }
            }
        }
    }

    fn for_loop(&mut self) -> Parsed<Compound> {
        self.blanks();
        let name = self.word()?.and_then(|word| word.literal().map(str::to_owned));
        let Some(name) = name.filter(|name| is_name(name)) else { return Err(self.unexpected()) };
        self.newlines();
        let mut words = None;
        if self.keyword() == Some("in") {
            self.takes("in");
            let mut found = Vec::new();
            self.blanks();
            while let Some(word) = self.word()? {
                found.push(word);
                self.blanks();
            }
            words = Some(found);
        }
        self.blanks();
        if self.peek() == Some(';') {
            self.bump();
        }
        Ok(Compound::For(name, words, self.body()?))
    }

    fn case(&mut self) -> Parsed<Compound> {
        self.blanks();
        let Some(subject) = self.word()? else { return Err(self.unexpected()) };
        self.expect("in")?;
        let mut arms = Vec::new();
        loop {
            self.newlines();
            if self.keyword() == Some("esac") {
                self.takes("esac");
                return Ok(Compound::Case(subject, arms));
            }
            if self.peek() == Some('(') {
                self.bump();
            }
            let mut patterns = Vec::new();
            loop {
                self.blanks();
                let Some(pattern) = self.word()? else { return Err(self.unexpected()) };
                patterns.push(pattern);
                self.blanks();
                if self.peek() != Some('|') {
                    break;
                }
                self.bump();
            }
            if !self.takes(")") {
                return Err(self.unexpected());
            }
            arms.push((patterns, self.list()?));
            self.newlines();
            if !self.takes(";;") && self.keyword() != Some("esac") {
                return Err(self.unexpected());
            }
        }
    }

    pub(super) fn function(&mut self, name: String) -> Parsed<Command> {
        self.bump();
        self.blanks();
        let is_word = |letter: char| letter.is_alphanumeric() || "_-.:".contains(letter);
        if !self.takes(")") || !name.chars().all(is_word) {
            return Err(self.unexpected());
        }
        self.newlines();
        let body = self.deeper(Self::command)?;
        match body {
            Command::Compound(..) => Ok(Command::Function(name, Rc::new(body))),
            _ => Err(self.unexpected()),
        }
    }
}
