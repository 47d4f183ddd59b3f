//! Reading, writing and seeking. Data goes straight between the guest's memory and the system
//! call; regular files keep their position in the kernel.

use std::io::IoSlice;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::descriptor::copy;
use super::errno::{Code, Result};
use super::memory::Buffers;
use super::table::Descriptor;
use super::{Call, Guest};
use crate::shim::guest::Stdin;
use crate::shim::kill::Kill;
use crate::shim::output::Output;
use crate::shim::wasi::fs::uninterrupted;

/// Bytes that a stream takes at once, so that a kill between them is seen.
const PIECE: usize = 64 << 10;

/// Bytes up to which several buffers are joined for a stream, on the stack.
const SMALL: usize = 2048;

pub fn fd_read(call: &mut Call<'_>, fd: u32, buffers: Buffers, read: u32) -> Result<()> {
    let Guest { table, stdin, kill, .. } = &*call.guest;
    let entry = table.get(fd)?;
    let total = match &entry.descriptor {
        Descriptor::File(file) => call.memory.fill(buffers, |bytes, before| {
            go_on(kill, before)?;
            Ok(uninterrupted(kill, || file.read(bytes))?)
        })?,
        Descriptor::Device(device) => call.memory.fill(buffers, |bytes, before| {
            go_on(kill, before)?;
            Ok(uninterrupted(kill, || device.read(bytes))?)
        })?,
        // One read only: the next could wait for more.
        Descriptor::Stdin => read_stdin(stdin, kill, call.memory.first(buffers)?)? as u32,
        Descriptor::Connection(socket) => {
            socket.read(kill, entry.flags, call.memory.first(buffers)?)? as u32
        }
        Descriptor::Listener(_) => return Err(Errno::NOTCONN.into()),
        Descriptor::Stdout | Descriptor::Stderr => return Err(Code::BAD_DESCRIPTOR.into()),
        Descriptor::Dir(..) => return Err(Code::IS_DIRECTORY.into()),
    };
    call.memory.put_u32(read, total)
}

pub fn fd_pread(
    call: &mut Call<'_>,
    fd: u32,
    buffers: Buffers,
    offset: u64,
    read: u32,
) -> Result<()> {
    let Guest { table, kill, .. } = &*call.guest;
    let total = match &table.get(fd)?.descriptor {
        Descriptor::File(file) => call.memory.fill(buffers, |bytes, before| {
            go_on(kill, before)?;
            let at = offset.checked_add(before).ok_or(Code::INVALID)?;
            Ok(uninterrupted(kill, || file.read_at(bytes, at))?)
        })?,
        Descriptor::Device(device) => {
            call.memory.fill(buffers, |bytes, _| Ok(uninterrupted(kill, || device.read(bytes))?))?
        }
        Descriptor::Dir(..) => return Err(Code::IS_DIRECTORY.into()),
        _ => return Err(Code::CANNOT_SEEK.into()),
    };
    call.memory.put_u32(read, total)
}

pub fn fd_write(call: &mut Call<'_>, fd: u32, buffers: Buffers, written: u32) -> Result<()> {
    let Guest { table, kill, stdout, stderr, .. } = &*call.guest;
    let entry = table.get(fd)?;
    let total = match &entry.descriptor {
        Descriptor::File(file) => call.memory.drain(buffers, |bytes, before| {
            go_on(kill, before)?;
            Ok(uninterrupted(kill, || file.write_vectored(bytes))?)
        })?,
        Descriptor::Device(device) => call.memory.drain(buffers, |bytes, before| {
            go_on(kill, before)?;
            Ok(device.write(length(bytes))?)
        })?,
        Descriptor::Stdout => {
            call.memory.drain(buffers, |bytes, _| put(stdout.as_ref(), kill, bytes))?
        }
        Descriptor::Stderr => {
            call.memory.drain(buffers, |bytes, _| put(stderr.as_ref(), kill, bytes))?
        }
        Descriptor::Connection(socket) => {
            call.memory.drain(buffers, |bytes, _| socket.write(kill, entry.flags, bytes))?
        }
        Descriptor::Listener(_) => return Err(Errno::NOTCONN.into()),
        Descriptor::Stdin => return Err(Code::BAD_DESCRIPTOR.into()),
        Descriptor::Dir(..) => return Err(Code::IS_DIRECTORY.into()),
    };
    call.memory.put_u32(written, total)
}

