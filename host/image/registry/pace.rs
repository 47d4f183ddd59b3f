//! Tells a slow connection from one that only pretends to live: a byte now and then keeps every
//! timeout of a single read away.

use std::time::{Duration, Instant};

use super::fault::Fault;

/// Bytes that have to come within the time that [`Pace`] is given.
const LEAST: u64 = 64 << 10;

pub struct Pace {
    within: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    pub fn new(within: Duration) -> Self {
        Self { within, since: Instant::now(), bytes: 0 }
    }

    /// Counts what came from `place`; an error when that is too little.
    pub fn keep(&mut self, bytes: usize, place: &str) -> Result<(), Fault> {
        self.bytes += bytes as u64;
        if self.since.elapsed() < self.within {
            return Ok(());
        }
        let enough = self.bytes >= LEAST;
        (self.since, self.bytes) = (Instant::now(), 0);
        let slow = || Fault::unavailable(format!("registry {place} sends too slowly"));
        if enough { Ok(()) } else { Err(slow()) }
    }
}
