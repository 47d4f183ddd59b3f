//! Moments at which something is killed: the same ones for the same seed.

use std::time::Duration;

use tokio::task::JoinHandle;

pub struct Moments(u64);

impl Moments {
    pub fn new(seed: u64) -> Self {
        Self(88172645463325252 ^ seed)
    }

    /// How long to wait for the next one, less than `most`.
    pub fn next(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % u64::try_from(most.as_millis()).unwrap())
    }

    /// Comes to the next one while workers that never end work.
    pub async fn pass(&mut self, most: Duration, workers: &mut [JoinHandle<()>]) {
        let ended = futures::future::select_all(workers);
        if let Ok((ended, ..)) = tokio::time::timeout(self.next(most), ended).await {
            panic!("a worker ended: {ended:?}");
        }
    }
}
