//! Redirections and the here-documents that some of them name.

use super::super::syntax::{Redirect, Way, Word};
use super::word::{self, Context};
use super::{Fault, Parsed, Parser};

impl Parser {
    pub(super) fn redirect(&mut self) -> Parsed<Option<Redirect>> {
        self.blanks();
        let (number, end) = self.run_of(self.at, |letter| letter.is_ascii_digit());
        if !matches!(self.text.get(end), Some('<' | '>')) {
            return Ok(None);
        }
        let descriptor = number.parse().ok();
        if !number.is_empty() && descriptor.is_none() {
            return Err(Fault::Syntax(format!("{number}: Bad file descriptor")));
        }
        self.at = end;
        const WAYS: [(&str, Way); 9] = [
            ("<<-", Way::Here),
            ("<<", Way::Here),
            ("<&", Way::DuplicateIn),
            ("<>", Way::Update),
            ("<", Way::Read),
            (">>", Way::Append),
            (">&", Way::DuplicateOut),
            (">|", Way::Clobber),
            (">", Way::Write),
        ];
        let Some((sign, way)) = WAYS.into_iter().find(|(sign, _)| self.takes(sign)) else {
            return Ok(None);
        };
        self.blanks();
        let Some(target) = self.word()? else { return Err(self.unexpected()) };
        let target = match way {
            Way::Here => self.document(&target, sign)?,
            _ => target,
        };
        Ok(Some(Redirect { descriptor, way, target }))
    }

    /// The text of a here-document, which lies after this line and those before it.
    fn document(&mut self, delimiter: &Word, sign: &str) -> Parsed<Word> {
        let (end, is_quoted) = word::delimiter(delimiter)
            .ok_or_else(|| Fault::Syntax("a here-document's end is plain text".to_owned()))?;
        let line_end = match self.documents {
            Some((line_end, _)) => line_end,
            None => self.line_end(),
        };
        let mut at = self.documents.map_or(line_end + 1, |(_, after)| after);
        let (mut body, mut goes_on) = (String::new(), false);
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return Err(Fault::Incomplete(format!("here-document without its end {end:?}")));
            }
            let length = rest.iter().position(|letter| *letter == '\n').unwrap_or(rest.len());
            let line: String = rest.iter().take(length).collect();
            at = (at + length + 1).min(self.text.len());
            let line = if sign == "<<-" { line.trim_start_matches('\t') } else { &line };
            // The line before goes on in this one, which is no end then.
            if line == end && !goes_on {
                break;
            }
            let slashes = line.chars().rev().take_while(|letter| *letter == '\\').count();
            goes_on = !is_quoted && slashes % 2 == 1;
            body.push_str(line);
            body.push('\n');
        }
        self.documents = Some((line_end, at));
        if is_quoted {
            return Ok(word::quoted(body));
        }
        let mut inner = Self::nested(&body, self.depth);
        inner.deeper(|inner| inner.parts(Context::Document)).map(Word)
    }

    /// The end of this line, quotes being gone over.
    fn line_end(&self) -> usize {
        let mut quote = None;
        let mut at = self.at;
        while let Some(&letter) = self.text.get(at) {
            match (letter, quote) {
                ('\n', None) => break,
                ('\\', None | Some('"')) => at += 1,
                ('\'' | '"', None) => quote = Some(letter),
                (letter, Some(open)) if letter == open => quote = None,
                _ => {}
            }
            at += 1;
        }
        at
    }
}
