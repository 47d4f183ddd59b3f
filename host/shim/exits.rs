//! What is known of containers' ends: appended to the journal first, then told to every
//! listener, and kept until the daemon says that it has them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::Stream;
use futures::stream;
use tokio::sync::watch;

use super::lock;
use crate::error::{Error, Result};
use crate::model::exits::{ExitRecord, JOURNAL};

/// Bytes of journal from which on it is emptied when the daemon has everything.
const JOURNAL_ROOM: u64 = 1 << 20;

pub struct Exits {
    kept: Mutex<Kept>,
    /// The number that the next exit gets.
    next: watch::Sender<u64>,
}

struct Kept {
    journal: File,
    /// By number, oldest first.
    pending: BTreeMap<u64, ExitRecord>,
}

impl Exits {
    /// Opens the journal in a shim's folder.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(JOURNAL);
        let journal = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io(format!("opening {}", path.display())))?;
        Ok(Self {
            kept: Mutex::new(Kept { journal, pending: BTreeMap::new() }),
            next: watch::Sender::new(0),
        })
    }

    /// Records an exit. It is in the journal before anybody is told.
    pub fn record(&self, record: ExitRecord) {
        let line = record.to_line();
        let mut kept = lock(&self.kept);
        if let Err(error) = kept.journal.write_all(line.as_bytes()) {
            // The exit is still told; only a shim killed before the daemon hears it loses it.
            tracing::error!(container = record.container, %error, "cannot append to the exits journal");
        }
        let number = *self.next.borrow();
        kept.pending.insert(number, record);
        self.next.send_replace(number + 1);
    }

    /// The daemon has these.
    pub fn acknowledge<'a>(&self, containers: impl Iterator<Item = &'a str>) {
        let done: std::collections::HashSet<&str> = containers.collect();
        let mut kept = lock(&self.kept);
        kept.pending.retain(|_, record| !done.contains(record.container.as_str()));
        let long = |file: &File| file.metadata().is_ok_and(|meta| meta.len() > JOURNAL_ROOM);
        if kept.pending.is_empty()
            && long(&kept.journal)
            && let Err(error) = kept.journal.set_len(0)
        {
            tracing::warn!(%error, "cannot empty the exits journal");
        }
    }

    /// Every exit that is not acknowledged, then each new one, without end.
    pub fn listen(self: &Arc<Self>) -> impl Stream<Item = ExitRecord> + Send + use<> {
        let news = self.next.subscribe();
        stream::unfold((self.clone(), 0, news), |(exits, from, mut news)| async move {
            loop {
                news.mark_unchanged();
                let found = {
                    let kept = lock(&exits.kept);
                    kept.pending.range(from..).next().map(|(n, record)| (*n, record.clone()))
                };
                if let Some((number, record)) = found {
                    return Some((record, (exits, number + 1, news)));
                }
                news.changed().await.ok()?;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::{Exit, Reason};
    use futures::StreamExt;

    fn record(container: &str) -> ExitRecord {
        let exit =
            Exit { code: 0, reason: Reason::Completed, message: String::new(), finished_at: 2 };
        ExitRecord { container: container.to_owned(), sandbox: "s".to_owned(), started_at: 1, exit }
    }

    #[tokio::test]
    async fn a_listener_gets_what_is_not_acknowledged_then_what_follows() {
        let dir = tempfile::tempdir().expect("a folder");
        let exits = Arc::new(Exits::open(dir.path()).expect("opens"));
        for name in ["a", "b", "c"] {
            exits.record(record(name));
        }
        exits.acknowledge(["b"].into_iter());
        let mut heard = Box::pin(exits.listen());
        let mut next = async || heard.next().await.map(|record| record.container);
        assert_eq!(next().await.as_deref(), Some("a"));
        assert_eq!(next().await.as_deref(), Some("c"));
        exits.record(record("d"));
        assert_eq!(next().await.as_deref(), Some("d"));

        let journal = std::fs::read(dir.path().join(JOURNAL)).expect("reads");
        let names: Vec<_> =
            crate::model::exits::parse(&journal).into_iter().map(|r| r.container).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
    }
}
