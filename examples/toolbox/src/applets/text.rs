//! cat, head, tail, and names: basename, dirname, pwd.

use std::collections::VecDeque;
use std::io::Write;

use super::{Call, Failure, Known, Lines, Order, Outcome, base, each_file, size};

pub fn cat(call: &mut Call) -> Outcome {
    let given = call.options("nvetAu")?;
    let (numbers, mut line) = (given.has('n'), 0);
    each_file(call, &given.rest, |call, _, stream| {
        if numbers {
            let mut lines = Lines::new(stream);
            while let Some(text) = lines.next()? {
                line += 1;
                write!(call.out, "{line:6}\t")?;
                call.out.write_all(&text)?;
            }
            return Ok(());
        }
        let mut bytes = vec![0; 1 << 16];
        loop {
            let count = stream.read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            call.out.write_all(bytes.get(..count).unwrap_or_default())?;
            // Whoever waits at the other end sees it now.
            call.out.flush()?;
        }
    })
}

const ENDS: Known = Known {
    letters: "n:c:qvfs:",
    long: &[("lines", 'n'), ("bytes", 'c'), ("quiet", 'q'), ("follow", 'f')],
};

/// head's and tail's `-5`, written as `-n 5`.
fn old(call: &mut Call) {
    let is_number = |word: &String| {
        word.strip_prefix('-')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    if let Some(first) = call.arguments.first_mut().filter(|word| is_number(word)) {
        *first = format!("-n{}", first.trim_start_matches('-'));
    }
}

fn title(
    call: &mut Call,
    (name, count): (&str, usize),
    is_first: &mut bool,
) -> Result<(), Failure> {
    if count > 1 {
        let between = if *is_first { "" } else { "\n" };
        *is_first = false;
        let name = if name == "-" { "standard input" } else { name };
        writeln!(call.out, "{between}==> {name} <==")?;
    }
    Ok(())
}

pub fn head(call: &mut Call) -> Outcome {
    old(call);
    let given = call.options_of(&ENDS, Order::Any)?;
    let bytes = given.value('c').map(size).transpose()?;
    // `-n -5`: all but the last five.
    let lines = given.value('n').unwrap_or("10");
    let (all_but, lines) = match lines.strip_prefix('-') {
        Some(lines) => (true, size(lines)?),
        None => (false, size(lines)?),
    };
    let (files, mut is_first) = (if given.has('q') { 0 } else { given.rest.len() }, true);
    each_file(call, &given.rest, |call, name, stream| {
        title(call, (name, files), &mut is_first)?;
        if let Some(mut left) = bytes {
            let mut chunk = vec![0; 1 << 16];
            while left > 0 {
                let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let count = stream.read(chunk.get_mut(..most).unwrap_or_default())?;
                if count == 0 {
                    break;
                }
                call.out.write_all(chunk.get(..count).unwrap_or_default())?;
                left -= count as u64;
            }
            return Ok(());
        }
        let mut input = Lines::new(stream);
        let mut held = VecDeque::new();
        let mut count = 0;
        while (all_but || count < lines)
            && let Some(line) = input.next()?
        {
            count += 1;
            if !all_but {
                call.out.write_all(&line)?;
                continue;
            }
            held.push_back(line);
            if held.len() as u64 > lines
                && let Some(line) = held.pop_front()
            {
                call.out.write_all(&line)?;
            }
        }
        Ok(())
    })
}

/// How often a followed file is looked at, in nanoseconds.
const LOOK: u64 = 500_000_000;

pub fn tail(call: &mut Call) -> Outcome {
    old(call);
    let given = call.options_of(&ENDS, Order::Any)?;
    let follow = given.has('f');
    let (unit, count) = match given.value('c') {
        Some(bytes) => ('c', bytes),
        None => ('n', given.value('n').unwrap_or("10")),
    };
    // `+5`: from the fifth on.
    let (from, count) = match count.strip_prefix('+') {
        Some(count) => (true, size(count)?),
        None => (false, size(count.trim_start_matches('-'))?),
    };
    let (files, mut is_first) = (if given.has('q') { 0 } else { given.rest.len() }, true);
    each_file(call, &given.rest, |call, name, stream| {
        title(call, (name, files), &mut is_first)?;
        let mut held: VecDeque<Vec<u8>> = VecDeque::new();
        let mut seen = 0;
        let mut lines = Lines::new(stream.clone());
        if unit == 'c' {
            let all = stream.read_all()?;
            let skip = if from {
                count.saturating_sub(1)
            } else {
                (all.len() as u64).saturating_sub(count)
            };
            call.out.write_all(all.get(skip as usize..).unwrap_or_default())?;
        } else {
            while let Some(line) = lines.next()? {
                seen += 1;
                if from && seen >= count {
                    call.out.write_all(&line)?;
                } else if !from {
                    held.push_back(line);
                    if held.len() as u64 > count {
                        held.pop_front();
                    }
                }
            }
        }
        for line in held {
            call.out.write_all(&line)?;
        }
        while follow {
            call.out.flush()?;
            let more = stream.read_all()?;
            call.out.write_all(&more)?;
            if more.is_empty() {
                crate::sys::sleep(LOOK);
            }
        }
        Ok(())
    })
}

fn usage<T>(text: &str) -> Result<T, Failure> {
    Err(Failure::Says(format!("usage: {text}"), 1))
}

pub fn basename(call: &mut Call) -> Outcome {
    let Some(name) = call.arguments.first() else { return usage("basename NAME [SUFFIX]") };
    let trimmed = name.trim_end_matches('/');
    let own = if trimmed.is_empty() && !name.is_empty() { "/" } else { base(trimmed) };
    let cut = call.arguments.get(1).and_then(|suffix| own.strip_suffix(suffix.as_str()));
    let own = cut.filter(|cut| !cut.is_empty()).unwrap_or(own).to_owned();
    call.out.line(&own)?;
    Ok(0)
}

pub fn dirname(call: &mut Call) -> Outcome {
    let Some(name) = call.arguments.first() else { return usage("dirname NAME") };
    let trimmed = name.trim_end_matches('/');
    let folder = match trimmed.rsplit_once('/') {
        Some((folder, _)) => folder.trim_end_matches('/'),
        None if trimmed.is_empty() && !name.is_empty() => "",
        None => ".",
    };
    let folder = if folder.is_empty() { "/" } else { folder }.to_owned();
    call.out.line(&folder)?;
    Ok(0)
}

pub fn pwd(call: &mut Call) -> Outcome {
    let cwd = call.cwd.clone();
    call.out.line(&cwd)?;
    Ok(0)
}
