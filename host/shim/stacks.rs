//! The native stacks that components run on. A service makes and drops an instance for each
//! request: its threads keep what one leaves for the next, because mapping and unmapping stops
//! the process's other threads. Everywhere else a stack goes with its Store.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::null_mut;

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use wasmtime::{Error, StackCreator, StackMemory};

use super::keeping::Spares;

/// Stacks that a thread keeps: instances of one thread mostly follow each other.
const KEPT: usize = 2;

/// Bytes at the top of a kept stack whose pages stay with it.
const WARM: usize = 64 << 10;

/// Unusable bytes below a stack: a multiple of every page size.
const GUARD: usize = 64 << 10;

thread_local! {
    pub static SPARES: Spares<Mapping> = const { Spares::new(KEPT) };
}

/// Makes stacks for an engine.
pub struct Stacks;

// SAFETY: what it makes is page aligned, owned by the StackMemory alone until that is dropped, and
// guarded below. A kept stack is not zero: it holds what the container's own last instance left,
// which wasm code cannot read, and is passed over where zeros are asked for.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> Result<Box<dyn StackMemory>, Error> {
        let spare = SPARES.with(Spares::take);
        let mapping = match spare {
            Some(spare) if !zeroed && spare.stack().len() == size => spare,
            _ => Mapping::new(size)?,
        };
        Ok(Box::new(Stack(Some(mapping))))
    }
}

/// A stack in use; `None` only while it is being dropped.
struct Stack(Option<Mapping>);

// SAFETY: the ranges are those of a mapping that lives as long as this does.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.0.as_ref().map_or(null_mut(), |mapping| mapping.at(mapping.len))
    }

    fn range(&self) -> Range<usize> {
        self.0.as_ref().map_or(0..0, Mapping::stack)
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let of = |mapping: &Mapping| mapping.at(0)..mapping.at(GUARD);
        self.0.as_ref().map_or(null_mut()..null_mut(), of)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let Some(mapping) = self.0.take() else { return };
        // A thread that ends has given its own up already.
        let _ = SPARES.try_with(|spares| spares.give(mapping, |mapping| mapping.cool().is_ok()));
    }
}

/// A stack with its guard below it; unmapped when dropped.
pub struct Mapping {
    base: *mut c_void,
    len: usize,
}

// SAFETY: it is an address range of this process, which any thread may use and unmap; only its
// one owner does.
unsafe impl Send for Mapping {}
// SAFETY: as above; through a shared reference nothing is read or written.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `size` is a multiple of the page size.
    fn new(size: usize) -> Result<Self, Error> {
        let len = size.checked_add(GUARD).ok_or_else(|| Error::msg("a stack is too large"))?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap_anonymous(null_mut(), len, ProtFlags::empty(), flags)
                .map_err(|error| Error::msg(format!("no stack for a guest: {error}")))?
        };
        let mapping = Self { base, len };
        // SAFETY: the range is the mapping's without its guard.
        unsafe {
            let stack = mapping.at(GUARD).cast();
            rustix::mm::mprotect(stack, size, MprotectFlags::READ | MprotectFlags::WRITE)
                .map_err(|error| Error::msg(format!("no stack for a guest: {error}")))?;
        }
        Ok(mapping)
    }

    fn at(&self, offset: usize) -> *mut u8 {
        self.base.cast::<u8>().wrapping_add(offset)
    }

    fn stack(&self) -> Range<usize> {
        self.at(GUARD).addr()..self.at(self.len).addr()
    }

    /// Lets go the pages that only a deep run has touched.
    fn cool(&self) -> rustix::io::Result<()> {
        let cold = self.stack().len().saturating_sub(WARM);
        // SAFETY: the range is within the mapping, whose stack nobody uses any more.
        unsafe { rustix::mm::madvise(self.at(GUARD).cast(), cold, Advice::LinuxDontNeed) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's alone. It was mapped with this length.
        let unmapped = unsafe { rustix::mm::munmap(self.base, self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::keeping::Keeping;

    const SIZE: usize = 1 << 20;

    fn stack() -> Box<dyn StackMemory> {
        Stacks.new_stack(SIZE, false).unwrap()
    }

    fn kept() -> Option<usize> {
        SPARES.with(Spares::count)
    }

    #[test]
    fn a_stack_is_usable_from_its_top_down_to_its_guard() {
        let stack = stack();
        let range = stack.range();
        assert_eq!((range.len(), stack.top().addr()), (SIZE, range.end));
        assert_eq!(stack.guard_range().end.addr(), range.start);
        // SAFETY: both bytes are within the stack, which nobody else uses.
        unsafe {
            *stack.top().wrapping_sub(1) = 1;
            *stack.guard_range().end = 1;
        }
    }

    #[test]
    fn only_a_thread_that_keeps_stacks_uses_them_again() {
        let first = stack().range();
        assert_eq!(kept(), None);
        let keeping = Keeping::begin();
        let again: Vec<_> = (0..3).map(|_| stack()).collect();
        let ranges: Vec<_> = again.iter().map(|stack| stack.range()).collect();
        drop(again);
        assert_eq!(kept(), Some(KEPT));
        assert!(ranges.contains(&stack().range()));
        // Zeros are another matter, and so is another size.
        assert_eq!(Stacks.new_stack(2 * SIZE, false).unwrap().range().len(), 2 * SIZE);
        assert_eq!(Stacks.new_stack(SIZE, true).unwrap().range().len(), SIZE);
        drop(keeping);
        assert_eq!(kept(), None);
        assert_eq!(first.len(), SIZE);
    }

    #[test]
    fn what_a_deep_run_touched_is_let_go() {
        let _keeping = Keeping::begin();
        let first = stack();
        let (range, lowest) = (first.range(), first.guard_range().end);
        // SAFETY: the byte is within the stack, which nobody else uses.
        unsafe { *lowest = 7 };
        drop(first);
        let again = stack();
        assert_eq!(again.range(), range);
        // SAFETY: as above.
        assert_eq!(unsafe { *again.guard_range().end }, 0);
    }
}
