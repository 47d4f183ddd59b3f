//! A guest's linear memory for the length of one call: every address and length it names is
//! checked here, and data goes between it and the system call without a copy.

use std::io::IoSlice;

use super::errno::{Code, Result, Stop};

/// Bytes that one system call moves at most, so that a kill is seen soon.
const CHUNK: usize = 1 << 20;

/// Buffers that one call may name, as the kernel's IOV_MAX.
const MOST_BUFFERS: u32 = 1024;

/// Buffers that one system call writes from.
const BATCH: usize = 16;

/// Bytes that [`Memory::before`] shows at most: no guest strips more slashes from a path.
const BEFORE: usize = 16;

/// Bytes of one `iovec`: address and length, 32 bits each.
const IOVEC: u32 = 8;

/// The guest's memory; empty for a guest that exports none.
pub struct Memory<'a>(pub &'a mut [u8]);

/// Some bytes of the guest's memory, as it gave them.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub at: u32,
    pub length: u32,
}

/// A list of buffers in the guest's memory, as it gave it.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    pub at: u32,
    pub count: u32,
}

impl Buffers {
    /// `invalid` when there are more than the kernel takes.
    fn check(self) -> Result<()> {
        if self.count > MOST_BUFFERS { Err(Code::INVALID.into()) } else { Ok(()) }
    }
}

impl Memory<'_> {
    pub fn bytes(&self, span: Span) -> Result<&[u8]> {
        let (at, length) = (span.at as usize, span.length as usize);
        self.0.get(at..at + length).ok_or(Stop::Code(Code::FAULT))
    }

    /// The last few bytes below an address.
    pub fn before(&self, at: u32) -> &[u8] {
        let at = at as usize;
        self.0.get(at.saturating_sub(BEFORE)..at).unwrap_or_default()
    }

    pub fn bytes_mut(&mut self, span: Span) -> Result<&mut [u8]> {
        let (at, length) = (span.at as usize, span.length as usize);
        self.0.get_mut(at..at + length).ok_or(Stop::Code(Code::FAULT))
    }

    /// `N` bytes: the encoding of a number or structure.
    pub fn array<const N: usize>(&self, at: u32) -> Result<[u8; N]> {
        let at = at as usize;
        let bytes = self.0.get(at..at + N).and_then(|bytes| bytes.first_chunk());
        bytes.copied().ok_or(Stop::Code(Code::FAULT))
    }

    pub fn put(&mut self, at: u32, bytes: &[u8]) -> Result<()> {
        let at = at as usize;
        let to = self.0.get_mut(at..at + bytes.len()).ok_or(Stop::Code(Code::FAULT))?;
        to.copy_from_slice(bytes);
        Ok(())
    }

    pub fn put_u32(&mut self, at: u32, value: u32) -> Result<()> {
        self.put(at, &value.to_le_bytes())
    }

    pub fn put_u64(&mut self, at: u32, value: u64) -> Result<()> {
        self.put(at, &value.to_le_bytes())
    }

    fn buffer(&self, list: Buffers, index: u32) -> Result<Span> {
        let at = list.at.checked_add(index * IOVEC).ok_or(Stop::Code(Code::FAULT))?;
        let [a, b, c, d, e, f, g, h] = self.array(at)?;
        let at = u32::from_le_bytes([a, b, c, d]);
        Ok(Span { at, length: u32::from_le_bytes([e, f, g, h]) })
    }

    /// The first buffer that is not empty; empty when all are.
    pub fn first(&mut self, list: Buffers) -> Result<&mut [u8]> {
        list.check()?;
        for index in 0..list.count {
            let span = self.buffer(list, index)?;
            if span.length > 0 {
                return self.bytes_mut(span);
            }
        }
        Ok(&mut [])
    }

    /// Fills the buffers in turn by `read`, which is given where to and how much was read
    /// before; ends at its first short answer. An error after something was read is left for
    /// the next call, as the kernel does.
    pub fn fill(
        &mut self,
        list: Buffers,
        mut read: impl FnMut(&mut [u8], u64) -> Result<usize>,
    ) -> Result<u32> {
        list.check()?;
        let mut total = 0_u32;
        for index in 0..list.count {
            let buffer = self.buffer(list, index);
            let mut left = match buffer.and_then(|span| self.bytes_mut(span)) {
                Ok(bytes) => bytes,
                Err(_) if total > 0 => return Ok(total),
                Err(stop) => return Err(stop),
            };
            while !left.is_empty() {
                let (now, later) = left.split_at_mut(left.len().min(CHUNK));
                // Overlapping buffers may add up to more than memory holds.
                let Some(room) = total.checked_add(now.len() as u32) else { return Ok(total) };
                let got = match read(now, u64::from(total)) {
                    Ok(got) => got,
                    Err(Stop::Code(_)) if total > 0 => return Ok(total),
                    Err(stop) => return Err(stop),
                };
                if got < now.len() {
                    return Ok(total + got as u32);
                }
                (total, left) = (room, later);
            }
        }
        Ok(total)
    }

    /// Gives the buffers' bytes to `write`, a batch at a time, with how much was written
    /// before; ends at its first short answer. Errors as in [`Memory::fill`].
    pub fn drain(
        &self,
        list: Buffers,
        mut write: impl FnMut(&[IoSlice<'_>], u64) -> Result<usize>,
    ) -> Result<u32> {
        list.check()?;
        let mut total = 0_u32;
        let mut next = Cursor::default();
        while next.index < list.count || total == 0 {
            let mut batch = [IoSlice::new(&[]); BATCH];
            let (length, filled) = match self.batch(list, &mut next, &mut batch) {
                Ok(taken) => taken,
                Err(_) if total > 0 => return Ok(total),
                Err(stop) => return Err(stop),
            };
            let Some(room) = total.checked_add(length as u32) else { return Ok(total) };
            let put = match write(batch.get(..filled).unwrap_or(&[]), u64::from(total)) {
                Ok(put) => put,
                Err(Stop::Code(_)) if total > 0 => return Ok(total),
                Err(stop) => return Err(stop),
            };
            if put < length {
                return Ok(total + put as u32);
            }
            total = room;
            if length == 0 {
                break;
            }
        }
        Ok(total)
    }

    /// The next buffers to write, not more than CHUNK bytes: their bytes and number.
    fn batch<'b>(
        &'b self,
        list: Buffers,
        next: &mut Cursor,
        batch: &mut [IoSlice<'b>; BATCH],
    ) -> Result<(usize, usize)> {
        let (mut length, mut filled) = (0, 0);
        let mut slots = batch.iter_mut();
        while next.index < list.count && length < CHUNK {
            let bytes =
                self.bytes(self.buffer(list, next.index)?)?.get(next.offset..).unwrap_or(&[]);
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - length));
            if !now.is_empty() {
                let Some(slot) = slots.next() else { break };
                *slot = IoSlice::new(now);
                length += now.len();
                filled += 1;
            }
            if later.is_empty() {
                *next = Cursor { index: next.index + 1, offset: 0 };
            } else {
                next.offset += now.len();
            }
        }
        Ok((length, filled))
    }
}

