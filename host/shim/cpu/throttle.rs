//! Holds a container to its quota without the kernel's help: what its threads have run together is
//! compared with what has come in meanwhile, and a guest that is ahead sleeps. Asked from the
//! epoch's callbacks; a thread's own timer moves the epoch on as it uses CPU time
//! ([`super::beat`]).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Threads;
use crate::model::cpu_time::Quota;
use crate::shim::kill::{Kill, Killed};
use crate::shim::lock;

/// How long a sleeper goes without a look at whether its quota is another now.
const SLICE: Duration = Duration::from_millis(50);

#[derive(Default)]
pub struct Throttle {
    is_set: AtomicBool,
    bucket: Mutex<Option<Bucket>>,
}

impl Throttle {
    /// Sets or removes the quota; `used` is what the threads have run until now, in nanoseconds.
    pub fn set(&self, quota: Option<Quota>, used: u64) {
        let mut bucket = lock(&self.bucket);
        *bucket = quota.map(|quota| Bucket::new(quota, Instant::now(), used));
        self.is_set.store(bucket.is_some(), Ordering::Release);
    }

    /// Returns when the calling thread may go on; `Err` once killed.
    pub fn wait(&self, threads: &Threads, kill: &Kill) -> Result<(), Killed> {
        while self.is_set.load(Ordering::Acquire) {
            let used = threads.cpu_nanos();
            let now = Instant::now();
            let pause = lock(&self.bucket).as_mut().and_then(|bucket| bucket.pause(now, used));
            let Some(pause) = pause else { break };
            kill.sleep_until(Some(now + pause.min(SLICE)))?;
        }
        Ok(())
    }
}

/// Fills at the quota's rate up to one period's, and is emptied by what runs.
struct Bucket {
    quota: Quota,
    /// Nanoseconds; below zero while the container is ahead.
    left: i128,
    at: Instant,
    used: u64,
}

impl Bucket {
    fn new(quota: Quota, at: Instant, used: u64) -> Self {
        Self { quota, left: i128::from(quota.micros) * 1000, at, used }
    }

    /// How long the container has to rest; `None`: not at all.
    fn pause(&mut self, now: Instant, used: u64) -> Option<Duration> {
        let (micros, period) = (i128::from(self.quota.micros), i128::from(self.quota.period));
        let passed = now.saturating_duration_since(self.at).as_nanos().cast_signed();
        let ran = i128::from(used.saturating_sub(self.used));
        (self.at, self.used) = (now.max(self.at), used.max(self.used));
        self.left = (self.left + passed * micros / period - ran).min(micros * 1000);
        if self.left >= 0 {
            return None;
        }
        let nanos = u64::try_from(-self.left * period / micros).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(nanos.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Guests that run in pieces and rest as told, on several threads.
        #[test]
        fn what_runs_is_the_quota_and_one_period_more_at_most(
            percent in 1u64..300,
            pieces in proptest::collection::vec(1u64..20_000_000, 200..400),
        ) {
            let quota = Quota { micros: percent * 1000, period: 100_000 };
            let begun = Instant::now();
            let (mut now, mut used) = (begun, 0);
            let mut bucket = Bucket::new(quota, begun, 0);
            for piece in &pieces {
                used += piece;
                now += Duration::from_nanos(*piece / 4);
                if let Some(pause) = bucket.pause(now, used) {
                    now += pause;
                }
            }
            prop_assert!(bucket.pause(now + Duration::from_nanos(1000), used).is_none());
            let passed = u64::try_from((now - begun).as_nanos()).unwrap();
            let allowed = passed / 100 * percent + quota.micros * 1000;
            prop_assert!(used <= allowed + 1_000_000, "{used} of {allowed}");
        }
    }

    #[test]
    fn who_has_rested_long_may_run_one_periods_quota_at_once() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(Quota { micros: 10_000, period: 100_000 }, begun, 0);
        let later = begun + Duration::from_secs(3600);
        assert_eq!(bucket.pause(later, 0), None);
        assert_eq!(bucket.pause(later, 10_000_000), None);
        assert_eq!(bucket.pause(later, 11_000_000), Some(Duration::from_millis(10)));
    }
}
