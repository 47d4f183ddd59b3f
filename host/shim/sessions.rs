//! What runs in a container besides its main program (execs, look-ups): each can be ended, and a
//! container's root is taken down only after the last one has gone.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::kill::Kill;
use super::lock;

#[derive(Default)]
pub struct Sessions {
    open: Mutex<Open>,
    one_less: Condvar,
}

#[derive(Default)]
struct Open {
    closed: bool,
    next: u64,
    live: HashMap<u64, Arc<Kill>>,
}

/// One session; over when dropped, so it is dropped after everything it had open.
pub struct Session {
    sessions: Arc<Sessions>,
    number: u64,
}

impl Sessions {
    /// Begins a session that `kill` ends; `None` when the container takes none any more.
    pub fn begin(self: &Arc<Self>, kill: Arc<Kill>) -> Option<Session> {
        let mut open = lock(&self.open);
        if open.closed {
            return None;
        }
        let number = open.next;
        open.next += 1;
        open.live.insert(number, kill);
        Some(Session { sessions: self.clone(), number })
    }

    /// Takes no new session.
    pub fn close(&self) {
        lock(&self.open).closed = true;
    }

    /// Ends all sessions and waits for them on this thread, at most `patience`. Returns how many
    /// are left.
    pub fn end(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        let mut open = lock(&self.open);
        open.closed = true;
        for kill in open.live.values() {
            kill.kill();
        }
        while !open.live.is_empty() && Instant::now() < deadline {
            open =
                self.one_less.wait_timeout(open, pause).unwrap_or_else(PoisonError::into_inner).0;
            for kill in open.live.values() {
                kill.interrupt();
            }
            pause = (pause * 2).min(super::container::LONGEST_PAUSE);
        }
        open.live.len()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        lock(&self.sessions.open).live.remove(&self.number);
        self.sessions.one_less.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ending_waits_until_the_last_session_has_gone() {
        crate::shim::kill::install_wake_signal();
        let engines = crate::engine::Engines::plain();
        let sessions = Arc::new(Sessions::default());
        let kill = Arc::new(Kill::new(engines));
        let session = sessions.begin(kill.clone()).expect("it is open");
        let sleeper = std::thread::spawn(move || {
            let ended = kill.sleep_until(None);
            drop(session);
            ended
        });
        assert_eq!(sessions.end(Duration::from_secs(10)), 0);
        assert!(sleeper.join().expect("ends well").is_err());
    }

    #[test]
    fn a_closed_container_takes_no_session() {
        let engines = crate::engine::Engines::plain();
        let sessions = Arc::new(Sessions::default());
        sessions.close();
        assert!(sessions.begin(Arc::new(Kill::new(engines))).is_none());
        assert_eq!(sessions.end(Duration::ZERO), 0);
    }
}
