//! base64, md5sum, sha256sum.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::{Call, Failure, Known, Order, Outcome, each_file};
use crate::stream::Stream;
use crate::sys;

pub fn base64(call: &mut Call) -> Outcome {
    let given = call.options_of(
        &Known { letters: "dDw:i", long: &[("decode", 'd'), ("wrap", 'w')] },
        Order::Any,
    )?;
    let width: usize = given.value('w').map_or(Ok(76), super::number)?;
    let decodes = given.has('d') || given.has('D');
    each_file(call, &given.rest, |call, _, stream| {
        let bytes = stream.read_all()?;
        if decodes {
            let text: Vec<u8> =
                bytes.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let plain =
                STANDARD.decode(text).map_err(|_| Failure::Says("invalid input".to_owned(), 1))?;
            std::io::Write::write_all(&mut call.out, &plain)?;
            return Ok(());
        }
        let text = STANDARD.encode(bytes);
        if width == 0 {
            return Ok(std::io::Write::write_all(&mut call.out, text.as_bytes())?);
        }
        for line in text.as_bytes().chunks(width) {
            call.out.line(&String::from_utf8_lossy(line))?;
        }
        Ok(())
    })
}

pub fn md5sum(call: &mut Call) -> Outcome {
    sums(call, of::<Md5>)
}

pub fn sha256sum(call: &mut Call) -> Outcome {
    sums(call, of::<Sha256>)
}

fn of<D: Digest>(stream: &Stream) -> std::io::Result<String> {
    let (mut hasher, mut bytes) = (D::new(), vec![0; 1 << 18]);
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            break;
        }
        hasher.update(bytes.get(..count).unwrap_or_default());
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

type Sum = fn(&Stream) -> std::io::Result<String>;

fn sums(call: &mut Call, sum: Sum) -> Outcome {
    let given = call.options_of(
        &Known { letters: "cbtsw", long: &[("check", 'c'), ("status", 's')] },
        Order::Any,
    )?;
    if !given.has('c') {
        return each_file(call, &given.rest, |call, name, stream| {
            let line = format!("{}  {name}", sum(&stream)?);
            Ok(call.out.line(&line)?)
        });
    }
    let mut bad = 0;
    let status = each_file(call, &given.rest, |call, _, stream| {
        let text = stream.read_all()?;
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((expected, name)) = line.split_once([' ', '\t']) else { continue };
            let name = name.trim_start_matches([' ', '*']);
            let found = call.open(name).and_then(|stream| sum(&stream));
            let is_right = found.as_ref().is_ok_and(|found| found.eq_ignore_ascii_case(expected));
            bad += u32::from(!is_right);
            if let Err(error) = found {
                call.complain(&format!("{name}: {}", sys::text(&error)));
            }
            if !given.has('s') {
                let word = if is_right { "OK" } else { "FAILED" };
                call.out.line(&format!("{name}: {word}"))?;
            }
        }
        Ok(())
    })?;
    if bad > 0 {
        return Err(Failure::Says(format!("WARNING: {bad} computed checksums did NOT match"), 1));
    }
    Ok(status)
}
