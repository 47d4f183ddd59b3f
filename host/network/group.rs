//! The process groups of plugins at work: whatever ends a call before its plugin has ended, a
//! dropped future or the daemon's end, ends the plugin and what it began. Nothing is lost by
//! that: what an ADD or DEL that was cut short leaves is in the journal, and the next DEL's.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

#[derive(Debug, Default)]
pub struct Groups {
    /// Whether no plugin is begun any more. Held for reading while one is begun, so that the end
    /// misses none.
    ended: RwLock<bool>,
    running: Mutex<HashSet<Pid>>,
}

impl Groups {
    fn running(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a plugin in a group of its own; an error after [`Groups::end`].
    pub fn spawn(self: &Arc<Self>, command: &mut Command) -> io::Result<(Child, Group)> {
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Err(io::Error::other("the daemon is ending"));
        }
        let child = command.process_group(0).spawn()?;
        let leader = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        self.running().extend(leader);
        Ok((child, Group { all: self.clone(), leader }))
    }

    /// Ends every plugin, and lets no other begin: for the daemon's end.
    pub fn end(&self) {
        *self.ended.write().unwrap_or_else(PoisonError::into_inner) = true;
        for leader in self.running().drain() {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// One plugin's group, killed when this is dropped.
#[derive(Debug)]
pub struct Group {
    all: Arc<Groups>,
    leader: Option<Pid>,
}

impl Group {
    /// For a plugin that was waited for: from then on its group's number may be another's.
    pub fn forget(mut self) {
        if let Some(leader) = self.leader.take() {
            self.all.running().remove(&leader);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(leader) = self.leader else { return };
        let mut running = self.all.running();
        if running.remove(&leader) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}
