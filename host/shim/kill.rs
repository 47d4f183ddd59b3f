//! One switch that ends a running guest from outside, wherever it is: in wasm code, asleep, in
//! an async wait, or in a system call. Knows nothing of containers or how they report.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Engines;
use tokio::sync::watch;

/// Shared by a guest's thread and whoever may end it.
pub struct Kill {
    engines: Engines,
    stage: watch::Sender<Stage>,
    sleepers: (Mutex<()>, Condvar),
    threads: Mutex<HashSet<i32>>,
    /// What its end counts as.
    signal: AtomicU32,
}

/// What an end counts as that nobody has said more of.
const SIGKILL: u32 = 9;

/// How near its end a guest is. It only ever goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Wanted,
    /// It may finish what it has begun.
    Asked,
    Killed,
}

/// The error that an epoch callback or host function returns when the guest was killed: tells
/// this end from every other trap.
#[derive(Debug, thiserror::Error)]
#[error("killed")]
pub struct Killed;

impl Kill {
    pub fn new(engines: Engines) -> Self {
        Self {
            engines,
            stage: watch::Sender::new(Stage::Wanted),
            sleepers: (Mutex::new(()), Condvar::new()),
            threads: Mutex::new(HashSet::new()),
            signal: AtomicU32::new(SIGKILL),
        }
    }

    pub fn is_killed(&self) -> bool {
        *self.stage.borrow() == Stage::Killed
    }

    /// `Err(Killed)` once killed: for host functions, before and after they block.
    pub fn check(&self) -> Result<(), Killed> {
        if self.is_killed() { Err(Killed) } else { Ok(()) }
    }

    /// Asks the guest to end by itself, if it hears such things.
    pub fn ask(&self) {
        self.stage.send_if_modified(|stage| {
            let asked = *stage == Stage::Wanted;
            if asked {
                *stage = Stage::Asked;
            }
            asked
        });
    }

    /// Ends the guest: wakes sleepers and async waits, stops wasm code at its next loop or call,
    /// interrupts system calls. Returns at once; [`Kill::interrupt`] is to be repeated until the
    /// threads are gone, because a signal can come just before a system call begins.
    pub fn kill(&self) {
        self.stage.send_replace(Stage::Killed);
        drop(self.sleepers.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.sleepers.1.notify_all();
        self.interrupt();
    }

    /// As [`Kill::kill`], and says by which signal.
    pub fn kill_by(&self, signal: u32) {
        self.signal.store(signal, Ordering::Relaxed);
        self.kill();
    }

    /// What a kill counts as.
    pub fn signal(&self) -> u32 {
        self.signal.load(Ordering::Relaxed)
    }

    /// Sends the wake-up signal to every thread that may be in a system call for this guest, and
    /// moves the epoch on for one that was just re-arming its deadline.
    pub fn interrupt(&self) {
        self.engines.increment_epoch();
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for &tid in threads.iter() {
            // SAFETY: tgkill takes plain numbers; the tids are this process's own and cannot
            // have been reused, since a thread leaves the set (under this lock) before it ends.
            unsafe {
                libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, wake_signal());
            }
        }
    }

    /// The threads that are registered now.
    pub fn threads(&self) -> Vec<i32> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Resolves once killed.
    pub async fn killed(&self) {
        self.reaches(Stage::Killed).await;
    }

    /// Resolves once asked to end, or killed.
    pub async fn asked(&self) {
        self.reaches(Stage::Asked).await;
    }

    async fn reaches(&self, wanted: Stage) {
        let mut stage = self.stage.subscribe();
        // The sender lives in self, so waiting ends only by what is waited for.
        let _ = stage.wait_for(|stage| *stage >= wanted).await;
    }

    /// Sleeps on this thread until `deadline` (`None`: for ever); `Err` once killed.
    pub fn sleep_until(&self, deadline: Option<Instant>) -> Result<(), Killed> {
        let mut guard = self.sleepers.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.check()?;
            let left = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Ok(()),
                Some(left) => left,
                None => Duration::from_secs(3600),
            };
            guard =
                self.sleepers.1.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Registers the calling thread as one that makes this guest's system calls, until the
    /// returned value is dropped on the same thread.
    pub fn enter(&self) -> Entered<'_> {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).insert(tid);
        Entered { kill: self, tid }
    }
}

pub struct Entered<'a> {
    kill: &'a Kill,
    tid: i32,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.kill.threads.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.tid);
    }
}

/// The signal that interrupts system calls: a real-time one that nothing else uses.
fn wake_signal() -> i32 {
    libc::SIGRTMIN() + 4
}

extern "C" fn woken(_: i32) {}

/// Installs the wake-up signal's handler, without SA_RESTART so that system calls return EINTR.
/// Once per process, before the first guest.
pub fn install_wake_signal() {
    // SAFETY: a zeroed sigaction is valid; the handler does nothing, so it is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(i32) = woken;
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigaction(wake_signal(), &action, std::ptr::null_mut());
    }
}
