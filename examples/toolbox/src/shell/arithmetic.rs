//! `$((...))`: C's integers, 64 bits wide.

/// Reads and sets variables by name.
pub trait Variables {
    fn get(&self, name: &str) -> String;
    fn set(&mut self, name: &str, value: i64) -> Result<(), String>;
}

/// Expressions inside of each other, and variables that are expressions again.
const DEEPEST: u32 = 40;

pub fn value(text: &str, variables: &mut dyn Variables) -> Result<i64, String> {
    nested(text, variables, 0)
}

fn nested(text: &str, variables: &mut dyn Variables, depth: u32) -> Result<i64, String> {
    if depth > DEEPEST {
        return Err("arithmetic: expression nested too deeply".to_owned());
    }
    let mut reader = Reader { text: text.chars().collect(), at: 0, variables, depth, runs: true };
    reader.blanks();
    if reader.at == reader.text.len() {
        return Ok(0);
    }
    let value = reader.assignment()?;
    reader.blanks();
    match reader.at == reader.text.len() {
        true => Ok(value),
        false => Err(reader.bad()),
    }
}

struct Reader<'a> {
    text: Vec<char>,
    at: usize,
    variables: &'a mut dyn Variables,
    depth: u32,
    /// Not in the branch that `?:`, `&&` or `||` leaves out.
    runs: bool,
}

/// Binary operators, the loosest first.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

/// Signs that would be taken for a shorter one.
const LONGER: [&str; 14] =
    ["||", "&&", "<<", ">>", "|=", "^=", "&=", "+=", "-=", "*=", "/=", "%=", "<=", ">="];

impl Reader<'_> {
    fn bad(&self) -> String {
        let text: String = self.text.iter().collect();
        format!("arithmetic: syntax error: {}", text.trim())
    }

    fn blanks(&mut self) {
        while self.text.get(self.at).is_some_and(|letter| letter.is_whitespace()) {
            self.at += 1;
        }
    }

    fn is_next(&self, sign: &str) -> bool {
        sign.chars()
            .enumerate()
            .all(|(place, letter)| self.text.get(self.at + place) == Some(&letter))
    }

    fn takes(&mut self, sign: &str) -> bool {
        self.blanks();
        let longer =
            LONGER.iter().any(|l| l.len() > sign.len() && l.starts_with(sign) && self.is_next(l));
        let there = self.is_next(sign) && !longer;
        if there {
            self.at += sign.len();
        }
        there
    }

    fn deeper<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("arithmetic: expression nested too deeply".to_owned());
        }
        let done = read(self);
        self.depth -= 1;
        done
    }

    fn name(&mut self) -> Option<String> {
        self.blanks();
        let rest = self.text.get(self.at..)?;
        let is_part = |letter: &&char| letter.is_ascii_alphanumeric() || **letter == '_';
        let name: String = rest.iter().take_while(is_part).collect();
        let is_name = !name.is_empty() && !name.starts_with(|letter: char| letter.is_ascii_digit());
        is_name.then(|| {
            self.at += name.len();
            name
        })
    }

    fn assignment(&mut self) -> Result<i64, String> {
        let begin = self.at;
        if let Some(name) = self.name() {
            self.blanks();
            const SIGNS: [&str; 11] =
                ["=", "+=", "-=", "*=", "/=", "%=", "<<=", ">>=", "&=", "|=", "^="];
            let is_assigned =
                |sign: &&&str| self.is_next(sign) && !(**sign == "=" && self.is_next("=="));
            if let Some(sign) = SIGNS.iter().find(is_assigned) {
                self.at += sign.len();
                let right = self.deeper(Self::assignment)?;
                let value = match sign.strip_suffix('=') {
                    Some("") | None => right,
                    Some(sign) => {
                        let left = self.variable(&name)?;
                        self.apply(sign, left, right)?
                    }
                };
                if self.runs {
                    self.variables.set(&name, value)?;
                }
                return Ok(value);
            }
        }
        self.at = begin;
        self.choice()
    }

    fn choice(&mut self) -> Result<i64, String> {
        let condition = self.binary(0)?;
        if !self.takes("?") {
            return Ok(condition);
        }
        let runs = self.runs;
        self.runs = runs && condition != 0;
        let yes = self.deeper(Self::assignment)?;
        if !self.takes(":") {
            return Err(self.bad());
        }
        self.runs = runs && condition == 0;
        let no = self.deeper(Self::choice)?;
        self.runs = runs;
        Ok(if condition != 0 { yes } else { no })
    }

    fn binary(&mut self, level: usize) -> Result<i64, String> {
        let Some(signs) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(sign) = signs.iter().find(|sign| self.takes(sign)) {
            let runs = self.runs;
            self.runs = match *sign {
                "||" => runs && left == 0,
                "&&" => runs && left != 0,
                _ => runs,
            };
            let right = self.binary(level + 1)?;
            self.runs = runs;
            left = self.apply(sign, left, right)?;
        }
        Ok(left)
    }

    fn apply(&self, sign: &str, left: i64, right: i64) -> Result<i64, String> {
        let shift = right as u32 & 63;
        Ok(match sign {
            "||" => i64::from(left != 0 || right != 0),
            "&&" => i64::from(left != 0 && right != 0),
            "|" => left | right,
            "^" => left ^ right,
            "&" => left & right,
            "==" => i64::from(left == right),
            "!=" => i64::from(left != right),
            "<=" => i64::from(left <= right),
            ">=" => i64::from(left >= right),
            "<" => i64::from(left < right),
            ">" => i64::from(left > right),
            "<<" => left.wrapping_shl(shift),
            ">>" => left.wrapping_shr(shift),
            "+" => left.wrapping_add(right),
            "-" => left.wrapping_sub(right),
            "*" => left.wrapping_mul(right),
            _ if right == 0 && self.runs => return Err("arithmetic: division by zero".to_owned()),
            _ if right == 0 => 0,
            "/" => left.wrapping_div(right),
            _ => left.wrapping_rem(right),
        })
    }

    fn unary(&mut self) -> Result<i64, String> {
        self.blanks();
        for sign in ["++", "--"] {
            if self.is_next(sign) {
                let begin = self.at;
                self.at += 2;
                if let Some(name) = self.name() {
                    return self.step(&name, sign).map(|(_, after)| after);
                }
                self.at = begin;
            }
        }
        for sign in ['+', '-', '!', '~'] {
            if self.text.get(self.at) == Some(&sign) {
                self.at += 1;
                let value = self.deeper(Self::unary)?;
                return Ok(match sign {
                    '+' => value,
                    '-' => value.wrapping_neg(),
                    '!' => i64::from(value == 0),
                    _ => !value,
                });
            }
        }
        self.primary()
    }

    /// The value before and after.
    fn step(&mut self, name: &str, sign: &str) -> Result<(i64, i64), String> {
        let before = self.variable(name)?;
        let after = before.wrapping_add(if sign == "++" { 1 } else { -1 });
        if self.runs {
            self.variables.set(name, after)?;
        }
        Ok((before, after))
    }

    fn primary(&mut self) -> Result<i64, String> {
        if self.takes("(") {
            let value = self.deeper(Self::assignment)?;
            return if self.takes(")") { Ok(value) } else { Err(self.bad()) };
        }
        if let Some(name) = self.name() {
            self.blanks();
            for sign in ["++", "--"] {
                if self.is_next(sign) {
                    self.at += 2;
                    return self.step(&name, sign).map(|(before, _)| before);
                }
            }
            return self.variable(&name);
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let digits: String = rest.iter().take_while(|l| l.is_ascii_alphanumeric()).collect();
        self.at += digits.len();
        number(&digits).ok_or_else(|| self.bad())
    }

    fn variable(&mut self, name: &str) -> Result<i64, String> {
        let text = self.variables.get(name);
        let text = text.trim();
        match number(text) {
            Some(value) => Ok(value),
            None if text.is_empty() || !self.runs => Ok(0),
            None => nested(text, self.variables, self.depth + 1),
        }
    }
}

