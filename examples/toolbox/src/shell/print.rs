//! Writes commands so that the parser reads the same again: how a stage of a pipeline reaches the
//! process that runs it.

use super::parser;
use super::syntax::{
    Change, Command, Compound, Empty, End, Item, Join, Lack, List, Part, Pipeline, Place, Redirect,
    Simple, Size, Way, While, Word,
};

pub fn list(list: &List) -> String {
    let mut printer = Printer::default();
    printer.list(list);
    printer.text
}

pub fn command(command: &Command) -> String {
    let mut printer = Printer::default();
    printer.command(command);
    printer.newline();
    printer.text
}

/// A text as one word that nothing is made of.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[derive(Default)]
struct Printer {
    text: String,
    /// Here-documents that follow the line, with their ends.
    documents: Vec<(String, String)>,
}

/// What has to be escaped in a text that is not a command's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    Double,
    DoubleBrace,
    Document,
    Arithmetic,
}

impl Printer {
    fn newline(&mut self) {
        self.text.push('\n');
        for (body, end) in std::mem::take(&mut self.documents) {
            self.text.push_str(&body);
            self.text.push_str(&end);
            self.text.push('\n');
        }
    }

    /// Here-documents come before words that may have lines of their own.
    fn after_join(&mut self) {
        if !self.documents.is_empty() {
            self.newline();
        }
    }

    fn list(&mut self, list: &List) {
        for Item { chain, place } in &list.0 {
            self.pipeline(&chain.first);
            for (join, pipeline) in &chain.rest {
                self.text.push_str(if *join == Join::And { " && " } else { " || " });
                self.after_join();
                self.pipeline(pipeline);
            }
            if *place == Place::Background {
                self.text.push_str(" &");
            }
            self.newline();
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline) {
        if pipeline.negated {
            self.text.push_str("! ");
        }
        for (number, stage) in pipeline.stages.iter().enumerate() {
            if number > 0 {
                self.text.push_str(" | ");
                self.after_join();
            }
            self.command(stage);
        }
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Simple(simple) => self.simple(simple),
            Command::Compound(compound, redirects) => {
                self.compound(compound);
                redirects.iter().for_each(|redirect| self.redirect(redirect));
            }
            Command::Function(name, body) => {
                self.text.push_str(&format!("{name}() "));
                self.command(body);
            }
        }
    }

    fn simple(&mut self, simple: &Simple) {
        for (name, value) in &simple.assignments {
            self.text.push_str(&format!("{name}="));
            self.word(value);
            self.text.push(' ');
        }
        // A word that is reserved at a command's beginning.
        let reserved = simple.assignments.is_empty()
            && simple.words.first().and_then(Word::literal).is_some_and(parser::is_reserved);
        let (early, late) =
            simple.redirects.split_at(usize::from(reserved).min(simple.redirects.len()));
        early.iter().for_each(|redirect| self.redirect(redirect));
        self.words(&simple.words, " ");
        late.iter().for_each(|redirect| self.redirect(redirect));
    }

    fn compound(&mut self, compound: &Compound) {
        match compound {
            Compound::Group(list) => self.between("{", list, "}"),
            Compound::Subshell(list) => self.between("(", list, ")"),
            Compound::For(name, words, body) => {
                self.text.push_str(&format!("for {name}"));
                if let Some(words) = words {
                    self.text.push_str(" in");
                    self.words(words, " ");
                }
                self.newline();
                self.between("do", body, "done");
            }
            Compound::Case(subject, arms) => {
                self.text.push_str("case ");
                self.word(subject);
                self.text.push_str(" in");
                self.newline();
                for (patterns, list) in arms {
                    self.text.push('(');
                    for (number, pattern) in patterns.iter().enumerate() {
                        self.text.push_str(if number > 0 { "|" } else { "" });
                        self.word(pattern);
                    }
                    self.between(")", list, ";;");
                    self.newline();
                }
                self.text.push_str("esac");
            }
            Compound::If(branches, other) => {
                for (number, (condition, body)) in branches.iter().enumerate() {
                    self.between(if number > 0 { "elif" } else { "if" }, condition, "");
                    self.between("then", body, "");
                }
                if let Some(other) = other {
                    self.between("else", other, "");
                }
                self.text.push_str("fi");
            }
            Compound::Loop(until, condition, body) => {
                let word = if *until == While::Succeeds { "while" } else { "until" };
                self.between(word, condition, "");
                self.between("do", body, "done");
            }
        }
    }