/// Where in a list of buffers the next byte is.
#[derive(Default)]
struct Cursor {
    index: u32,
    offset: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A memory whose first buffers are at 0 and whose text lies at 64.
    fn memory(buffers: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; 4 << 20];
        for (index, (at, length)) in buffers.iter().enumerate() {
            bytes[index * 8..index * 8 + 4].copy_from_slice(&at.to_le_bytes());
            bytes[index * 8 + 4..index * 8 + 8].copy_from_slice(&length.to_le_bytes());
        }
        for (index, byte) in bytes.iter_mut().enumerate().skip(1024) {
            *byte = index as u8;
        }
        bytes
    }

    fn drained(bytes: &mut [u8], count: u32) -> Result<(Vec<u8>, u32)> {
        let mut out = Vec::new();
        let memory = Memory(bytes);
        let total = memory.drain(Buffers { at: 0, count }, |slices, before| {
            assert_eq!(before, out.len() as u64);
            let start = out.len();
            slices.iter().for_each(|slice| out.extend_from_slice(slice));
            Ok(out.len() - start)
        })?;
        Ok((out, total))
    }

    #[test]
    fn buffers_are_written_in_order_whatever_their_sizes() {
        let buffers: Vec<(u32, u32)> =
            (0..40).map(|i| (1024 + i * 7, if i == 20 { 3 << 20 } else { i })).collect();
        let mut bytes = memory(&buffers);
        let expected: Vec<u8> = buffers
            .iter()
            .flat_map(|&(at, length)| bytes[at as usize..(at + length) as usize].to_vec())
            .collect();
        let (out, total) = drained(&mut bytes, 40).unwrap();
        assert!(out == expected);
        assert_eq!(total as usize, expected.len());
    }

    #[test]
    fn addresses_outside_memory_are_faults() {
        for buffer in [(u32::MAX, 1), (4 << 20, 1), (1024, u32::MAX), ((4 << 20) - 1, 2)] {
            let mut bytes = memory(&[buffer]);
            assert!(matches!(drained(&mut bytes, 1), Err(Stop::Code(Code::FAULT))));
            let mut guest = Memory(&mut bytes);
            let filled = guest.fill(Buffers { at: 0, count: 1 }, |bytes, _| Ok(bytes.len()));
            assert!(matches!(filled, Err(Stop::Code(Code::FAULT))));
        }
        let memory = Memory(&mut []);
        assert!(matches!(memory.array::<4>(0), Err(Stop::Code(Code::FAULT))));
        assert!(matches!(Buffers { at: 0, count: 1025 }.check(), Err(Stop::Code(Code::INVALID))));
    }

    #[test]
    fn reading_ends_at_the_first_short_answer() {
        let mut bytes = memory(&[(1024, 4), (2048, 0), (4096, 10), (8192, 10)]);
        let mut guest = Memory(&mut bytes);
        let mut reads = Vec::new();
        let total = guest
            .fill(Buffers { at: 0, count: 4 }, |bytes, before| {
                reads.push((bytes.len(), before));
                Ok(bytes.len().min(6))
            })
            .ok();
        assert_eq!(total, Some(10));
        assert_eq!(reads, [(4, 0), (10, 4)]);
    }

    #[test]
    fn an_error_after_something_was_read_waits_for_the_next_call() {
        let mut bytes = memory(&[(1024, 4), (2048, 4)]);
        let mut guest = Memory(&mut bytes);
        let total = guest.fill(Buffers { at: 0, count: 2 }, |bytes, before| match before {
            0 => Ok(bytes.len()),
            _ => Err(Code::IO.into()),
        });
        assert_eq!(total.ok(), Some(4));
    }
}
