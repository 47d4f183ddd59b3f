//! seq, yes.

use std::io::Write;

use super::{Call, Failure, Outcome};

pub fn seq(call: &mut Call) -> Outcome {
    let (mut between, mut wide, mut used) = ("\n".to_owned(), false, 0);
    while let Some(word) = call.arguments.get(used) {
        match word.as_str() {
            "-w" => wide = true,
            "-s" => {
                used += 1;
                between = call.arguments.get(used).cloned().unwrap_or_default();
            }
            _ => break,
        }
        used += 1;
    }
    let words = call.arguments.get(used..).unwrap_or_default();
    let bad = |text: &str| Failure::Says(format!("invalid number '{text}'"), 1);
    let numbers: Vec<f64> = words
        .iter()
        .map(|text| text.parse::<f64>().map_err(|_| bad(text)))
        .collect::<Result<_, _>>()?;
    let (first, step, last) = match numbers.as_slice() {
        [last] => (1.0, 1.0, *last),
        [first, last] => (*first, 1.0, *last),
        [first, step, last] => (*first, *step, *last),
        _ => {
            return Err(Failure::Says("usage: seq [-w] [-s SEP] [FIRST [INC]] LAST".to_owned(), 1));
        }
    };
    if step == 0.0 || ![first, step, last].iter().all(|number| number.is_finite()) {
        return Err(Failure::Says("the step is zero or a number is not finite".to_owned(), 1));
    }
    let places = words.iter().map(|text| text.split_once('.').map_or(0, |(_, after)| after.len()));
    let places = places.max().unwrap_or(0);
    let width = if wide {
        [first, last].map(|n| format!("{n:.places$}").len()).into_iter().max()
    } else {
        None
    };
    let width = width.unwrap_or(0);
    let mut count = 0.0;
    loop {
        let value = first + count * step;
        // A little over the end, for fractions add up inexactly.
        let over = (value - last) / step;
        if over > 1e-9 {
            break;
        }
        if count > 0.0 {
            call.out.write_all(between.as_bytes())?;
        }
        write!(call.out, "{value:0width$.places$}")?;
        count += 1.0;
    }
    if count > 0.0 {
        call.out.write_all(b"\n")?;
    }
    Ok(0)
}

pub fn yes(call: &mut Call) -> Outcome {
    let text = if call.arguments.is_empty() { "y".to_owned() } else { call.arguments.join(" ") };
    loop {
        call.out.line(&text)?;
    }
}
