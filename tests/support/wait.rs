//! Waiting for a condition, with a deadline. Tests never sleep for a guess.

use std::future::Future;
use std::time::{Duration, Instant};

/// Long enough for a busy machine of two cores; a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(5);

/// Asks until there is an answer, and gives it. `what` is the sentence of the panic at the
/// deadline.
pub async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    eventually_async(what, || std::future::ready(ask())).await
}

/// As [`eventually`], for a question that takes a call to answer.
pub async fn eventually_async<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Moments at which something is killed: the same ones for the same seed.
pub struct Moments(u64);

impl Moments {
    pub fn new(seed: u64) -> Self {
        Self(88172645463325252 ^ seed)
    }

    /// Lets some time pass, less than `most`.
    pub async fn next(&mut self, most: Duration) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let millis = u64::try_from(most.as_millis()).unwrap();
        tokio::time::sleep(Duration::from_millis(self.0 % millis)).await;
    }
}
