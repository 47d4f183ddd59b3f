//! test, [.

use super::{Call, Failure, Outcome, base};
use crate::sys::{self, Follow, Kind};

/// Parentheses and `!` inside of each other.
const DEEPEST: u32 = 40;

pub fn test(call: &mut Call) -> Outcome {
    let mut words = call.arguments.clone();
    if base(&call.name) == "[" && words.pop().is_none_or(|last| last != "]") {
        return Err(Failure::Says("missing ]".to_owned(), 2));
    }
    let mut reader = Reader { call, words: &words, at: 0, depth: 0 };
    if words.is_empty() {
        return Ok(1);
    }
    let truth = reader.any()?;
    match words.get(reader.at) {
        None => Ok(u8::from(!truth)),
        Some(word) => Err(Failure::Says(format!("{word}: unexpected operator"), 2)),
    }
}

struct Reader<'a> {
    call: &'a Call,
    words: &'a [String],
    at: usize,
    depth: u32,
}

impl Reader<'_> {
    fn peek(&self, places: usize) -> Option<&str> {
        self.words.get(self.at + places).map(String::as_str)
    }

    fn any(&mut self) -> Result<bool, Failure> {
        let mut truth = self.all()?;
        while self.peek(0) == Some("-o") {
            self.at += 1;
            truth |= self.all()?;
        }
        Ok(truth)
    }

    fn all(&mut self) -> Result<bool, Failure> {
        let mut truth = self.not()?;
        while self.peek(0) == Some("-a") {
            self.at += 1;
            truth &= self.not()?;
        }
        Ok(truth)
    }

    fn not(&mut self) -> Result<bool, Failure> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Failure::Says("nested too deeply".to_owned(), 2));
        }
        let is_alone = self.words.len() - self.at == 1;
        let is_compared = self.peek(1).is_some_and(is_binary) && self.peek(2).is_some();
        let truth = match self.peek(0) {
            Some("!") if !is_alone && !is_compared => {
                self.at += 1;
                !self.not()?
            }
            Some("(") if !is_alone && !is_compared => {
                self.at += 1;
                let truth = self.any()?;
                if self.peek(0) != Some(")") {
                    return Err(Failure::Says("missing )".to_owned(), 2));
                }
                self.at += 1;
                truth
            }
            _ => self.primary()?,
        };
        self.depth -= 1;
        Ok(truth)
    }

    fn primary(&mut self) -> Result<bool, Failure> {
        let own = |place| self.peek(place).map(str::to_owned);
        let Some(first) = own(0) else {
            return Err(Failure::Says("argument expected".to_owned(), 2));
        };
        if let (Some(sign), Some(right)) = (own(1), own(2))
            && is_binary(&sign)
        {
            self.at += 3;
            return self.binary(&first, &sign, &right);
        }
        let is_unary = first.len() == 2 && first.starts_with('-');
        if let (true, Some(operand)) = (is_unary, own(1)) {
            self.at += 2;
            return self.unary(&first, &operand);
        }
        self.at += 1;
        Ok(!first.is_empty())
    }

    fn unary(&self, sign: &str, operand: &str) -> Result<bool, Failure> {
        let path = self.call.path(operand);
        let of = |follow| sys::stat(&path, follow).ok().filter(|_| !operand.is_empty());
        let is = |kind| of(Follow::Yes).is_some_and(|found| found.kind == kind);
        Ok(match sign {
            "-n" => !operand.is_empty(),
            "-z" => operand.is_empty(),
            "-e" => of(Follow::Yes).is_some(),
            "-f" => is(Kind::File),
            "-d" => is(Kind::Folder),
            "-b" => is(Kind::Block),
            "-c" => is(Kind::Character),
            "-p" => is(Kind::Fifo),
            "-S" => is(Kind::Socket),
            "-h" | "-L" => of(Follow::No).is_some_and(|found| found.kind == Kind::Link),
            "-s" => of(Follow::Yes).is_some_and(|found| found.size > 0),
            // WASI tells no modes: what can be opened can be read.
            "-r" => of(Follow::Yes).is_some_and(|found| {
                found.kind != Kind::File || sys::File::open(&path, sys::Mode::Read).is_ok()
            }),
            "-w" | "-x" | "-O" | "-G" => of(Follow::Yes).is_some(),
            "-u" | "-g" | "-k" => false,
            "-t" => match operand {
                "0" => self.call.input.is_terminal(),
                "1" => self.call.out.stream().is_terminal(),
                _ => false,
            },
            _ => return Err(Failure::Says(format!("{sign}: unknown operand"), 2)),
        })
    }

    fn binary(&self, left: &str, sign: &str, right: &str) -> Result<bool, Failure> {
        let number = |text: &str| {
            let told = || Failure::Says(format!("{text}: bad number"), 2);
            text.trim().parse::<i64>().map_err(|_| told())
        };
        let stat = |name: &str| sys::stat(&self.call.path(name), Follow::Yes).ok();
        Ok(match sign {
            "=" | "==" => left == right,
            "!=" => left != right,
            "<" => left < right,
            ">" => left > right,
            "-eq" => number(left)? == number(right)?,
            "-ne" => number(left)? != number(right)?,
            "-lt" => number(left)? < number(right)?,
            "-le" => number(left)? <= number(right)?,
            "-gt" => number(left)? > number(right)?,
            "-ge" => number(left)? >= number(right)?,
            "-nt" => stat(left).map(|s| s.modified) > stat(right).map(|s| s.modified),
            "-ot" => stat(left).map(|s| s.modified) < stat(right).map(|s| s.modified),
            _ => match (stat(left), stat(right)) {
                (Some(left), Some(right)) => left.id == right.id,
                _ => false,
            },
        })
    }
}

fn is_binary(sign: &str) -> bool {
    const SIGNS: [&str; 14] =
        ["=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef"];
    SIGNS.contains(&sign)
}
