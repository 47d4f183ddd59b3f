//! Threads of a container that stayed in a system call although they were interrupted again and
//! again: counted from the moment they are given up until their call returns after all. Knows
//! nothing of what they were doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// How many there are now.
#[derive(Clone, Default)]
pub struct Stuck(Arc<AtomicU32>);

/// One thread's part in it, shared by the thread and whoever waits for it.
#[derive(Clone)]
pub struct Part {
    stuck: Stuck,
    state: Arc<AtomicU8>,
}

const WORKING: u8 = 0;
const LEFT: u8 = 1;
const OVER: u8 = 2;

impl Stuck {
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn part(&self) -> Part {
        Part { stuck: self.clone(), state: Arc::new(AtomicU8::new(WORKING)) }
    }
}

impl Part {
    /// Nobody waits for the thread any more; nothing where it is over at this moment.
    pub fn leave_behind(&self) {
        let left = self.state.compare_exchange(WORKING, LEFT, Ordering::AcqRel, Ordering::Acquire);
        if left.is_ok() {
            self.stuck.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From the thread: its work is over.
    pub fn over(&self) {
        if self.state.swap(OVER, Ordering::AcqRel) == LEFT {
            self.stuck.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_counts_from_being_left_until_it_is_over() {
        let stuck = Stuck::default();
        let (slow, late) = (stuck.part(), stuck.part());
        slow.leave_behind();
        slow.leave_behind();
        assert_eq!(stuck.count(), 1);
        late.over();
        late.leave_behind();
        assert_eq!(stuck.count(), 1);
        slow.over();
        slow.over();
        assert_eq!(stuck.count(), 0);
    }
}
