//! How often and how soon a request is made again. Pure but for the dice.

use std::time::Duration;

use crate::config::RegistryConfig;

const LONGEST: Duration = Duration::from_secs(10);
/// A registry that wants us to wait longer is unavailable.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries after the first.
    pub retries: u32,
    first: Duration,
}

impl Patience {
    pub fn new(config: &RegistryConfig) -> Self {
        Self { retries: config.retries, first: Duration::from_millis(config.retry_ms) }
    }

    /// With fewer tries.
    pub fn at_most(self, retries: u32) -> Self {
        Self { retries: self.retries.min(retries), ..self }
    }

    /// The wait before try number `tried` (1 is the second one), no shorter than `asked`; `None`
    /// when there is to be none.
    pub fn wait(&self, tried: u32, asked: Option<Duration>) -> Option<Duration> {
        if tried > self.retries || asked.is_some_and(|asked| asked > LONGEST_ASKED) {
            return None;
        }
        let doubled = self.first.saturating_mul(2u32.saturating_pow(tried.saturating_sub(1)));
        // Between half and the whole, so that many who failed together do not return together.
        let mut dice = [0u8; 1];
        let part = getrandom::fill(&mut dice).map_or(256, |()| 128 + u32::from(dice[0]) / 2);
        let wait = doubled.min(LONGEST).saturating_mul(part) / 256;
        Some(asked.map_or(wait, |asked| asked.max(wait)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(retries: u32) -> Patience {
        Patience { retries, first: Duration::from_millis(200) }
    }

    #[test]
    fn waits_double_up_to_ten_seconds() {
        for (tried, most) in [(1, 200), (2, 400), (3, 800), (9, 10_000), (90, 10_000)] {
            let wait = patience(100).wait(tried, None).unwrap().as_millis();
            assert!(wait >= most / 2 && wait <= most, "{tried}: {wait}");
        }
        assert_eq!(patience(2).wait(3, None), None);
    }

    #[test]
    fn a_registry_is_waited_for_as_it_asks_but_not_for_ever() {
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(patience(5).wait(1, asked(7)), asked(7));
        assert_eq!(patience(5).wait(1, asked(3600)), None);
    }
}
