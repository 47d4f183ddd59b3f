//! Counts what guests hold and refuses what is over a limit: memory per container and per pod,
//! descriptors per container. Knows nothing of Stores but the limiter's trait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use wasmtime::ResourceLimiter;

use super::lock;
use crate::engine::MOST_MEMORIES;

/// A budget of bytes or of things. A limit of `u64::MAX` is none.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    peak: AtomicU64,
    limit: AtomicU64,
    kills: AtomicU64,
    parent: Option<Arc<Budget>>,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            kills: AtomicU64::new(0),
            parent: None,
        }
    }

    /// A budget whose takings count in `parent` too.
    pub fn within(parent: Arc<Budget>, limit: u64) -> Self {
        Self { parent: Some(parent), ..Self::new(limit) }
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Applies from the next taking on; what is taken stays taken.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes `amount` if that stays within the limit here and above; all or nothing.
    pub fn take(&self, amount: u64) -> bool {
        let limit = self.limit();
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(amount).filter(|&sum| sum <= limit)
        });
        let Ok(before) = taken else { return false };
        if self.parent.as_ref().is_some_and(|parent| !parent.take(amount)) {
            self.used.fetch_sub(amount, Ordering::Relaxed);
            return false;
        }
        self.peak.fetch_max(before + amount, Ordering::Relaxed);
        true
    }

    /// A guest has been ended because it could not take more.
    pub fn count_kill(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.count_kill();
        }
    }

    /// How often that was, here and below.
    pub fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    /// Whose limit keeps `amount` from being taken.
    fn refusal(&self, amount: u64) -> OutOfMemory {
        let limit = self.limit();
        match &self.parent {
            Some(pod) if self.used().checked_add(amount).is_some_and(|sum| sum <= limit) => {
                OutOfMemory::Pod { limit: pod.limit() }
            }
            _ => OutOfMemory::Container { limit },
        }
    }

    pub fn give_back(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(amount);
        }
    }
}

/// What one container holds. Its running guest and its execs share it.
#[derive(Debug)]
pub struct Ledger {
    pub memory: Budget,
    /// Open descriptors, sockets included.
    pub descriptors: Arc<Budget>,
    /// Those of them that are sockets.
    pub sockets: Arc<Budget>,
    /// Resource handles each component Store may hold.
    pub handles: u32,
    /// The last growth that was refused.
    refused: Mutex<Option<OutOfMemory>>,
    refusals: AtomicU64,
}

impl Ledger {
    pub fn new(memory: Budget, descriptors: u32, handles: u32) -> Self {
        let descriptors = Arc::new(Budget::new(u64::from(descriptors)));
        Self {
            memory,
            sockets: Arc::new(Budget::within(descriptors.clone(), u64::MAX)),
            descriptors,
            handles,
            refused: Mutex::default(),
            refusals: AtomicU64::new(0),
        }
    }

    /// How often memory was refused.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Why a guest's garbage-collected heap is full: wasmtime keeps to itself which refusal kept
    /// it from growing.
    pub fn full_heap(&self) -> OutOfMemory {
        lock(&self.refused).clone().unwrap_or(OutOfMemory::Heap)
    }

    /// Takes a descriptor's place; `None` when the container has too many.
    pub fn descriptor(&self) -> Option<DescriptorPermit> {
        self.descriptors.take(1).then(|| DescriptorPermit(self.descriptors.clone()))
    }

    /// As [`Ledger::descriptor`], a socket's.
    pub fn socket(&self) -> Option<DescriptorPermit> {
        self.sockets.take(1).then(|| DescriptorPermit(self.sockets.clone()))
    }
}

/// One taken descriptor; given back when dropped. Keep it beside the open file.
#[derive(Debug)]
pub struct DescriptorPermit(Arc<Budget>);

impl Drop for DescriptorPermit {
    fn drop(&mut self) {
        self.0.give_back(1);
    }
}

/// The error that ends a guest which is over its memory limit, or over its pod's.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutOfMemory {
    #[error("out of memory: the limit is {limit} bytes")]
    Container { limit: u64 },
    #[error("out of memory: the limit of the pod's containers together is {limit} bytes")]
    Pod { limit: u64 },
    /// As large as wasmtime lets it become, whatever the limit.
    #[error("out of memory: a garbage-collected heap holds at most 4 GiB")]
    Heap,
}

/// Memory taken from a container's ledger; given back when dropped.
#[derive(Debug)]
pub struct Taken {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Taken {
    pub fn take(ledger: Arc<Ledger>, bytes: u64) -> Result<Self, OutOfMemory> {
        let mut taken = Self { ledger, bytes: 0 };
        taken.more(bytes).map(|()| taken)
    }

    fn more(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        if self.ledger.memory.take(bytes) {
            self.bytes += bytes;
            return Ok(());
        }
        let refused = self.ledger.memory.refusal(bytes);
        self.ledger.refusals.fetch_add(1, Ordering::Relaxed);
        *lock(&self.ledger.refused) = Some(refused.clone());
        Err(refused)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.ledger.memory.give_back(self.bytes);
    }
}

/// A Store's limiter over a container's ledger. Gives back what it took when dropped, so it
/// must live in the Store's data.
#[derive(Debug)]
pub struct Limiter(Taken);

/// Bytes a table element costs on the host.
const TABLE_ELEMENT: u64 = 16;

impl Limiter {
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self(Taken { ledger, bytes: 0 })
    }

    fn grow(&mut self, current: usize, desired: usize, unit: u64) -> wasmtime::Result<()> {
        let bytes = (desired.saturating_sub(current) as u64).saturating_mul(unit);
        self.0.more(bytes).map_err(wasmtime::Error::new)
    }
}

impl ResourceLimiter for Limiter {
    /// Over the guest's own declared maximum it gets -1 as the specification says; over its
    /// limit it ends, as a process does that the kernel's OOM killer finds.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(current, desired, 1).map(|()| true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(current, desired, TABLE_ELEMENT).map(|()| true)
    }

    /// Machine code with more is not made.
    fn memories(&self) -> usize {
        MOST_MEMORIES
    }
}