pub fn fd_pwrite(
    call: &mut Call<'_>,
    fd: u32,
    buffers: Buffers,
    offset: u64,
    written: u32,
) -> Result<()> {
    let Guest { table, kill, .. } = &*call.guest;
    let total = match &table.get(fd)?.descriptor {
        Descriptor::File(file) => call.memory.drain(buffers, |bytes, before| {
            go_on(kill, before)?;
            let at = offset.checked_add(before).ok_or(Code::INVALID)?;
            Ok(uninterrupted(kill, || file.write_vectored_at(bytes, at))?)
        })?,
        Descriptor::Device(device) => {
            call.memory.drain(buffers, |bytes, _| Ok(device.write(length(bytes))?))?
        }
        Descriptor::Dir(..) => return Err(Code::IS_DIRECTORY.into()),
        _ => return Err(Code::CANNOT_SEEK.into()),
    };
    call.memory.put_u32(written, total)
}

/// Where `whence` and `offset` say.
pub fn seek_from(offset: i64, whence: u32) -> Result<SeekFrom> {
    Ok(match whence {
        0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Code::INVALID)?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        _ => return Err(Code::INVALID.into()),
    })
}

pub fn fd_seek(call: &mut Call<'_>, fd: u32, target: SeekFrom, to: u32) -> Result<()> {
    let position = match &call.guest.table.get(fd)?.descriptor {
        Descriptor::File(file) => file.seek(target)?,
        // As Linux has it for these devices: anywhere is the start.
        Descriptor::Device(_) => 0,
        Descriptor::Dir(..) => return Err(Code::IS_DIRECTORY.into()),
        _ => return Err(Code::CANNOT_SEEK.into()),
    };
    call.memory.put_u64(to, position)
}

/// Sees a kill between the pieces of a long call; before the first, wasm code has seen it.
fn go_on(kill: &Kill, before: u64) -> Result<()> {
    if before > 0 {
        kill.check()?;
    }
    Ok(())
}

fn length(bytes: &[IoSlice<'_>]) -> usize {
    bytes.iter().map(|slice| slice.len()).sum()
}

/// Writes all of `bytes`; the output may block this thread.
fn put(output: &dyn Output, kill: &Kill, bytes: &[IoSlice<'_>]) -> Result<usize> {
    // The C library writes a line and its end as two buffers: one write for both.
    if bytes.len() > 1 && length(bytes) <= SMALL {
        let mut joined = [0; SMALL];
        let mut left = joined.as_mut_slice();
        for slice in bytes {
            left = copy(left, slice);
        }
        let rest = left.len();
        kill.check()?;
        output.write(joined.get(..SMALL - rest).unwrap_or_default())?;
        return Ok(length(bytes));
    }
    for piece in bytes.iter().flat_map(|slice| slice.chunks(PIECE)) {
        kill.check()?;
        output.write(piece)?;
    }
    Ok(length(bytes))
}

/// Reads what is there, or waits for the first of it; 0 is the end.
fn read_stdin(stdin: &Stdin, kill: &Kill, bytes: &mut [u8]) -> Result<usize> {
    let Stdin::Descriptor(fd) = stdin else { return Ok(0) };
    loop {
        kill.check()?;
        match uninterrupted(kill, || rustix::io::read(fd, &mut *bytes)) {
            // Whoever made the pipe made it non-blocking.
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::new(fd, PollFlags::IN)];
                uninterrupted(kill, || poll(&mut fds, None))?;
            }
            read => return Ok(read?),
        }
    }
}
