//! Moments at which something is killed: the same ones for the same seed.

use std::time::Duration;

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
