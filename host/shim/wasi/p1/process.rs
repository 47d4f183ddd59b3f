//! Arguments, environment, random bytes, yielding, exit.

use rustix::rand::{GetRandomFlags, getrandom};

use super::errno::{Code, Result};
use super::memory::{Memory, Span};
use super::{Call, Exit, Guest};
use crate::shim::wasi::fs::uninterrupted;

/// Random bytes made by one system call, so that a kill is seen soon.
const RANDOM: usize = 64 << 10;

pub fn args_sizes_get(call: &mut Call<'_>, count: u32, size: u32) -> Result<()> {
    put_sizes(&mut call.memory, &call.guest.argv, count, size)
}

pub fn args_get(call: &mut Call<'_>, at: u32, text: u32) -> Result<()> {
    put_strings(&mut call.memory, &call.guest.argv, at, text)
}

pub fn environ_sizes_get(call: &mut Call<'_>, count: u32, size: u32) -> Result<()> {
    put_sizes(&mut call.memory, &call.guest.env, count, size)
}

pub fn environ_get(call: &mut Call<'_>, at: u32, text: u32) -> Result<()> {
    put_strings(&mut call.memory, &call.guest.env, at, text)
}

/// How many strings, and how many bytes with a NUL after each.
fn put_sizes(memory: &mut Memory<'_>, strings: &[String], count: u32, size: u32) -> Result<()> {
    let bytes: usize = strings.iter().map(|string| string.len() + 1).sum();
    memory.put_u32(count, u32::try_from(strings.len()).map_err(|_| Code::OVERFLOW)?)?;
    memory.put_u32(size, u32::try_from(bytes).map_err(|_| Code::OVERFLOW)?)
}

/// The strings, each closed by a NUL, at `text`; their addresses at `at`.
fn put_strings(memory: &mut Memory<'_>, strings: &[String], at: u32, text: u32) -> Result<()> {
    let (mut at, mut text) = (at, text);
    for string in strings {
        let length = u32::try_from(string.len()).map_err(|_| Code::OVERFLOW)?;
        memory.put_u32(at, text)?;
        memory.put(text, string.as_bytes())?;
        let end = text.checked_add(length).ok_or(Code::FAULT)?;
        memory.put(end, &[0])?;
        at = at.checked_add(4).ok_or(Code::FAULT)?;
        text = end.checked_add(1).ok_or(Code::FAULT)?;
    }
    Ok(())
}

/// What others see of a code over 255 is decided for all kinds of guest alike (`ending`).
pub fn proc_exit(_: wasmtime::Caller<'_, Guest>, code: u32) -> wasmtime::Result<()> {
    Err(wasmtime::Error::new(Exit(code)))
}

/// There are no signals.
pub fn proc_raise(_: &mut Call<'_>) -> Result<()> {
    Err(Code::NOT_SUPPORTED.into())
}

pub fn sched_yield(call: &mut Call<'_>) -> Result<()> {
    call.guest.kill.check()?;
    std::thread::yield_now();
    Ok(())
}

pub fn random_get(call: &mut Call<'_>, at: u32, length: u32) -> Result<()> {
    let mut left = call.memory.bytes_mut(Span { at, length })?;
    while !left.is_empty() {
        call.guest.kill.check()?;
        let now = left.len().min(RANDOM);
        let got = uninterrupted(&call.guest.kill, || {
            getrandom(left.get_mut(..now).unwrap_or_default(), GetRandomFlags::empty())
        })?;
        left = left.get_mut(got..).unwrap_or_default();
    }
    Ok(())
}
