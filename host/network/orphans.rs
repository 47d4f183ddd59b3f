//! Plugins that outlived the daemon which ran them. Until an ADD has ended, a DEL would miss
//! what it still makes; so they are waited for, and killed only when their time is over.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::model::ids::{SandboxId, ShimId};

/// Tells whose a plugin is: the daemon's name, a space, its journal's folder. Plugins hand it down
/// to what they run, as they do CNI's own variables.
const MARK: &str = "WASMPOD_NETWORK";
const SANDBOX: &str = "CNI_CONTAINERID";

/// A daemon, as its plugins' processes tell it from the ones before and beside it.
#[derive(Clone, Debug)]
pub struct Owner {
    journal: PathBuf,
    name: String,
}

/// What a plugin was run for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// ADD, CHECK or DEL.
    Sandbox(SandboxId),
    /// VERSION, STATUS or GC.
    Network,
}

impl Owner {
    pub fn new(journal: PathBuf) -> Self {
        // Any random word does.
        Self { journal, name: ShimId::random().to_string() }
    }

    /// A variable of every plugin's environment.
    pub fn mark(&self) -> (&'static str, String) {
        (MARK, format!("{} {}", self.name, self.journal.display()))
    }

    /// What the last daemon's plugins still work for. Blocks.
    pub fn orphaned(&self) -> BTreeSet<Work> {
        self.orphans().into_iter().map(|(_, work)| work).collect()
    }

    /// Waits until no orphan is at this work, killing what is left after `limit`. Meanwhile this
    /// daemon must begin nothing for the same sandbox.
    pub async fn settle(&self, work: Work, limit: Duration) {
        let begun = Instant::now();
        loop {
            let (owner, wanted) = (self.clone(), work.clone());
            let found = tokio::task::spawn_blocking(move || {
                let orphans = owner.orphans().into_iter();
                let orphans = orphans.filter(|(_, work)| *work == wanted);
                orphans.filter_map(|(pid, _)| Process::open(pid)).collect()
            });
            let processes: Vec<Process> = found.await.unwrap_or_default();
            if processes.is_empty() {
                return;
            }
            let is_late = begun.elapsed() >= limit;
            if is_late {
                tracing::warn!(?work, "a CNI plugin of the last daemon hangs and is killed");
                for process in &processes {
                    process.kill();
                }
            }
            let end = if is_late { limit * 2 } else { limit };
            let ended = futures::future::join_all(processes.iter().map(Process::ended));
            let left = end.saturating_sub(begun.elapsed());
            if tokio::time::timeout(left, ended).await.is_err() && is_late {
                return;
            }
        }
    }

    fn orphans(&self) -> Vec<(Pid, Work)> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .filter_map(|entry| {
                let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
                // A process that has ended or is another user's cannot be read.
                let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
                Some((Pid::from_raw(pid)?, self.work(&environment)?))
            })
            .collect()
    }

    /// What a process with this environment does for a daemon that came before this one.
    fn work(&self, environment: &[u8]) -> Option<Work> {
        let value = |name: &str| {
            environment.split(|byte| *byte == 0).find_map(|variable| {
                std::str::from_utf8(variable).ok()?.strip_prefix(name)?.strip_prefix('=')
            })
        };
        let mark = value(MARK).and_then(|mark| mark.split_once(' '));
        if mark.is_some_and(|(name, _)| name == self.name) {
            return None;
        }
        // An id is one sandbox's anywhere; the rest has to be this folder's.
        match value(SANDBOX).and_then(SandboxId::parse) {
            Some(id) => Some(Work::Sandbox(id)),
            None => (self.journal.to_str() == mark.map(|(_, of)| of)).then_some(Work::Network),
        }
    }
}

/// A process that is nobody's child here.
struct Process(AsyncFd<OwnedFd>);

impl Process {
    /// `None` once it has ended.
    fn open(pid: Pid) -> Option<Self> {
        let process = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
        // Deprecated for types that may change their descriptor; an `OwnedFd` does not, and its
        // replacement is unsafe.
        #[allow(deprecated)]
        AsyncFd::with_interest(process, Interest::READABLE).ok().map(Self)
    }

    fn kill(&self) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(self.0.get_ref(), Signal::KILL);
    }

    async fn ended(&self) {
        let _ = self.0.readable().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn hanging(variables: &[(&str, String)]) -> Child {
        let variables = variables.iter().cloned();
        Command::new("sleep").arg("1000").envs(variables).spawn().unwrap()
    }

    #[tokio::test]
    async fn a_plugin_is_waited_for_and_killed_when_its_time_is_over() {
        let (gone, own) = (Owner::new("/a b".into()), Owner::new("/a b".into()));
        let id = SandboxId::random();
        let of_sandbox = Work::Sandbox(id.clone());
        let mut hanging = [
            hanging(&[(SANDBOX, id.to_string())]),
            hanging(&[gone.mark(), (SANDBOX, "none".into())]),
        ];
        let both = [of_sandbox.clone(), Work::Network];
        while !both.iter().all(|work| own.orphaned().contains(work)) {
            tokio::task::yield_now().await;
        }
        own.settle(of_sandbox.clone(), Duration::from_millis(50)).await;
        assert!(!hanging[0].wait().unwrap().success());
        assert!(!own.orphaned().contains(&of_sandbox) && own.orphaned().contains(&Work::Network));
        own.settle(of_sandbox, Duration::from_secs(1000)).await;
        own.settle(Work::Network, Duration::from_millis(50)).await;
        assert!(!hanging[1].wait().unwrap().success());
    }

    #[test]
    fn neither_its_own_nor_anybody_elses_is_an_orphan() {
        let own = Owner::new("/root/network".into());
        let other = Owner::new("/other/network".into());
        let id = SandboxId::random();
        let work = |mark: (&str, String), id: &str| {
            own.work(format!("A=B\0{}={}\0{SANDBOX}={id}\0", mark.0, mark.1).as_bytes())
        };
        assert_eq!(work(own.mark(), id.as_str()), None);
        assert_eq!(work(own.mark(), "none"), None);
        assert_eq!(work(other.mark(), "none"), None);
        assert_eq!(own.work(b"A=B\0"), None);
        let before = Owner::new("/root/network".into());
        assert_eq!(work(before.mark(), "none"), Some(Work::Network));
        assert_eq!(work(before.mark(), id.as_str()), Some(Work::Sandbox(id)));
    }
}