/// Decimal, 0x or 0.
fn number(text: &str) -> Option<i64> {
    let parse = |digits: &str, base| u64::from_str_radix(digits, base).ok().map(|n| n as i64);
    if !text.starts_with(|letter: char| letter.is_ascii_digit()) {
        return None;
    }
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return parse(digits, 16);
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => parse(digits, 8),
        _ => parse(text, 10),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    impl Variables for BTreeMap<String, String> {
        fn get(&self, name: &str) -> String {
            self.get(name).cloned().unwrap_or_default()
        }

        fn set(&mut self, name: &str, value: i64) -> Result<(), String> {
            self.insert(name.to_owned(), value.to_string());
            Ok(())
        }
    }

    #[test]
    fn expressions_have_cs_values() {
        let mut variables = BTreeMap::from([("x".to_owned(), "5".to_owned())]);
        for (text, expected) in [
            ("1 + 2 * 3", 7),
            ("(1+2)*3", 9),
            ("7 / 2 - 7 % 4", 0),
            ("x == 5 && x < 6", 1),
            ("x > 1 ? 10 : 20", 10),
            ("0 && (1/0)", 0),
            ("1 || (1/0)", 1),
            ("-x + ~0", -6),
            ("0x10 + 010", 24),
            ("1 << 4 | 1", 17),
            ("y = x * 2", 10),
            ("y += 3", 13),
            ("y++ + ++y", 28),
            ("!0", 1),
            ("", 0),
        ] {
            assert_eq!(value(text, &mut variables), Ok(expected), "{text}");
        }
        for text in ["1 +", "1 / 0", "(1", "1 1", "08", "1 = 2"] {
            assert!(value(text, &mut variables).is_err(), "{text}");
        }
        let mut own = BTreeMap::from([("a".to_owned(), "a".to_owned())]);
        assert!(value("a", &mut own).is_err());
        assert!(value(&"(".repeat(10_000), &mut own).is_err());
        assert!(value(&"-".repeat(10_000), &mut own).is_err());
    }
}
