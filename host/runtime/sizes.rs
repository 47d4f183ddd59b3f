//! The sizes of containers' writable roots, measured behind everybody's back: whoever asks gets
//! what is known, and waits a moment at most for what is not. A root with many entries holds up
//! no other one.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::footprint::{Progress, Size, Walk};
use crate::model::ids::ContainerId;

/// How old a size may be before it is measured again.
const FRESH: Duration = Duration::from_secs(10);
/// How old a size may be before its successor is waited for.
const OLD: Duration = Duration::from_secs(30);
/// When a size that nobody asks for any more is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// How long an answer waits for sizes.
const PATIENCE: Duration = Duration::from_millis(500);
/// Entries of a root that is measured in its turn; a longer one waits until the others are done.
const SHORT: u64 = 20_000;
/// How often a root is measured whose folders the guest moves meanwhile.
const TRIES: u32 = 3;

/// A container and the folder to measure.
pub type Root = (ContainerId, PathBuf);

#[derive(Default)]
pub struct Sizes {
    state: Mutex<State>,
    progress: Notify,
}

#[derive(Default)]
struct State {
    known: HashMap<ContainerId, Known>,
    under_way: HashMap<ContainerId, Lane>,
    long: VecDeque<Root>,
    /// Whether a thread works on `long`.
    is_manned: bool,
}

#[derive(Clone, Copy)]
struct Known {
    when: Instant,
    size: Size,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Short,
    Long,
}

/// The sizes as they are known now.
pub struct Reading<'a>(MutexGuard<'a, State>);

impl Reading<'_> {
    /// `None` where it was not measured yet.
    pub fn get(&self, id: &ContainerId) -> Option<Size> {
        self.0.known.get(id).map(|known| known.size)
    }
}

impl Sizes {
    pub fn read(&self) -> Reading<'_> {
        Reading(self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that the sizes are measured which are not fresh, and waits a moment for those
    /// that are not known or old.
    pub async fn refresh<'a>(
        self: &Arc<Self>,
        ids: impl Iterator<Item = &'a ContainerId> + Clone,
        root: impl Fn(&ContainerId) -> PathBuf,
    ) {
        let stale = self.take_stale(ids.clone());
        if !stale.is_empty() {
            let roots = stale.into_iter().map(|id| (id.clone(), root(id))).collect();
            let sizes = self.clone();
            tokio::task::spawn_blocking(move || sizes.measure_all(roots));
        }
        // What is not measured in time is told as it was known before.
        let _ = tokio::time::timeout(PATIENCE, self.settled(ids)).await;
    }

    /// Those that have to be measured, now under way.
    fn take_stale<'a>(&self, ids: impl Iterator<Item = &'a ContainerId>) -> Vec<&'a ContainerId> {
        let now = Instant::now();
        let mut state = self.lock();
        let is_stale = |state: &State, id: &ContainerId| {
            let is_fresh = |known: &Known| now.duration_since(known.when) < FRESH;
            !state.known.get(id).is_some_and(is_fresh) && !state.under_way.contains_key(id)
        };
        let mut stale = Vec::new();
        for id in ids {
            if is_stale(&state, id) {
                state.under_way.insert(id.clone(), Lane::Short);
                stale.push(id);
            }
        }
        stale
    }

    async fn settled<'a>(&self, ids: impl Iterator<Item = &'a ContainerId> + Clone) {
        loop {
            let mut progress = std::pin::pin!(self.progress.notified());
            progress.as_mut().enable();
            if !self.is_awaited(ids.clone()) {
                return;
            }
            progress.await;
        }
    }

    /// Whether one of them will be known better in a moment, and should be.
    fn is_awaited<'a>(&self, mut ids: impl Iterator<Item = &'a ContainerId>) -> bool {
        let (now, state) = (Instant::now(), self.lock());
        if state.under_way.is_empty() {
            return false;
        }
        let is_old = |known: &Known| now.duration_since(known.when) >= OLD;
        ids.any(|id| {
            state.under_way.get(id) == Some(&Lane::Short) && state.known.get(id).is_none_or(is_old)
        })
    }

    /// Blocks until the short ones are measured; and the long ones, unless another thread does it.
    fn measure_all(&self, roots: Vec<Root>) {
        for (id, folder) in roots {
            match measure(&folder, SHORT) {
                Some(size) => self.learn(id, size),
                None => {
                    let mut state = self.lock();
                    state.under_way.insert(id.clone(), Lane::Long);
                    state.long.push_back((id, folder));
                }
            }
        }
        self.lock().known.retain(|_, known| known.when.elapsed() < FORGOTTEN);
        self.progress.notify_waiters();
        if std::mem::replace(&mut self.lock().is_manned, true) {
            return;
        }
        while let Some((id, folder)) = self.next_long() {
            self.learn(id, measure(&folder, u64::MAX).unwrap_or_default());
        }
    }

    /// For the one thread that works on the long ones; without a next one, it is none any more.
    fn next_long(&self) -> Option<Root> {
        let mut state = self.lock();
        let next = state.long.pop_front();
        state.is_manned = next.is_some();
        next
    }

    fn learn(&self, id: ContainerId, size: Size) {
        let mut state = self.lock();
        state.under_way.remove(&id);
        state.known.insert(id, Known { when: Instant::now(), size });
    }
}

/// `None` where there is more than `entries`. A folder that is not there holds nothing; of one
/// that never holds still, the most that was seen counts.
fn measure(folder: &Path, entries: u64) -> Option<Size> {
    let mut most = Size::default();
    for _ in 0..TRIES {
        let Some(mut walk) = Walk::new(folder) else { break };
        match walk.go(entries) {
            Progress::Finished(size) => return Some(size),
            Progress::Unfinished => return None,
            Progress::Astray(seen) if seen.bytes >= most.bytes => most = seen,
            Progress::Astray(_) => {}
        }
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_root_with_many_entries_is_known_later_and_holds_up_no_other() {
        let base = tempfile::tempdir().unwrap();
        let (long, short) = (ContainerId::random(), ContainerId::random());
        let root = |id: &ContainerId| base.path().join(id.as_str());
        for id in [&long, &short] {
            std::fs::create_dir(root(id)).unwrap();
        }
        // Names of one file cost little to make.
        std::fs::write(root(&long).join("0"), "").unwrap();
        for name in 1..=SHORT {
            std::fs::hard_link(root(&long).join("0"), root(&long).join(name.to_string())).unwrap();
        }
        std::fs::write(root(&short).join("file"), [1; 5000]).unwrap();
        let sizes = Arc::new(Sizes::default());
        sizes.refresh([&long, &short].into_iter(), root).await;
        let known = sizes.read().get(&short).expect("it is waited for");
        assert_eq!(known.inodes, 1);
        assert!(known.bytes >= 5000);
        let deadline = Instant::now() + Duration::from_secs(20);
        while sizes.read().get(&long).is_none() {
            assert!(Instant::now() < deadline, "the long one is never known");
            tokio::task::yield_now().await;
        }
        let known = sizes.read().get(&long).expect("it is known");
        assert_eq!(known.inodes, 1);
        // Fresh ones are not measured again.
        std::fs::remove_dir_all(root(&short)).unwrap();
        sizes.refresh([&long, &short].into_iter(), root).await;
        assert_eq!(sizes.read().get(&short).map(|size| size.inodes), Some(1));
        let state = sizes.lock();
        assert!(state.under_way.is_empty() && !state.is_manned);
    }
}
