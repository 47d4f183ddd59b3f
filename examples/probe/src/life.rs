//! How a guest lives and ends.
//!
//!     say TEXT / say-stderr TEXT   one line
//!     say-bare TEXT                without a newline
//!     dump                         arguments, environment, working folder, host name, all of stdin
//!     echo                         stdin to stdout, as it comes
//!     sleep MILLIS                 nothing, for that long
//!     idle                         for ever, awake once an hour
//!     spin                         for ever, without a single call
//!     flood MIB                    numbered lines, that much on each stream, as fast as may be
//!     life P LAST                  counts its lives in P; fails with 1 before the last one
//!     grow MIB                     takes and touches memory, keeps it
//!     trap                         unreachable, ten calls deep
//!     panic                        a Rust panic
//!     overflow                     the stack
//!     exit CODE

use std::env;
use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

use crate::Outcome;
use crate::files::number;

const LINE: usize = 100;

pub fn run(words: &[&str]) -> Option<Outcome> {
    Some(match words {
        ["say", text] => said(io::stdout(), &format!("{text}\n")),
        ["say-stderr", text] => said(io::stderr(), &format!("{text}\n")),
        ["say-bare", text] => said(io::stdout(), text),
        ["dump"] => dump(),
        ["echo"] => io::copy(&mut io::stdin(), &mut io::stdout()).map(|_| None),
        ["sleep", millis] => number(millis).map(|millis| {
            sleep(Duration::from_millis(millis as u64));
            None
        }),
        ["idle"] => loop {
            sleep(Duration::from_secs(3600));
        },
        ["spin"] => spin(),
        ["flood", mib] => number(mib).and_then(flood),
        ["grow", mib] => number(mib).map(grow),
        ["life", path, last] => number(last).and_then(|last| live(path, last)),
        ["trap"] => {
            descend(10);
            Ok(None)
        }
        ["panic"] => panic!("as asked"),
        ["overflow"] => Ok(Some(overflow(0).to_string())),
        ["exit", code] => exit(code.parse().ok()?),
        _ => return None,
    })
}

fn said(mut stream: impl Write, text: &str) -> Outcome {
    stream.write_all(text.as_bytes())?;
    stream.flush()?;
    Ok(None)
}

fn dump() -> Outcome {
    for (place, argument) in env::args().enumerate() {
        println!("argument {place}: {argument}");
    }
    for (name, value) in env::vars() {
        println!("environment {name}={value}");
    }
    println!("folder {}", env::current_dir()?.display());
    println!("host {}", fs::read_to_string("/etc/hostname").unwrap_or_default().trim());
    println!("stdin {}", io::read_to_string(io::stdin())?.trim_end());
    Ok(None)
}

fn live(path: &str, last: usize) -> Outcome {
    let lived =
        fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let life: usize = lived + 1;
    fs::write(path, life.to_string())?;
    println!("life {life}");
    if life < last {
        exit(1);
    }
    Ok(None)
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns).wrapping_add(1);
    }
}

/// Line 7 of stdout is "out 0000000007 ....", 100 bytes with its newline. Many lines a write, cut
/// where they happen to be cut.
fn flood(mib: usize) -> Outcome {
    const CHUNK: usize = 64 * 1024;
    let lines = mib * (1 << 20) / LINE;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    for line in 0..lines {
        for (stream, name) in [(&mut out, "out"), (&mut err, "err")] {
            let head = format!("{name} {line:010} ");
            stream.extend_from_slice(head.as_bytes());
            stream.resize(stream.len() + LINE - 1 - head.len(), b'.');
            stream.push(b'\n');
        }
        if out.len() >= CHUNK || line + 1 == lines {
            let keep = if line + 1 == lines { 0 } else { out.len() - CHUNK };
            io::stdout().write_all(&out[..out.len() - keep])?;
            io::stdout().flush()?;
            out.drain(..out.len() - keep);
            io::stderr().write_all(&err[..err.len() - keep])?;
            err.drain(..err.len() - keep);
        }
    }
    Ok(None)
}

fn grow(mib: usize) -> Option<String> {
    let mut held = vec![0_u8; mib << 20];
    for page in held.chunks_mut(4096) {
        page[0] = 1;
    }
    black_box(&held);
    std::mem::forget(held);
    Some(String::new())
}

#[inline(never)]
fn descend(depth: u32) {
    if black_box(depth) == 0 {
        core::arch::wasm32::unreachable();
    }
    descend(depth - 1);
    black_box(depth);
}

#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if frame[0] == u64::MAX { 0 } else { overflow(depth + 1) + frame[0] }
}
