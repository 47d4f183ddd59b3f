//! sort, uniq.

use std::cmp::Ordering;
use std::io::Write;

use super::{Call, Failure, Lines, Outcome, each_file, number};
use crate::stream::Stream;
use crate::sys::{self, File, Mode};

/// What lines are compared by.
#[derive(Clone, Default)]
struct Key {
    /// The first and last field, from 1 on; `None`: the whole line.
    fields: Option<(usize, Option<usize>)>,
    options: String,
}

pub fn sort(call: &mut Call) -> Outcome {
    let given = call.options("nruk:t:o:fbhVsmcz")?;
    let all: String = "nrfbhV".chars().filter(|letter| given.has(*letter)).collect();
    let mark = given.value('t').and_then(|text| text.chars().next());
    let mut keys = Vec::new();
    for text in given.values('k') {
        let options: String = text.chars().filter(|l| l.is_ascii_alphabetic()).collect();
        let place = |text: &str| -> Result<usize, Failure> {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            number(&digits)
        };
        let (from, to) = match text.split_once(',') {
            Some((from, to)) => (place(from)?, Some(place(to)?)),
            None => (place(text)?, None),
        };
        let options = if options.is_empty() { all.clone() } else { options };
        keys.push(Key { fields: Some((from, to)), options });
    }
    if keys.is_empty() {
        keys.push(Key { fields: None, options: all.clone() });
    }
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let status = each_file(call, &given.rest, |_, _, stream| {
        let mut input = Lines::new(stream);
        while let Some(mut line) = input.next()? {
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            lines.push(line);
        }
        Ok(())
    })?;
    let by_keys = |a: &Vec<u8>, b: &Vec<u8>| {
        let orders = keys.iter().map(|key| {
            let order = compare(key.part(a, mark), key.part(b, mark), &key.options);
            if key.options.contains('r') { order.reverse() } else { order }
        });
        orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    let unique = given.has('u');
    let full = |a: &Vec<u8>, b: &Vec<u8>| {
        let last = if all.contains('r') { b.cmp(a) } else { a.cmp(b) };
        by_keys(a, b).then(if unique || given.has('s') { Ordering::Equal } else { last })
    };
    if given.has('c') {
        return Ok(u8::from(!lines.is_sorted_by(|a, b| full(a, b).is_le())));
    }
    lines.sort_by(full);
    if unique {
        lines.dedup_by(|a, b| by_keys(a, b).is_eq());
    }
    let file =
        given.value('o').map(|name| File::open(&call.path(name), Mode::Write)).transpose()?;
    let mut text = Vec::new();
    for line in lines {
        text.extend(line);
        text.push(b'\n');
    }
    match file {
        Some(file) => Stream::file(file).write(&text)?,
        None => call.out.write_all(&text)?,
    }
    Ok(status)
}

impl Key {
    fn part<'a>(&self, line: &'a [u8], mark: Option<char>) -> &'a [u8] {
        let Some((from, to)) = self.fields else { return line };
        let mut place = 1;
        let is_mark = |at: usize| match (mark, line.get(at)) {
            (Some(mark), Some(byte)) => u32::from(*byte) == mark as u32,
            // A run of blanks belongs to the field after it.
            (None, Some(byte)) => {
                byte.is_ascii_whitespace()
                    && at > 0
                    && !line.get(at - 1).is_some_and(u8::is_ascii_whitespace)
            }
            (_, None) => false,
        };
        let (mut start, mut end) = (if from <= 1 { Some(0) } else { None }, line.len());
        for at in 0..line.len() {
            if is_mark(at) {
                if Some(place) == to {
                    end = at;
                    break;
                }
                place += 1;
                if place == from {
                    start = Some(if mark.is_some() { at + 1 } else { at });
                }
            }
        }
        line.get(start.unwrap_or(line.len())..end).unwrap_or_default()
    }
}

fn compare(a: &[u8], b: &[u8], options: &str) -> Ordering {
    let (text_a, text_b) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
    let value = |text: &str| {
        let text = text.trim_start();
        let is_part = |(at, letter): &(usize, char)| {
            letter.is_ascii_digit() || *letter == '.' || (*at == 0 && *letter == '-')
        };
        let end = text.char_indices().find(|pair| !is_part(pair)).map_or(text.len(), |(at, _)| at);
        let (digits, unit) = text.split_at(end);
        let scale = match unit.chars().next().filter(|_| options.contains('h')) {
            Some('K' | 'k') => 1e3,
            Some('M') => 1e6,
            Some('G') => 1e9,
            Some('T') => 1e12,
            _ => 1.0,
        };
        digits.parse::<f64>().unwrap_or(0.0) * scale
    };
    if options.contains('n') || options.contains('h') {
        return value(&text_a).total_cmp(&value(&text_b));
    }
    let trimmed = |text: &'_ str| -> String {
        let text = if options.contains('b') { text.trim_start() } else { text };
        if options.contains('f') { text.to_uppercase() } else { text.to_owned() }
    };
    if options.contains('V') {
        return versions(&text_a).cmp(&versions(&text_b));
    }
    match options.contains('f') || options.contains('b') {
        true => trimmed(&text_a).cmp(&trimmed(&text_b)),
        false => a.cmp(b),
    }
}

/// Letters and numbers in turn.
fn versions(text: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let letters = rest.get(..rest.len() - after.len()).unwrap_or_default().to_owned();
        rest = after.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let digits = after.get(..after.len() - rest.len()).unwrap_or_default();
        parts.push((letters, digits.parse().unwrap_or(0)));
    }
    parts
}

pub fn uniq(call: &mut Call) -> Outcome {
    let given = call.options("cdui")?;
    let mut names = given.rest.iter();
    let input = call.open(names.next().map_or("-", String::as_str)).map_err(|e| sys::text(&e))?;
    let mut lines = Lines::new(input);
    let mut held: Option<(Vec<u8>, u64)> = None;
    loop {
        let line = lines.next()?.map(|mut line| {
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            line
        });
        let same =
            |a: &[u8], b: &[u8]| if given.has('i') { a.eq_ignore_ascii_case(b) } else { a == b };
        match (&mut held, line) {
            (Some((before, count)), Some(line)) if same(before, &line) => *count += 1,
            (before, line) => {
                let is_end = line.is_none();
                let done = std::mem::replace(before, line.map(|line| (line, 1)));
                if let Some((text, count)) = done {
                    let shown = (!given.has('d') || count > 1) && (!given.has('u') || count == 1);
                    if shown {
                        if given.has('c') {
                            write!(call.out, "{count:7} ")?;
                        }
                        call.out.write_all(&text)?;
                        call.out.write_all(b"\n")?;
                    }
                }
                if is_end {
                    return Ok(0);
                }
            }
        }
    }
}
