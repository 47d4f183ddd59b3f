//! xargs.

use super::{Call, Failure, Known, Order, Outcome, number};
use crate::programs;

/// Bytes of one command line, as far as one is made longer.
const LONGEST: usize = 128 << 10;

pub fn xargs(call: &mut Call) -> Outcome {
    let known =
        Known { letters: "0rtn:I:L:P:d:s:", long: &[("null", '0'), ("no-run-if-empty", 'r')] };
    let given = call.options_of(&known, Order::First)?;
    let text = call.input.read_all()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mark = given.value('d').and_then(|text| match text {
        "\\n" => Some('\n'),
        "\\0" => Some('\0'),
        "\\t" => Some('\t'),
        text => text.chars().next(),
    });
    let place = given.value('I');
    let words: Vec<String> = if given.has('0') {
        text.split_terminator('\0').map(str::to_owned).collect()
    } else if let Some(mark) = mark {
        text.trim_end_matches('\n').split(mark).map(str::to_owned).collect()
    } else if place.is_some() || given.has('L') {
        let lines = text.lines().map(|line| line.trim().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    } else {
        split(&text)?
    };
    let command = if given.rest.is_empty() { vec!["echo".to_owned()] } else { given.rest.clone() };
    let mut lines: Vec<Vec<String>> = Vec::new();
    if let Some(place) = place {
        for word in &words {
            lines.push(command.iter().map(|own| own.replace(place, word)).collect());
        }
    } else {
        let most: usize = given.value('n').or(given.value('L')).map_or(Ok(usize::MAX), number)?;
        let (mut own, mut length) = (command.clone(), 0);
        for word in words {
            length += word.len() + 1;
            if own.len() - command.len() >= most || length > LONGEST {
                length = word.len() + 1;
                lines.push(std::mem::replace(&mut own, command.clone()));
            }
            own.push(word);
        }
        if own.len() > command.len() || (lines.is_empty() && !given.has('r')) {
            lines.push(own);
        }
    }
    let mut surroundings = call.surroundings();
    let [input, ..] = &mut surroundings.streams;
    *input = crate::stream::Stream::Null;
    let mut status = 0;
    for argv in lines {
        if given.has('t') {
            call.errors.write(format!("{}\n", argv.join(" ")).as_bytes())?;
        }
        match programs::run(&argv, &surroundings, "xargs") {
            0 => {}
            ended @ (126 | 127 | 141) => return Ok(ended),
            255 => return Err(Failure::Says("exited with status 255; aborting".to_owned(), 124)),
            _ => status = 123,
        }
    }
    Ok(status)
}

/// Words between blanks; quotes and backslashes as in the shell, but simpler.
fn split(text: &str) -> Result<Vec<String>, Failure> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            (letter, Some(_)) => word.get_or_insert_default().push(letter),
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            ('\\', None) => word.get_or_insert_default().extend(letters.next()),
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, None) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(Failure::Says("unmatched quote".to_owned(), 1));
    }
    words.extend(word);
    Ok(words)
}
