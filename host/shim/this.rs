//! What a container is told of itself and of its pod, and what it says of itself: that it hears of
//! its stop, and with which code it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use super::kill::Kill;
use crate::interface::About;
use crate::interface::types::ContainerState;

/// No code was said.
const NONE: u32 = u32::MAX;

pub struct This {
    /// [`About`] as JSON: few ask for it, so it is read when one does.
    about: Arc<[u8]>,
    /// The main program's.
    pub kill: Arc<Kill>,
    started_at: AtomicI64,
    hears: AtomicBool,
    /// Its main program is a service, of which no instance ends the whole by ending.
    serves: AtomicBool,
    code: AtomicU32,
}

impl This {
    pub fn new(about: Arc<[u8]>, kill: Arc<Kill>) -> Self {
        Self {
            about,
            kill,
            started_at: AtomicI64::new(0),
            hears: AtomicBool::new(false),
            serves: AtomicBool::new(false),
            code: AtomicU32::new(NONE),
        }
    }

    /// As it is now. The error says that the daemon which made the container told nothing.
    pub fn about(&self) -> Result<About, serde_json::Error> {
        let mut about: About = serde_json::from_slice(&self.about)?;
        about.container.state = ContainerState::Running;
        about.container.started_at = self.started_at.load(Ordering::Relaxed);
        Ok(about)
    }

    /// The main program is about to run.
    pub fn begin(&self, at: i64) {
        self.started_at.store(at, Ordering::Relaxed);
    }

    /// From now on it hears of its stop.
    pub fn listen(&self) {
        self.hears.store(true, Ordering::Release);
    }

    pub fn hears(&self) -> bool {
        self.hears.load(Ordering::Acquire)
    }

    pub fn serve(&self) {
        self.serves.store(true, Ordering::Release);
    }

    /// The main program ends with `code`; a service is ended by this, any other by itself.
    pub fn exit(&self, code: u8) {
        if self.serves.load(Ordering::Acquire) {
            self.code.store(code.into(), Ordering::Release);
            self.kill.kill();
        }
    }

    /// With which code a service has ended itself.
    pub fn code(&self) -> Option<u8> {
        u8::try_from(self.code.load(Ordering::Acquire)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engines;

    #[test]
    fn only_a_service_is_ended_from_outside_by_its_own_wish() {
        let this = This::new(Arc::new([]), Arc::new(Kill::new(Engines::plain())));
        assert!(this.about().is_err());
        this.exit(3);
        assert_eq!((this.code(), this.kill.is_killed()), (None, false));
        this.serve();
        this.exit(0);
        assert_eq!((this.code(), this.kill.is_killed()), (Some(0), true));
    }
}
