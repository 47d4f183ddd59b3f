//! When a plugin that does not answer is given up for a while. Pure: the caller brings the time.

use std::time::{Duration, Instant};

/// Misses one after the other that open the circuit.
const MISSES: u32 = 3;

/// How long it stays open before the plugin is tried again.
const REST: Duration = Duration::from_secs(30);

/// Closed: the plugin is asked. Open: it is not, and its fail policy decides.
#[derive(Debug, Default)]
pub struct Circuit {
    misses: u32,
    opened: Option<Instant>,
}

impl Circuit {
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// True when this very miss opened it.
    pub fn missed(&mut self, now: Instant) -> bool {
        self.misses = self.misses.saturating_add(1);
        let opens = self.misses >= MISSES && self.is_closed(now);
        if opens {
            self.opened = Some(now);
        }
        opens
    }

    /// After its rest calls are let through, until one misses, which opens it again.
    pub fn is_closed(&self, now: Instant) -> bool {
        self.opened.is_none_or(|opened| now.duration_since(opened) >= REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_misses_in_a_row_open_it_for_a_while() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        assert!(!circuit.missed(now) && !circuit.missed(now) && circuit.is_closed(now));
        circuit.answered();
        assert!(!circuit.missed(now) && !circuit.missed(now));
        assert!(circuit.missed(now) && !circuit.is_closed(now));
        let later = now + REST;
        assert!(circuit.is_closed(later) && circuit.missed(later) && !circuit.is_closed(later));
        circuit.answered();
        assert!(circuit.is_closed(later));
    }
}
