//! Tells a slow connection from one that only pretends to live: each step of a conversation has
//! its time, and a byte now and then does not count as progress.

use std::future::Future;
use std::time::{Duration, Instant};

use super::fault::{Fault, Outcome};

/// One step of a conversation with `place`, which may not keep us waiting for longer than `most`.
/// The client's own timeouts would count the sending of a large blob as waiting.
pub async fn within<T>(
    most: Duration,
    place: &str,
    step: impl Future<Output = reqwest::Result<T>>,
) -> Outcome<T> {
    match tokio::time::timeout(most, step).await {
        Ok(done) => done.map_err(|error| Fault::of_request(place, &error)),
        Err(_) => Err(silent(place)),
    }
}

/// Nothing comes from `place` any more.
pub fn silent(place: &str) -> Fault {
    Fault::unavailable(format!("registry {place} broke off: it does not answer"))
}

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
    pub fn keep(&mut self, bytes: usize, place: &str) -> Outcome<()> {
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
