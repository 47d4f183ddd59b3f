//! cut, tr, tee, wc.

use std::io::Write;

use super::{Call, Failure, Known, Lines, Order, Outcome, each_file, number};
use crate::shell;
use crate::stream::Stream;
use crate::sys::{File, Mode};

/// Numbers from one to another, both included.
type Range = (usize, usize);

fn ranges(text: &str) -> Result<Vec<Range>, Failure> {
    text.split(',')
        .map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let from = if from.is_empty() { 1 } else { number(from)? };
            let to = if to.is_empty() { usize::MAX } else { number(to)? };
            match from == 0 || to < from {
                true => Err(Failure::Says(format!("invalid range '{part}'"), 1)),
                false => Ok((from, to)),
            }
        })
        .collect()
}

pub fn cut(call: &mut Call) -> Outcome {
    let given = call.options("b:c:f:d:sn")?;
    let text = ['b', 'c', 'f'].into_iter().find_map(|letter| given.value(letter));
    let wanted =
        ranges(text.ok_or_else(|| "expected a list of bytes, characters, or fields".to_owned())?)?;
    let is_in = |place: usize| wanted.iter().any(|(from, to)| (*from..=*to).contains(&place));
    let mark = given.value('d').unwrap_or("\t").to_owned();
    let (fields, only_marked) = (given.has('f'), given.has('s'));
    let bytes = given.has('b');
    each_file(call, &given.rest, |call, _, stream| {
        let mut lines = Lines::new(stream);
        while let Some(line) = lines.next()? {
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            if bytes {
                let own = (1..).zip(line).filter(|(place, _)| is_in(*place)).map(|(_, byte)| *byte);
                let own: Vec<u8> = own.collect();
                call.out.write_all(&own)?;
                call.out.write_all(b"\n")?;
                continue;
            }
            let text = String::from_utf8_lossy(line);
            let own: String = if fields {
                if !text.contains(&mark) {
                    if !only_marked {
                        call.out.line(&text)?;
                    }
                    continue;
                }
                let fields = (1..).zip(text.split(mark.as_str()));
                let own: Vec<&str> = fields.filter(|(at, _)| is_in(*at)).map(|(_, f)| f).collect();
                own.join(&mark)
            } else {
                (1..).zip(text.chars()).filter(|(place, _)| is_in(*place)).map(|(_, l)| l).collect()
            };
            call.out.line(&own)?;
        }
        Ok(())
    })
}

/// The bytes of tr's sets: ranges, classes, escapes.
fn set(text: &str) -> Vec<u8> {
    let mut letters = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if let Some((name, after)) = rest.strip_prefix("[:").and_then(|r| r.split_once(":]")) {
            letters.extend((0..=127u8).filter(|byte| shell::class(name, char::from(*byte))));
            rest = after;
            continue;
        }
        rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        let mut own = [0; 4];
        if letter != '\\' {
            letters.extend_from_slice(letter.encode_utf8(&mut own).as_bytes());
        } else {
            let octal = rest.len() - rest.trim_start_matches(|l| matches!(l, '0'..='7')).len();
            if octal > 0 {
                let (digits, after) = rest.split_at(octal.min(3));
                letters
                    .push(u32::from_str_radix(digits, 8).map_or(0, |value| (value & 0xff) as u8));
                rest = after;
            } else {
                let next = rest.chars().next().unwrap_or('\\');
                rest = rest.get(next.len_utf8()..).unwrap_or_default();
                match next {
                    'n' => letters.push(b'\n'),
                    't' => letters.push(b'\t'),
                    'r' => letters.push(b'\r'),
                    other => letters.extend_from_slice(other.encode_utf8(&mut own).as_bytes()),
                }
            }
        }
        let to = rest.strip_prefix('-').and_then(|after| after.chars().next());
        if let (Some(to), Some(from)) = (to.filter(char::is_ascii), letters.last().copied()) {
            letters.extend((from..=to as u8).skip(1));
            rest = rest.get(2..).unwrap_or_default();
        }
    }
    letters
}

