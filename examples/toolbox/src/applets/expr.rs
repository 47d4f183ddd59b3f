//! expr.

use super::{Call, Failure, Outcome, regex};

const DEEPEST: u32 = 40;

pub fn expr(call: &mut Call) -> Outcome {
    let words = call.arguments.clone();
    let mut reader = Reader { words: &words, at: 0, depth: 0 };
    let value = reader.level(0)?;
    if let Some(word) = words.get(reader.at) {
        return Err(Failure::Says(format!("syntax error: unexpected argument '{word}'"), 2));
    }
    call.out.line(&value)?;
    Ok(u8::from(is_nothing(&value)))
}

fn is_nothing(value: &str) -> bool {
    value.is_empty() || value.parse() == Ok(0i64)
}

fn number(text: &str) -> Result<i64, Failure> {
    text.parse().map_err(|_| Failure::Says(format!("non-numeric argument '{text}'"), 2))
}

/// Operators, the loosest first.
const LEVELS: [&[&str]; 6] = [
    &["|"],
    &["&"],
    &["<", "<=", "=", "==", "!=", ">=", ">"],
    &["+", "-"],
    &["*", "/", "%"],
    &[":"],
];

struct Reader<'a> {
    words: &'a [String],
    at: usize,
    depth: u32,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<String, Failure> {
        let word = self.words.get(self.at).cloned();
        self.at += 1;
        word.ok_or_else(|| Failure::Says("syntax error: missing argument".to_owned(), 2))
    }

    fn level(&mut self, level: usize) -> Result<String, Failure> {
        let Some(signs) = LEVELS.get(level) else { return self.primary() };
        let mut left = self.level(level + 1)?;
        while let Some(sign) = self.words.get(self.at).filter(|word| signs.contains(&word.as_str()))
        {
            self.at += 1;
            let right = self.level(level + 1)?;
            left = apply(&left, sign, &right)?;
        }
        Ok(left)
    }

    fn primary(&mut self) -> Result<String, Failure> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Failure::Says("nested too deeply".to_owned(), 2));
        }
        let word = self.next()?;
        let value = match word.as_str() {
            "(" => {
                let value = self.level(0)?;
                match self.next()?.as_str() {
                    ")" => value,
                    _ => return Err(Failure::Says("syntax error: expecting ')'".to_owned(), 2)),
                }
            }
            "length" => self.primary()?.chars().count().to_string(),
            "match" => {
                let (text, pattern) = (self.primary()?, self.primary()?);
                apply(&text, ":", &pattern)?
            }
            "index" => {
                let (text, letters) = (self.primary()?, self.primary()?);
                let at = text.chars().position(|letter| letters.contains(letter));
                at.map_or(0, |at| at + 1).to_string()
            }
            "substr" => {
                let text = self.primary()?;
                let (from, count) = (number(&self.primary()?)?, number(&self.primary()?)?);
                let skip = usize::try_from(from - 1).unwrap_or(usize::MAX);
                text.chars().skip(skip).take(usize::try_from(count).unwrap_or(0)).collect()
            }
            _ => word,
        };
        self.depth -= 1;
        Ok(value)
    }
}

fn apply(left: &str, sign: &str, right: &str) -> Result<String, Failure> {
    let truth = |is: bool| u8::from(is).to_string();
    Ok(match sign {
        "|" if !is_nothing(left) => left.to_owned(),
        "|" if !right.is_empty() => right.to_owned(),
        "|" => "0".to_owned(),
        "&" if is_nothing(left) || is_nothing(right) => "0".to_owned(),
        "&" => left.to_owned(),
        ":" => {
            let pattern = regex::basic(&format!("^{}", right.trim_start_matches('^')))?;
            match pattern.captures(left) {
                Some(found) => match found.get(1) {
                    Some(group) => group.as_str().to_owned(),
                    None if pattern.captures_len() > 1 => String::new(),
                    None => found.get(0).map_or(0, |all| all.as_str().chars().count()).to_string(),
                },
                None if pattern.captures_len() > 1 => String::new(),
                None => "0".to_owned(),
            }
        }
        "+" | "-" | "*" | "/" | "%" => {
            let (left, right) = (number(left)?, number(right)?);
            let value = match sign {
                "+" => left.checked_add(right),
                "-" => left.checked_sub(right),
                "*" => left.checked_mul(right),
                _ if right == 0 => return Err(Failure::Says("division by zero".to_owned(), 2)),
                "/" => left.checked_div(right),
                _ => left.checked_rem(right),
            };
            value.ok_or_else(|| Failure::Says("result too large".to_owned(), 2))?.to_string()
        }
        _ => {
            let order = match (left.parse::<i64>(), right.parse::<i64>()) {
                (Ok(left), Ok(right)) => left.cmp(&right),
                _ => left.cmp(right),
            };
            truth(match sign {
                "<" => order.is_lt(),
                "<=" => order.is_le(),
                "=" | "==" => order.is_eq(),
                "!=" => order.is_ne(),
                ">=" => order.is_ge(),
                _ => order.is_gt(),
            })
        }
    })
}