    fn between(&mut self, begin: &str, list: &List, end: &str) {
        self.text.push_str(begin);
        self.newline();
        self.list(list);
        self.text.push_str(end);
    }

    fn redirect(&mut self, redirect: &Redirect) {
        self.text.push(' ');
        if let Some(number) = redirect.descriptor {
            self.text.push_str(&number.to_string());
        }
        let sign = match redirect.way {
            Way::Read => "<",
            Way::Write => ">",
            Way::Clobber => ">|",
            Way::Append => ">>",
            Way::Update => "<>",
            Way::DuplicateIn => "<&",
            Way::DuplicateOut => ">&",
            Way::Here => return self.document(&redirect.target),
        };
        self.text.push_str(sign);
        self.text.push(' ');
        self.word(&redirect.target);
    }

    fn document(&mut self, body: &Word) {
        let (text, is_quoted) = match body.0.as_slice() {
            [Part::Quoted(text)] => (text.clone(), true),
            parts => {
                let mut inner = Self::default();
                inner.parts(parts, Inside::Document);
                (inner.text, false)
            }
        };
        let mut end = "EOF".to_owned();
        while text.lines().any(|line| line == end) {
            end.push('_');
        }
        self.text.push_str(&if is_quoted { format!("<<'{end}'") } else { format!("<<{end}") });
        self.documents.push((text, end));
    }

    fn words(&mut self, words: &[Word], between: &str) {
        for word in words {
            self.text.push_str(between);
            self.word(word);
        }
    }

    fn word(&mut self, word: &Word) {
        self.parts(&word.0, Inside::Nothing);
    }

    fn parts(&mut self, parts: &[Part], inside: Inside) {
        for part in parts {
            match part {
                Part::Literal(text) => self.literal(text, inside),
                Part::Quoted(text) => self.text.push_str(&quoted(text)),
                Part::Double(parts) => {
                    self.text.push('"');
                    self.parts(parts, Inside::Double);
                    self.text.push('"');
                }
                Part::Parameter(parameter) => {
                    self.text.push_str("${");
                    if parameter.change == Change::Length {
                        self.text.push('#');
                    }
                    self.text.push_str(&parameter.name);
                    self.change(&parameter.change, inside);
                    self.text.push('}');
                }
                // Here-documents of its own come right after its lines.
                Part::Command(list) => {
                    self.text.push_str("$(\n");
                    self.text.push_str(&self::list(list));
                    self.text.push(')');
                }
                Part::Arithmetic(parts) => {
                    self.text.push_str("$((");
                    self.parts(parts, Inside::Arithmetic);
                    self.text.push_str("))");
                }
                Part::Home(user) => {
                    self.text.push('~');
                    self.text.push_str(user);
                }
            }
        }
    }

    fn literal(&mut self, text: &str, inside: Inside) {
        for letter in text.chars() {
            let escapes = match inside {
                Inside::Nothing => false,
                Inside::Double => matches!(letter, '$' | '`' | '"' | '\\'),
                Inside::DoubleBrace => matches!(letter, '$' | '`' | '"' | '\\' | '}'),
                Inside::Document | Inside::Arithmetic => matches!(letter, '$' | '`' | '\\'),
            };
            if escapes {
                self.text.push('\\');
            }
            self.text.push(letter);
        }
    }

    fn change(&mut self, change: &Change, inside: Inside) {
        let within = match inside {
            Inside::Nothing => Inside::Nothing,
            _ => Inside::DoubleBrace,
        };
        match change {
            Change::None | Change::Length => {}
            Change::Lack(lack, empty, parts) => {
                self.text.push_str(if *empty == Empty::IsNone { ":" } else { "" });
                self.text.push(match lack {
                    Lack::Use => '-',
                    Lack::Assign => '=',
                    Lack::Fail => '?',
                    Lack::Instead => '+',
                });
                self.parts(parts, within);
            }
            Change::Cut(end, size, parts) => {
                let sign = if *end == End::Prefix { "#" } else { "%" };
                self.text.push_str(sign);
                self.text.push_str(if *size == Size::Longest { sign } else { "" });
                self.parts(parts, Inside::Nothing);
            }
        }
    }
}