pub fn tr(call: &mut Call) -> Outcome {
    let given = call.options_of(&Known { letters: "cCdst", long: &[] }, Order::Any)?;
    let (deletes, squeezes) = (given.has('d'), given.has('s'));
    let mut sets = given.rest.iter().map(|text| set(text));
    let first = sets.next().ok_or_else(|| "missing operand".to_owned())?;
    let second = sets.next();
    let complement = given.has('c') || given.has('C');
    let is_in = |byte: u8| first.contains(&byte) != complement;
    let mut map: Vec<u8> = (0..=255).collect();
    if let Some(to) = second.as_ref().filter(|to| !deletes && !to.is_empty()) {
        let own: Vec<u8> = match complement {
            true => (0..=255).filter(|byte| is_in(*byte)).collect(),
            false => first.clone(),
        };
        for (place, from) in own.iter().enumerate() {
            if let (Some(slot), Some(byte)) =
                (map.get_mut(usize::from(*from)), to.get(place).or(to.last()))
            {
                *slot = *byte;
            }
        }
    } else if !deletes && !squeezes {
        return Err("missing operand".to_owned().into());
    }
    let squeezed = |byte: u8| match &second {
        Some(second) => second.contains(&byte),
        None => is_in(byte),
    };
    let (mut bytes, mut last) = (vec![0; 1 << 16], None);
    loop {
        let count = call.input.read(&mut bytes)?;
        if count == 0 {
            return Ok(0);
        }
        let mut out = Vec::with_capacity(count);
        for byte in bytes.get(..count).unwrap_or_default() {
            if deletes && is_in(*byte) {
                continue;
            }
            let to = map.get(usize::from(*byte)).copied().unwrap_or(*byte);
            if squeezes && last == Some(to) && squeezed(to) {
                continue;
            }
            last = Some(to);
            out.push(to);
        }
        call.out.write_all(&out)?;
        call.out.flush()?;
    }
}

pub fn tee(call: &mut Call) -> Outcome {
    let given = call.options("ai")?;
    let mode = if given.has('a') { Mode::Append } else { Mode::Write };
    let (mut files, mut status) = (Vec::new(), 0);
    for name in &given.rest {
        match File::open(&call.path(name), mode) {
            Ok(file) => files.push((name, Stream::file(file))),
            Err(error) => {
                call.blame(name, &error);
                status = 1;
            }
        }
    }
    let mut bytes = vec![0; 1 << 16];
    loop {
        let count = call.input.read(&mut bytes)?;
        if count == 0 {
            return Ok(status);
        }
        let own = bytes.get(..count).unwrap_or_default();
        call.out.write_all(own)?;
        call.out.flush()?;
        for (name, file) in &files {
            if let Err(error) = file.write(own) {
                call.blame(name, &error);
                status = 1;
            }
        }
    }
}

pub fn wc(call: &mut Call) -> Outcome {
    let given = call.options("lwcmL")?;
    let all = !"lwcmL".chars().any(|letter| given.has(letter));
    let columns: Vec<char> =
        if all { vec!['l', 'w', 'c'] } else { "lwcmL".chars().filter(|l| given.has(*l)).collect() };
    let line = |counts: &[u64; 5], name: &str| {
        let own = columns.iter().map(|column| {
            "lwcmL".find(*column).and_then(|at| counts.get(at)).copied().unwrap_or(0)
        });
        let own: Vec<String> = match columns.len() {
            1 => own.map(|count| count.to_string()).collect(),
            _ => own.map(|count| format!("{count:7}")).collect(),
        };
        let name = if name.is_empty() { String::new() } else { format!(" {name}") };
        format!("{}{name}", own.join(" "))
    };
    let mut total = [0u64; 5];
    let named = !given.rest.is_empty();
    let status = each_file(call, &given.rest, |call, name, stream| {
        let [mut newlines, mut words, mut count, mut letters, mut longest] = [0u64; 5];
        let (mut in_word, mut width) = (false, 0);
        let mut bytes = vec![0; 1 << 16];
        loop {
            let read = stream.read(&mut bytes)?;
            if read == 0 {
                break;
            }
            count += read as u64;
            for byte in bytes.get(..read).unwrap_or_default() {
                letters += u64::from(byte & 0xc0 != 0x80);
                if *byte == b'\n' {
                    newlines += 1;
                    width = 0;
                } else {
                    width += u64::from(byte & 0xc0 != 0x80);
                    longest = longest.max(width);
                }
                let is_space = byte.is_ascii_whitespace();
                words += u64::from(!is_space && !in_word);
                in_word = !is_space;
            }
        }
        let own = [newlines, words, count, letters, longest];
        for (sum, more) in total.iter_mut().zip(own) {
            *sum += more;
        }
        let text = line(&own, if named { name } else { "" });
        call.out.line(&text)?;
        Ok(())
    })?;
    if given.rest.len() > 1 {
        let text = line(&total, "total");
        call.out.line(&text)?;
    }
    Ok(status)
}
