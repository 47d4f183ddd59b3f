//! The linear memories of services' instances. A service makes and drops an instance for each
//! request: its threads keep what one leaves for the next, cleaned, because mapping, unmapping and
//! touching pages anew stops the process's other threads. Elsewhere a memory goes with its Store.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::ptr::null_mut;

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use rustix::param::page_size;
use wasmtime::{Error, LinearMemory, MemoryCreator, MemoryType};

use super::keeping::Spares;

/// Memories that a thread keeps.
const KEPT: usize = 4;

/// Bytes of a kept memory whose pages stay with it.
const WARM: usize = 1 << 20;

/// One that has become larger is not kept.
const LARGEST: usize = 4 << 20;

/// No machine has smaller pages.
const SMALLEST_PAGE: usize = 4 << 10;

thread_local! {
    pub static SPARES: Spares<Mapping> = const { Spares::new(KEPT) };
}

/// Makes memories for an engine whose code has no images of them: those need wasmtime's own.
pub struct Memories;

// SAFETY: what it makes is page aligned, zero, guarded above as asked for (and below, by as much),
// and owned by the LinearMemory alone until that is dropped; a kept one is made zero before.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let shape = Shape { capacity: reserved.unwrap_or(0).max(minimum), guard };
        let spare = SPARES.with(Spares::take);
        let mapping = match spare {
            Some(spare) if spare.shape == shape => Ok(spare),
            _ => Mapping::new(shape),
        };
        let mapping = mapping.and_then(|mut mapping| {
            mapping.open(minimum)?;
            Ok(mapping)
        });
        let mapping = mapping.map_err(|error| format!("no memory for a guest: {error}"))?;
        Ok(Box::new(Memory { mapping: Some(mapping), size: minimum }))
    }
}

/// A memory in use; without a mapping only while it is being dropped.
struct Memory {
    mapping: Option<Mapping>,
    /// Bytes that the guest knows of.
    size: usize,
}

