//! What threads have done, as the kernel counts it.

use std::ops::AddAssign;

/// Counted since the threads' births.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub user_nanos: u64,
    pub system_nanos: u64,
    /// Page faults, major ones included.
    pub faults: u64,
    /// Those that waited for a disk.
    pub major_faults: u64,
    /// Calls that read and wrote, of whatever descriptor.
    pub reads: u64,
    pub writes: u64,
    /// Bytes that came from a disk, and those that are to go to one.
    pub read_bytes: u64,
    pub written_bytes: u64,
}

impl Work {
    /// Of two counts of the same thing what is more of each: counters never go back.
    pub fn max(self, other: Self) -> Self {
        Self {
            user_nanos: self.user_nanos.max(other.user_nanos),
            system_nanos: self.system_nanos.max(other.system_nanos),
            faults: self.faults.max(other.faults),
            major_faults: self.major_faults.max(other.major_faults),
            reads: self.reads.max(other.reads),
            writes: self.writes.max(other.writes),
            read_bytes: self.read_bytes.max(other.read_bytes),
            written_bytes: self.written_bytes.max(other.written_bytes),
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.user_nanos += other.user_nanos;
        self.system_nanos += other.system_nanos;
        self.faults += other.faults;
        self.major_faults += other.major_faults;
        self.reads += other.reads;
        self.writes += other.writes;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, work| {
            sum += work;
            sum
        })
    }
}
