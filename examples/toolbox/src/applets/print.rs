//! echo, printf, true, false.

use std::io::Write;

use super::{Call, Failure, Outcome};

pub fn yes(_: &mut Call) -> Outcome {
    Ok(0)
}

pub fn no(_: &mut Call) -> Outcome {
    Ok(1)
}

pub fn echo(call: &mut Call) -> Outcome {
    let (mut newline, mut escapes, mut used) = (true, false, 0);
    for word in &call.arguments {
        let letters = word.strip_prefix('-').unwrap_or_default();
        if letters.is_empty() || !letters.chars().all(|letter| matches!(letter, 'n' | 'e' | 'E')) {
            break;
        }
        used += 1;
        newline &= !letters.contains('n');
        escapes = letters
            .rfind(['e', 'E'])
            .map_or(escapes, |at| letters.get(at..).is_some_and(|own| own.starts_with('e')));
    }
    let text = call.arguments.get(used..).unwrap_or_default().join(" ");
    if escapes {
        let (bytes, ends) = unescape(&text, Octal::WithZero);
        call.out.write_all(&bytes)?;
        newline &= !ends;
    } else {
        call.out.write_all(text.as_bytes())?;
    }
    if newline {
        call.out.write_all(b"\n")?;
    }
    Ok(0)
}

/// How octal numbers begin after a backslash.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Octal {
    WithZero,
    Plain,
}

/// Takes backslashes for what they mean; also tells whether `\c` ended the text.
fn unescape(text: &str, octal: Octal) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let mut own = [0; 4];
        if letter != '\\' {
            bytes.extend_from_slice(letter.encode_utf8(&mut own).as_bytes());
            continue;
        }
        let Some(next) = letters.next() else {
            bytes.push(b'\\');
            break;
        };
        let mut digits = |base: u32, most: usize, first: Option<char>| {
            let mut value = first.and_then(|digit| digit.to_digit(base)).unwrap_or(0);
            let mut count = 0;
            while count < most
                && let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(base))
            {
                value = value * base + digit;
                letters.next();
                count += 1;
            }
            (value & 0xff) as u8
        };
        bytes.push(match next {
            'a' => 7,
            'b' => 8,
            'c' => return (bytes, true),
            'e' => 27,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            '0' => digits(8, 3, None),
            'x' => digits(16, 2, None),
            '1'..='7' if octal == Octal::Plain => digits(8, 2, Some(next)),
            '"' if octal == Octal::Plain => b'"',
            other => {
                bytes.push(b'\\');
                bytes.extend_from_slice(other.encode_utf8(&mut own).as_bytes());
                continue;
            }
        });
    }
    (bytes, false)
}

pub fn printf(call: &mut Call) -> Outcome {
    let Some((format, arguments)) = call.arguments.split_first() else {
        return Err(Failure::Says("usage: printf FORMAT [ARGUMENT...]".to_owned(), 2));
    };
    let (format, mut arguments) = (format.clone(), Vec::from(arguments).into_iter().peekable());
    let mut status = 0;
    loop {
        let before = arguments.len();
        if once(call, &format, &mut arguments, &mut status)? {
            return Ok(status);
        }
        if arguments.len() == 0 || arguments.len() == before {
            return Ok(status);
        }
    }
}

type Arguments = std::iter::Peekable<std::vec::IntoIter<String>>;

/// Goes through the format once; `true`: `\c` ended it all.
fn once(
    call: &mut Call,
    format: &str,
    arguments: &mut Arguments,
    status: &mut u8,
) -> Result<bool, Failure> {
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        let (bytes, ends) = unescape(before, Octal::Plain);
        call.out.write_all(&bytes)?;
        if ends {
            return Ok(true);
        }
        let mut own = after.get(1..).unwrap_or_default();
        if let Some(next) = own.strip_prefix('%') {
            call.out.write_all(b"%")?;
            rest = next;
            continue;
        }
        let flags = prefix(&mut own, "-+ #0");
        let width = count(&mut own, arguments);
        let precision = own.strip_prefix('.').map(|next| {
            own = next;
            count(&mut own, arguments).unwrap_or(0).max(0) as usize
        });
        prefix(&mut own, "hlLqjzt");
        let Some(kind) = own.chars().next() else {
            return Err(Failure::Says(format!("{format}: invalid format"), 1));
        };
        rest = own.get(kind.len_utf8()..).unwrap_or_default();
        let argument = arguments.next();
        let text = argument.clone().unwrap_or_default();
        let mut bytes = match kind {
            's' => text.into_bytes(),
            'b' => {
                let (bytes, ends) = unescape(&text, Octal::WithZero);
                if ends {
                    call.out.write_all(&bytes)?;
                    return Ok(true);
                }
                bytes
            }
            'c' => text.chars().take(1).collect::<String>().into_bytes(),
            'd' | 'i' | 'u' | 'o' | 'x' | 'X' => {
                let value = integer(&text).unwrap_or_else(|| {
                    call.complain(&format!("invalid number '{text}'"));
                    *status = 1;
                    0
                });
                whole(value, kind, (&flags, precision)).into_bytes()
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let value =
                    if text.is_empty() { Some(0.0) } else { text.trim().parse::<f64>().ok() };
                let value = value.unwrap_or_else(|| {
                    call.complain(&format!("invalid number '{text}'"));
                    *status = 1;
                    0.0
                });
                fraction(value, kind, (&flags, precision)).into_bytes()
            }
            _ => return Err(Failure::Says(format!("%{kind}: invalid format"), 1)),
        };
        if matches!(kind, 's' | 'b')
            && let Some(precision) = precision
        {
            bytes.truncate(precision);
        }
        let width = width.unwrap_or(0);
        let left = flags.contains('-') || width < 0;
        let room = (width.unsigned_abs() as usize).min(1 << 20).saturating_sub(bytes.len());
        let zeros = flags.contains('0') && !left && !matches!(kind, 's' | 'b' | 'c');
        if zeros {
            let sign = usize::from(matches!(bytes.first(), Some(b'-' | b'+' | b' ')));
            let tail = bytes.split_off(sign);
            bytes.extend(std::iter::repeat_n(b'0', room));
            bytes.extend(tail);
        } else if left {
            bytes.extend(std::iter::repeat_n(b' ', room));
        } else {
            call.out.write_all(&vec![b' '; room])?;
        }
        call.out.write_all(&bytes)?;
    }
    let (bytes, ends) = unescape(rest, Octal::Plain);
    call.out.write_all(&bytes)?;
    Ok(ends)
}

