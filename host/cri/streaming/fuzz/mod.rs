//! Clients that say whatever, against the server's own code over connections in memory. What is
//! asked of every session: no panic, an end soon after its client's, memory within the bounds
//! that the code states, and answers that can be read.
//!
//! `WASMPOD_FUZZ_SECONDS` says for how long (2); `WASMPOD_FUZZ_SEED` repeats one session.

mod answers;
mod client;
mod frames;
mod memory;
mod remotecommand;
mod spdy;

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;

use super::flow::WAITING;
use crate::wait::eventually;

/// Longest that a session may take. Ten seconds are what a pod has for the last bytes of a client,
/// and what a client has to go; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Bytes on the heap while a session lives, its client's included: what may wait, twice
/// (`flow`), and what 64 streams that nobody has taken yet, the buffers and zlib come to.
const MOST: isize = 2 * WAITING as isize + (8 << 20);

/// Marsaglia's xorshift: enough, and the same everywhere.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Seeds that follow each other begin far from each other.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let count = self.below(most);
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    /// One of its own, for another task.
    fn another(&mut self) -> Self {
        Self::new(self.next())
    }
}

thread_local! {
    /// Tasks of a session run on the test's own thread; the runtime keeps their panics.
    static HAS_PANICKED: Cell<bool> = const { Cell::new(false) };
}

fn notice_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let _ = HAS_PANICKED.try_with(|has| has.set(true));
            before(panic);
        }));
    });
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Has `session` begin and end again and again, each with other random numbers.
fn fuzz<S: Future<Output = ()>>(name: &str, session: impl Fn(Random) -> S) {
    notice_panics();
    if let Some(seed) = variable("WASMPOD_FUZZ_SEED") {
        return one(name, seed, &session);
    }
    let begun = Instant::now();
    let first = UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seconds = variable("WASMPOD_FUZZ_SECONDS").unwrap_or(2);
    let mut count = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        one(name, first.wrapping_add(count), &session);
        count += 1;
    }
    println!("{name}: {count} sessions");
}

fn one<S: Future<Output = ()>>(name: &str, seed: u64, session: &impl Fn(Random) -> S) {
    HAS_PANICKED.set(false);
    let before = memory::mark();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ended = timeout(SOON, session(Random::new(seed))).await;
            assert!(ended.is_ok(), "the session does not end");
            let tasks = Handle::current().metrics();
            let over = || (tasks.num_alive_tasks() == 0).then_some(());
            eventually("the session's tasks have ended", over).await;
        });
    }));
    let most = memory::most() - before;
    let is_well = ended.is_ok() && !HAS_PANICKED.get();
    assert!(is_well, "{name}: a fault; WASMPOD_FUZZ_SEED={seed} repeats it");
    assert!(most <= MOST, "{name}: {most} bytes at once; WASMPOD_FUZZ_SEED={seed} repeats it");
}
