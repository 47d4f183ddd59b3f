//! Patterns of file names, `case` and `${x#...}`: `*`, `?`, `[...]`.

/// A letter of a word that was expanded, and whether quotes keep it from meaning anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    pub letter: char,
    pub quoted: bool,
}

pub fn letters(text: &str, quoted: bool) -> Vec<Letter> {
    text.chars().map(|letter| Letter { letter, quoted }).collect()
}

pub fn text(letters: &[Letter]) -> String {
    letters.iter().map(|letter| letter.letter).collect()
}

/// Whether a word has to be matched with anything at all.
pub fn is_pattern(pattern: &[Letter]) -> bool {
    pattern.iter().any(|l| !l.quoted && matches!(l.letter, '*' | '?' | '['))
}

/// Whether all of `text` is what the pattern says.
pub fn matches(pattern: &[Letter], text: &[char]) -> bool {
    let (mut at, mut in_text) = (0, 0);
    // Where the last star is, and what it ate so far: nothing before it is ever tried again.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(at) {
            Some(Letter { letter: '*', quoted: false }) => {
                star = Some((at, in_text));
                at += 1;
                continue;
            }
            Some(_) => text.get(in_text).and_then(|letter| one(pattern, at, *letter)),
            None if in_text == text.len() => return true,
            None => None,
        };
        match (step, star) {
            (Some(next), _) => {
                at = next;
                in_text += 1;
            }
            (None, Some((place, eaten))) if eaten < text.len() => {
                star = Some((place, eaten + 1));
                at = place + 1;
                in_text = eaten + 1;
            }
            (None, _) => return false,
        }
    }
}

/// Matches one letter with what is at `at`, and gives where the pattern goes on.
fn one(pattern: &[Letter], at: usize, letter: char) -> Option<usize> {
    let own = pattern.get(at)?;
    match (own.letter, own.quoted) {
        ('?', false) => Some(at + 1),
        ('[', false) => match set(pattern, at + 1, letter) {
            Some((true, next)) => Some(next),
            Some((false, _)) => None,
            // Not closed: a letter like others.
            None => (letter == '[').then_some(at + 1),
        },
        (own, _) => (own == letter).then_some(at + 1),
    }
}

/// Whether a letter is in the set that begins here, and where it ends; `None`: it never does.
fn set(pattern: &[Letter], begin: usize, letter: char) -> Option<(bool, usize)> {
    let plain =
        |at: usize, wanted: char| pattern.get(at).is_some_and(|l| !l.quoted && l.letter == wanted);
    let negated = plain(begin, '!') || plain(begin, '^');
    let first = begin + usize::from(negated);
    let (mut at, mut is_in) = (first, false);
    loop {
        if at > first && plain(at, ']') {
            return Some((is_in != negated, at + 1));
        }
        if plain(at, '[') && plain(at + 1, ':') {
            let rest = pattern.get(at + 2..).unwrap_or_default();
            if let Some(end) = rest
                .windows(2)
                .position(|w| matches!(w, [a, b] if a.letter == ':' && b.letter == ']'))
            {
                is_in |= class(&text(rest.get(..end).unwrap_or_default()), letter);
                at += end + 4;
                continue;
            }
        }
        let from = pattern.get(at)?.letter;
        let to =
            pattern.get(at + 2).filter(|l| plain(at + 1, '-') && (l.quoted || l.letter != ']'));
        is_in |= match to {
            Some(to) => (from..=to.letter).contains(&letter),
            None => from == letter,
        };
        at += if to.is_some() { 3 } else { 1 };
    }
}

pub fn class(name: &str, letter: char) -> bool {
    match name {
        "alpha" => letter.is_alphabetic(),
        "digit" => letter.is_ascii_digit(),
        "alnum" => letter.is_alphanumeric(),
        "upper" => letter.is_uppercase(),
        "lower" => letter.is_lowercase(),
        "space" => letter.is_whitespace(),
        "blank" => matches!(letter, ' ' | '\t'),
        "punct" => letter.is_ascii_punctuation(),
        "print" => !letter.is_control(),
        "graph" => !letter.is_control() && !letter.is_whitespace(),
        "cntrl" => letter.is_control(),
        "xdigit" => letter.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        matches(&letters(pattern, false), &text.chars().collect::<Vec<_>>())
    }

    #[test]
    fn patterns_match_as_the_shell_says() {
        for (pattern, text, is) in [
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?", "é", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[[:digit:]_]*", "_9", true),
            ("[a", "[a", true),
            ("[a-]", "-", true),
            ("*.txt", "a.txt.gz", false),
        ] {
            assert_eq!(fits(pattern, text), is, "{pattern} {text}");
        }
        assert!(!matches(&letters("*", true), &['x']));
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!fits(&"*a".repeat(50), &"a".repeat(5000).replace("aaaaa", "aaaab")[..49]));
    }
}
