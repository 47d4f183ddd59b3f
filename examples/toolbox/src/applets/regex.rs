//! POSIX's regular expressions in the words of the crate that matches them.

use regex_lite::{Regex, RegexBuilder};

use super::Failure;

/// Which signs mean something without a backslash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    Basic,
    Extended,
    Fixed,
}

/// Whether capitals are told from small letters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Counts,
    Ignored,
}

pub fn basic(text: &str) -> Result<Regex, Failure> {
    build(&translate(text, Syntax::Basic)?, Case::Counts)
}

pub fn build(text: &str, case: Case) -> Result<Regex, Failure> {
    let mut builder = RegexBuilder::new(text);
    builder.case_insensitive(case == Case::Ignored).multi_line(false).nest_limit(60);
    builder.build().map_err(|error| Failure::Says(format!("bad regex: {error}"), 2))
}

/// The expression as the crate reads it.
pub fn translate(text: &str, syntax: Syntax) -> Result<String, Failure> {
    if syntax == Syntax::Fixed {
        return Ok(regex_lite::escape(text));
    }
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    // Where `*` is a letter and `^` an anchor.
    let mut begins = true;
    while let Some(letter) = letters.get(at).copied() {
        at += 1;
        let is_basic = syntax == Syntax::Basic;
        let next = letters.get(at).copied();
        match letter {
            '\\' => {
                at += 1;
                match next {
                    None => {
                        return Err(Failure::Says("bad regex: trailing backslash".to_owned(), 2));
                    }
                    Some('1'..='9') => {
                        return Err(Failure::Says(
                            "bad regex: back-references are not supported".to_owned(),
                            2,
                        ));
                    }
                    Some(sign @ ('(' | '|')) if is_basic => {
                        out.push(sign);
                        begins = true;
                        continue;
                    }
                    Some(sign @ (')' | '{' | '}' | '+' | '?')) if is_basic => out.push(sign),
                    Some('<' | '>') => out.push_str("\\b"),
                    Some(class @ ('w' | 'W' | 's' | 'S' | 'b' | 'B' | 'n' | 't' | 'd')) => {
                        out.push('\\');
                        out.push(class);
                    }
                    Some(other) => out.push_str(&regex_lite::escape(&other.to_string())),
                }
                begins = false;
                continue;
            }
            '[' => {
                let end = bracket(&letters, at);
                let Some(end) = end else {
                    return Err(Failure::Says("bad regex: unmatched [".to_owned(), 2));
                };
                out.push('[');
                for inner in letters.get(at..end).unwrap_or_default() {
                    // These mean more to the crate than to POSIX.
                    if matches!(inner, '\\' | '&' | '~') {
                        out.push('\\');
                    }
                    out.push(*inner);
                }
                out.push(']');
                at = end + 1;
            }
            '*' if begins => out.push_str("\\*"),
            '^' if is_basic && !begins => out.push_str("\\^"),
            '^' => {
                out.push('^');
                continue;
            }
            '$' if is_basic => {
                let is_end = next.is_none()
                    || (next == Some('\\') && matches!(letters.get(at + 1), Some(')' | '|')));
                out.push_str(if is_end { "$" } else { "\\$" });
            }
            '(' | '|' if !is_basic => {
                out.push(letter);
                begins = true;
                continue;
            }
            '(' | ')' | '{' | '}' | '+' | '?' | '|' if is_basic => {
                out.push('\\');
                out.push(letter);
            }
            _ => out.push(letter),
        }
        begins = false;
    }
    Ok(out)
}

/// Where the `]` of a set lies whose content begins at `at`.
fn bracket(letters: &[char], at: usize) -> Option<usize> {
    let mut end = at + usize::from(letters.get(at) == Some(&'^'));
    // The first one is a letter.
    end += usize::from(letters.get(end) == Some(&']'));
    loop {
        match (letters.get(end)?, letters.get(end + 1)) {
            (']', _) => return Some(end),
            ('[', Some(':')) => {
                let rest = letters.get(end + 2..)?;
                end += 4 + rest.windows(2).position(|pair| pair == [':', ']'])?;
            }
            _ => end += 1,
        }
    }
}

/// A line as text. What is no UTF-8 becomes one letter for each byte, which [`bytes`] undoes.
pub fn text(line: &[u8]) -> (String, bool) {
    match std::str::from_utf8(line) {
        Ok(text) => (text.to_owned(), true),
        Err(_) => (line.iter().map(|byte| char::from(*byte)).collect(), false),
    }
}

pub fn bytes(text: &str, is_utf8: bool) -> Vec<u8> {
    match is_utf8 {
        true => text.as_bytes().to_vec(),
        false => text.chars().map(|letter| u8::try_from(letter as u32).unwrap_or(b'?')).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, syntax: Syntax, text: &str) -> bool {
        let Ok(own) = translate(pattern, syntax) else { panic!("{pattern}") };
        let Ok(own) = build(&own, Case::Counts) else { panic!("{own}") };
        own.is_match(text)
    }

    #[test]
    fn basic_and_extended_expressions_mean_what_posix_says() {
        for (pattern, text, basic, extended) in [
            ("a+b", "a+b", true, false),
            ("a+b", "aab", false, true),
            (r"a\+b", "aab", true, false),
            ("(a)", "(a)", true, true),
            (r"\(a\)\{2\}", "aa", true, false),
            ("a|b", "b", false, true),
            ("*a", "*a", true, true),
            ("a^b", "a^b", true, false),
            ("a$b", "a$b", true, false),
            ("^a.c$", "abc", true, true),
            ("[[:digit:]]x", "1x", true, true),
            (r"[\.]", "\\", true, true),
            ("[]a]", "]", true, true),
        ] {
            assert_eq!(fits(pattern, Syntax::Basic, text), basic, "basic {pattern} {text}");
            assert_eq!(
                fits(pattern, Syntax::Extended, text),
                extended,
                "extended {pattern} {text}"
            );
        }
        assert!(fits("a.b*", Syntax::Fixed, "xa.b*x"));
        assert!(!fits("a.b", Syntax::Fixed, "axb"));
    }
}
