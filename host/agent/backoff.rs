//! The kubelet's back-off: who failed again and again waits longer and longer. Pure: time comes
//! in as nanoseconds since the Unix epoch.

use std::collections::HashMap;
use std::time::Duration;

/// Nanoseconds since the Unix epoch, as CRI's times are.
pub type Nanos = i64;

/// One back-off, for many keys (client-go's flowcontrol.Backoff).
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Nanos,
    longest: Nanos,
    entries: HashMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    wait: Nanos,
    updated: Nanos,
}

fn nanos(duration: Duration) -> Nanos {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Backoff {
    /// Waits `first` after the second failure, doubling up to `longest`. An entry is forgotten
    /// when the next failure comes more than twice `longest` after it.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first: nanos(first), longest: nanos(longest), entries: HashMap::new() }
    }

    /// What is left to wait at `now` for `key`, which failed at `failed`; `None` when it may go
    /// on. The first failure waits for nothing.
    pub fn left(&self, key: &str, failed: Nanos, now: Nanos) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        if self.is_over(entry, failed) {
            return None;
        }
        let left = failed.saturating_add(entry.wait).saturating_sub(now);
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_nanos)
    }

    /// The wait that holds for `key` now, whole.
    pub fn wait(&self, key: &str) -> Duration {
        let wait = self.entries.get(key).map_or(0, |entry| entry.wait);
        Duration::from_nanos(wait.unsigned_abs())
    }

    /// Notes that `key`, which failed at `failed`, is tried again at `now`.
    pub fn again(&mut self, key: &str, failed: Nanos, now: Nanos) {
        let wait = match self.entries.get(key) {
            Some(entry) if !self.is_over(entry, failed) => {
                entry.wait.saturating_mul(2).min(self.longest)
            }
            _ => self.first,
        };
        self.entries.insert(key.to_owned(), Entry { wait, updated: now });
    }

    fn is_over(&self, entry: &Entry, failed: Nanos) -> bool {
        failed.saturating_sub(entry.updated) > self.longest.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn kubelets() -> Backoff {
        Backoff::new(Duration::from_secs(10), Duration::from_secs(300))
    }

    /// Seconds waited before each of `count` restarts of something that runs for `runs` seconds.
    fn waits(runs: Nanos, count: usize) -> Vec<Nanos> {
        let mut backoff = kubelets();
        let mut now = 1_700_000_000 * SECOND;
        (0..count)
            .map(|_| {
                now += runs * SECOND;
                let failed = now;
                if let Some(left) = backoff.left("a", failed, now) {
                    now += nanos(left);
                }
                assert_eq!(backoff.left("a", failed, now), None);
                backoff.again("a", failed, now);
                (now - failed) / SECOND
            })
            .collect()
    }

    #[test]
    fn the_first_restart_is_at_once_then_ten_seconds_doubling_to_three_hundred() {
        assert_eq!(waits(1, 9), [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn who_ran_for_more_than_ten_minutes_starts_anew() {
        assert_eq!(waits(599, 3), [0, 10, 20]);
        assert_eq!(waits(601, 3), [0, 0, 0]);
    }

    #[test]
    fn keys_do_not_know_each_other() {
        let mut backoff = kubelets();
        backoff.again("a", SECOND, SECOND);
        assert_eq!(backoff.left("b", SECOND, SECOND), None);
        assert_eq!(backoff.left("a", SECOND, SECOND), Some(Duration::from_secs(10)));
    }
}