// SAFETY: its mapping is page aligned, guarded and lives as long as this does; it does not move
// below its capacity.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.mapping.as_ref().map_or(0, |mapping| mapping.shape.capacity)
    }

    fn grow_to(&mut self, size: usize) -> Result<(), Error> {
        let Some(mapping) = &mut self.mapping else { return Err(Error::msg("it is gone")) };
        // No service has a memory whose size its reservation does not hold.
        if size > mapping.shape.capacity {
            return Err(Error::msg("a service's memory ends here"));
        }
        mapping.open(size)?;
        self.size = size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.mapping.as_ref().map_or(null_mut(), Mapping::start)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else { return };
        // A thread that ends has given its own up already.
        let _ = SPARES.try_with(|spares| {
            spares.give(mapping, |mapping| mapping.open <= LARGEST && mapping.clean().is_ok());
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// Bytes that it may grow to where it is.
    capacity: usize,
    /// Unusable bytes below and above.
    guard: usize,
}

/// An address range with a guard at both ends; unmapped when dropped.
pub struct Mapping {
    base: *mut c_void,
    len: usize,
    shape: Shape,
    /// Bytes that can be read and written, whole pages.
    open: usize,
}

// SAFETY: it is an address range of this process, which any thread may use and unmap; only its
// one owner does.
unsafe impl Send for Mapping {}
// SAFETY: as above; through a shared reference nothing is read or written.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(shape: Shape) -> io::Result<Self> {
        let len = shape.guard.checked_mul(2).and_then(|both| both.checked_add(shape.capacity));
        let len = len.and_then(|len| len.checked_next_multiple_of(page_size()));
        let len = len.ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap_anonymous(null_mut(), len.max(1), ProtFlags::empty(), flags)?
        };
        Ok(Self { base, len: len.max(1), shape, open: 0 })
    }

    fn start(&self) -> *mut u8 {
        self.base.cast::<u8>().wrapping_add(self.shape.guard)
    }

    /// Makes just so many bytes usable, rounded up to pages. Whatever is beyond is a fault.
    fn open(&mut self, bytes: usize) -> io::Result<()> {
        let wanted = bytes.next_multiple_of(page_size());
        let (from, len, flags) = match wanted.checked_sub(self.open) {
            Some(more) => (self.open, more, MprotectFlags::READ | MprotectFlags::WRITE),
            None => (wanted, self.open - wanted, MprotectFlags::empty()),
        };
        if len > 0 {
            // SAFETY: the range is the mapping's, between its guards.
            unsafe { rustix::mm::mprotect(self.start().wrapping_add(from).cast(), len, flags)? };
        }
        self.open = wanted;
        Ok(())
    }

    /// Makes all of it zero. Pages that the system has not by it, be it that it swapped them out,
    /// are let go; and so are those beyond what is to stay.
    fn clean(&self) -> io::Result<()> {
        let page = page_size();
        let mut resident = [0_u8; LARGEST / SMALLEST_PAGE];
        // SAFETY: the range is the mapping's; it has no more pages than there are bytes.
        let asked = unsafe { libc::mincore(self.start().cast(), self.open, resident.as_mut_ptr()) };
        if asked != 0 {
            return Err(io::Error::last_os_error());
        }
        let (mut at, mut warm) = (self.start(), WARM);
        let pages = resident.get(..self.open / page).unwrap_or_default();
        for run in pages.chunk_by(|one, next| one & 1 == next & 1) {
            let len = run.len() * page;
            let stays = run.first().is_some_and(|page| page & 1 == 1) && len <= warm;
            // SAFETY: the range is open, and nobody uses it any more.
            unsafe {
                if stays {
                    warm -= len;
                    at.write_bytes(0, len);
                } else {
                    rustix::mm::madvise(at.cast(), len, Advice::LinuxDontNeed)?;
                }
            }
            at = at.wrapping_add(len);
        }
        Ok(())
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
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;
    use crate::engine::{Purpose, config};
    use crate::shim::keeping::Keeping;

    fn kept() -> Option<usize> {
        SPARES.with(Spares::count)
    }

    fn module(wat: &str) -> Module {
        let mut config = config(Purpose::Copied);
        config.with_host_memory(std::sync::Arc::new(Memories));
        let engine = Engine::new(&config).unwrap();
        Module::new(&engine, wat::parse_str(wat).unwrap()).unwrap()
    }

    /// An instance, and where each of its memories lies.
    struct Guest(Store<()>, Instance);

    impl Guest {
        fn of(module: &Module) -> Self {
            let mut store = Store::new(module.engine(), ());
            store.set_epoch_deadline(1);
            let instance = Instance::new(&mut store, module, &[]).unwrap();
            Self(store, instance)
        }

        fn at(&mut self, memory: &str) -> *mut u8 {
            self.1.get_memory(&mut self.0, memory).unwrap().data_ptr(&self.0)
        }

        /// The byte at an address, which it then makes 7; `None`: that is a trap.
        fn swap(&mut self, address: u32) -> Option<u32> {
            let swap = self.1.get_typed_func::<u32, u32>(&mut self.0, "swap").unwrap();
            swap.call(&mut self.0, address).ok()
        }

        fn grow(&mut self, pages: u32) -> u32 {
            let grow = self.1.get_typed_func::<u32, u32>(&mut self.0, "grow").unwrap();
            grow.call(&mut self.0, pages).unwrap()
        }
    }

    const GUEST: &str = r#"(module (memory (export "first") 2) (memory (export "second") 1 3)
        (data (i32.const 8) "\05")
        (func (export "swap") (param i32) (result i32)
            (i32.load8_u (local.get 0)) (i32.store8 (local.get 0) (i32.const 7)))
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;

    #[test]
    fn an_instance_finds_nothing_of_the_one_before() {
        let _keeping = Keeping::begin();
        let module = module(GUEST);
        let mut places = Vec::new();
        for _ in 0..3 {
            let mut guest = Guest::of(&module);
            places.push((guest.at("first"), guest.at("second")));
            // Its data, the stack's and the heap's pages; beyond its end it ends.
            assert_eq!([8, 9, 70_000, 131_071].map(|at| guest.swap(at)), [5, 0, 0, 0].map(Some));
            assert_eq!(guest.swap(131_072), None);
            assert_eq!(guest.grow(4), 2);
            assert_eq!([131_072, 131_073, 393_215].map(|at| guest.swap(at)), [Some(0); 3]);
            assert_eq!([8, 9, 131_072].map(|at| guest.swap(at)), [Some(7); 3]);
            assert_eq!(guest.swap(393_216), None);
        }
        // Two memories each, and all have had the same two.
        assert_eq!(kept(), Some(2));
        let sorted = |(one, other): (*mut u8, *mut u8)| (one.min(other), one.max(other));
        assert!(places.iter().all(|&place| sorted(place) == sorted(places[0])));
    }

    #[test]
    fn instances_at_once_have_memories_of_their_own_and_few_are_kept() {
        let _keeping = Keeping::begin();
        let module = module(GUEST);
        let mut guests: Vec<_> = (0..10).map(|_| Guest::of(&module)).collect();
        assert!(guests.iter_mut().all(|guest| guest.swap(100) == Some(0)));
        assert!(guests.iter_mut().all(|guest| guest.swap(100) == Some(7)));
        drop(guests);
        assert_eq!(kept(), Some(KEPT));
    }

    #[test]
    fn only_a_thread_that_keeps_memories_has_any_and_none_that_is_large() {
        let module = module(GUEST);
        drop(Guest::of(&module));
        assert_eq!(kept(), None);
        let keeping = Keeping::begin();
        let mut guest = Guest::of(&module);
        guest.grow((LARGEST >> 16) as u32);
        drop(guest);
        assert_eq!(kept(), Some(1));
        keeping.let_go();
        assert_eq!(kept(), Some(0));
        drop(Guest::of(&module));
        drop(keeping);
        assert_eq!(kept(), None);
    }

    #[test]
    fn a_kept_memory_holds_few_pages() {
        let _keeping = Keeping::begin();
        let memory = Memories
            .new_memory(MemoryType::new(48, None), 3 << 20, None, Some(1 << 32), 1 << 20)
            .unwrap();
        // SAFETY: so many bytes are usable, and nobody else uses them.
        unsafe { memory.as_ptr().write_bytes(7, 3 << 20) };
        drop(memory);
        let memory = Memories
            .new_memory(MemoryType::new(48, None), 3 << 20, None, Some(1 << 32), 1 << 20)
            .unwrap();
        let mut resident = vec![0_u8; (3 << 20) / page_size()];
        let (at, pages) = (memory.as_ptr(), resident.as_mut_ptr());
        // SAFETY: the range is the memory's, with a byte for each page.
        assert_eq!(unsafe { libc::mincore(at.cast(), 3 << 20, pages) }, 0);
        let resident = resident.iter().filter(|&&page| page & 1 == 1).count();
        assert!(resident * page_size() <= WARM, "{resident} pages");
        // SAFETY: as above.
        let bytes = unsafe { std::slice::from_raw_parts(at, 3 << 20) };
        assert!(bytes.iter().all(|&byte| byte == 0));
    }
}