/// Takes leading letters of these.
fn prefix(text: &mut &str, letters: &str) -> String {
    let rest = text.trim_start_matches(|letter| letters.contains(letter));
    let taken = text.get(..text.len() - rest.len()).unwrap_or_default().to_owned();
    *text = rest;
    taken
}

/// A width or precision: digits, or `*` for an argument.
fn count(text: &mut &str, arguments: &mut Arguments) -> Option<i64> {
    if let Some(rest) = text.strip_prefix('*') {
        *text = rest;
        return arguments.next().and_then(|argument| argument.parse().ok());
    }
    prefix(text, "0123456789").parse().ok()
}

fn integer(text: &str) -> Option<i128> {
    let text = text.trim();
    if let Some(letter) = text.strip_prefix(['"', '\'']) {
        return Some(letter.chars().next().map_or(0, |letter| letter as i128));
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (base, digits) = match digits {
        "" if text.is_empty() => return Some(0),
        hex if hex.starts_with("0x") || hex.starts_with("0X") => (16, hex.get(2..)?),
        octal if octal.len() > 1 && octal.starts_with('0') => (8, octal.get(1..)?),
        decimal => (10, decimal),
    };
    u64::from_str_radix(digits, base).ok().map(|value| sign * i128::from(value))
}

fn signed(text: String, negative: bool, flags: &str) -> String {
    let sign = match negative {
        true => "-",
        false if flags.contains('+') => "+",
        false if flags.contains(' ') => " ",
        false => "",
    };
    format!("{sign}{text}")
}

fn whole(value: i128, kind: char, (flags, precision): (&str, Option<usize>)) -> String {
    let bits = value as u64;
    let digits = match kind {
        'o' => format!("{bits:o}"),
        'x' => format!("{bits:x}"),
        'X' => format!("{bits:X}"),
        'u' => bits.to_string(),
        _ => value.unsigned_abs().to_string(),
    };
    let digits = format!("{digits:0>width$}", width = precision.unwrap_or(0).min(4096));
    match kind {
        'd' | 'i' => signed(digits, value < 0, flags),
        'x' | 'X' if flags.contains('#') && value != 0 => format!("0{kind}{digits}"),
        'o' if flags.contains('#') => format!("0{digits}"),
        _ => digits,
    }
}

fn fraction(value: f64, kind: char, (flags, precision): (&str, Option<usize>)) -> String {
    let (places, size) = (precision.unwrap_or(6).min(100), value.abs());
    let exponential = |places: usize| {
        let text = format!("{size:.places$e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        (format!("{digits}e{sign}{:02}", exponent.abs()), exponent)
    };
    let text = match kind.to_ascii_lowercase() {
        'f' => format!("{size:.places$}"),
        'e' => exponential(places).0,
        _ => {
            let digits = places.max(1);
            let (text, exponent) = exponential(digits - 1);
            let cut = |text: &str| match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text.to_owned(),
            };
            if exponent < -4 || exponent >= digits as i32 {
                let (digits, rest) = text.split_once('e').unwrap_or((&text, "+00"));
                format!("{}e{rest}", cut(digits))
            } else {
                let places = (digits as i32 - 1 - exponent).max(0) as usize;
                cut(&format!("{size:.places$}"))
            }
        }
    };
    let text = if kind.is_ascii_uppercase() { text.to_uppercase() } else { text };
    signed(text, value.is_sign_negative(), flags)
}
