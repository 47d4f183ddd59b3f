//! `read` and `getopts`: what a script is given.

use super::super::{Shell, syntax};
use super::Told;
use crate::sys;

pub fn read(shell: &mut Shell, arguments: &[String]) -> Told {
    let mut raw = false;
    let mut names = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-r" => raw = true,
            "-p" => {
                let prompt = words.next().cloned().unwrap_or_default();
                let _ = shell.stream(2).write(prompt.as_bytes());
            }
            option if option.starts_with('-') && names.is_empty() => {
                return Err(format!("{option}: no such option"));
            }
            name if syntax::is_name(name) => names.push(name.to_owned()),
            name => return Err(format!("{name}: bad variable name")),
        }
    }
    if names.is_empty() {
        names.push("REPLY".to_owned());
    }
    // A letter and whether a backslash stood before it.
    let mut letters: Vec<(char, bool)> = Vec::new();
    let mut status;
    'lines: loop {
        let line = shell.stream(0).read_line().map_err(|error| sys::text(&error))?;
        status = u8::from(!line.ends_with(b"\n"));
        let text = String::from_utf8_lossy(&line);
        let mut own = text.strip_suffix('\n').unwrap_or(&text).chars();
        while let Some(letter) = own.next() {
            match (letter, raw) {
                ('\\', false) => match own.next() {
                    Some(letter) => letters.push((letter, true)),
                    None if status == 0 => continue 'lines,
                    None => {}
                },
                (letter, _) => letters.push((letter, false)),
            }
        }
        break;
    }
    let ifs = shell.get("IFS").unwrap_or(" \t\n").to_owned();
    let is_mark = |(letter, escaped): &(char, bool)| !escaped && ifs.contains(*letter);
    let is_blank = |pair: &(char, bool)| is_mark(pair) && pair.0.is_whitespace();
    let mut rest: &[(char, bool)] = &letters;
    fn trim<'a>(
        mut rest: &'a [(char, bool)],
        is_blank: &dyn Fn(&(char, bool)) -> bool,
    ) -> &'a [(char, bool)] {
        while let [first, after @ ..] = rest
            && is_blank(first)
        {
            rest = after;
        }
        rest
    }
    rest = trim(rest, &is_blank);
    let last = names.len() - 1;
    for (number, name) in names.iter().enumerate() {
        let own = if number == last {
            let mut own = rest;
            while let [before @ .., end] = own
                && is_blank(end)
            {
                own = before;
            }
            own
        } else {
            let end = rest.iter().position(is_mark).unwrap_or(rest.len());
            let (own, after) = rest.split_at(end);
            rest = trim(after, &is_blank);
            if let [first, after @ ..] = rest
                && is_mark(first)
            {
                rest = trim(after, &is_blank);
            }
            own
        };
        shell.set(name, own.iter().map(|(letter, _)| *letter).collect())?;
    }
    Ok(status)
}

pub fn getopts(shell: &mut Shell, arguments: &[String]) -> Told {
    let [letters, name, rest @ ..] = arguments else {
        return Err("usage: getopts LETTERS NAME [ARGUMENT...]".to_owned());
    };
    let words = if rest.is_empty() { shell.arguments.clone() } else { rest.to_vec() };
    // Where in an argument of several letters it is, is in the part after the dot.
    let place = shell.get("OPTIND").unwrap_or("1").to_owned();
    let inner: usize = shell.get("_OPTPOS").and_then(|text| text.parse().ok()).unwrap_or(1);
    let index: usize = place.parse().unwrap_or(1);
    shell.variables.remove("OPTARG");
    let word = words.get(index.saturating_sub(1)).cloned().unwrap_or_default();
    let own: Vec<char> = word.chars().collect();
    if own.first() != Some(&'-') || own.len() < 2 || word == "--" {
        let next = if word == "--" { index + 1 } else { index };
        shell.set("OPTIND", next.to_string())?;
        shell.set(name, "?".to_owned())?;
        return Ok(1);
    }
    let letter = own.get(inner).copied().unwrap_or('?');
    let silent = letters.starts_with(':');
    let known = letters.trim_start_matches(':').find(letter).filter(|_| letter != ':');
    let takes = known.is_some_and(|at| {
        letters
            .trim_start_matches(':')
            .get(at + letter.len_utf8()..)
            .is_some_and(|rest| rest.starts_with(':'))
    });
    let (mut next, mut position) = (index, inner + 1);
    if position >= own.len() {
        (next, position) = (index + 1, 1);
    }
    let mut found = letter.to_string();
    if known.is_none() {
        match silent {
            true => shell.set("OPTARG", found)?,
            false => shell.complain(&format!("Illegal option -{letter}")),
        }
        found = "?".to_owned();
    } else if takes {
        let attached: String = own.get(inner + 1..).unwrap_or_default().iter().collect();
        let value =
            if attached.is_empty() { words.get(index).cloned() } else { Some(attached.clone()) };
        (next, position) = (index + if attached.is_empty() { 2 } else { 1 }, 1);
        match value {
            Some(value) => shell.set("OPTARG", value)?,
            None if silent => {
                shell.set("OPTARG", found)?;
                found = ":".to_owned();
            }
            None => {
                shell.complain(&format!("No arg for -{letter} option"));
                found = "?".to_owned();
            }
        }
    }
    shell.set("OPTIND", next.to_string())?;
    shell.set("_OPTPOS", position.to_string())?;
    shell.set(name, found)?;
    Ok(0)
}
