//! The records: read from memory at once, changed durably by one writer thread. The thread
//! takes every request that waits, makes the changes on its own copy of the index, writes them
//! in one transaction, publishes them, and only then answers: what anybody sees is durable, but
//! for the passing steps ("creating", "starting") that recovery needs no word of. What a shim is
//! just making is written meanwhile ([`Records::foretell`]), so that the two take the time of one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{broadcast, oneshot, watch};

use super::change::{Change, Edit};
use super::db::Database;
use super::index::Index;
use super::news::{self, News};
use crate::error::{Error, Result};
use crate::model::container::{Container, ContainerVerb};
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::sandbox::{Sandbox, SandboxVerb};

/// Requests that one transaction takes at most.
const BATCH: usize = 256;

/// Now, in nanoseconds since the Unix epoch; never 0.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::from_nanos(1));
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX).max(1)
}

pub struct Records {
    index: Arc<RwLock<Index>>,
    turns: Arc<Turns>,
    requests: Sender<Request>,
    news: broadcast::Sender<News>,
}

struct Request {
    changes: Vec<Change>,
    lasting: Lasting,
    reply: oneshot::Sender<Result<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasting {
    Durable,
    /// Only as long as this daemon lives.
    Passing,
    /// Written, and not so yet.
    Ahead,
}

impl Records {
    pub fn open(file: &Path) -> Result<Self> {
        let database = Database::open(file)?;
        let own = database.load()?;
        let published = Arc::new(RwLock::new(own.clone()));
        let turns = Arc::new(Turns::default());
        let (requests, receiver) = channel();
        let news = broadcast::Sender::new(news::BACKLOG);
        let writer = Writer {
            database,
            own,
            published: published.clone(),
            turns: turns.clone(),
            news: news.clone(),
        };
        std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(Error::io("starting the state database's thread"))?;
        Ok(Self { index: published, turns, requests, news })
    }

    /// What happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Tells listeners of what changes no record.
    pub fn tell(&self, news: News) {
        // Nobody may be listening.
        let _ = self.news.send(news);
    }

    /// For a look that takes microseconds; never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all of `changes` or none; durable when it returns. The changes are made even when
    /// the caller goes away.
    pub async fn change(&self, changes: Vec<Change>) -> Result<()> {
        self.submit(changes, Lasting::Durable).await.unwrap_or_else(|_| Err(gone()))
    }

    /// Makes a change that every other operation sees and no later daemon: for steps that
    /// recovery undoes or settles as well without a word of them.
    pub async fn change_passing(&self, change: Change) -> Result<()> {
        self.submit(vec![change], Lasting::Passing).await.unwrap_or_else(|_| Err(gone()))
    }

    /// Writes down what `change` is going to make of its record, while what makes it true is
    /// still going on; nobody sees it until the same change is made as a passing one. After a
    /// kill in between, recovery asks the shim what became of it; when it fails, the record has
    /// to be forgotten durably.
    pub async fn foretell(&self, change: Change) -> Result<()> {
        self.submit(vec![change], Lasting::Ahead).await.unwrap_or_else(|_| Err(gone()))
    }

    /// Makes each of `changes` by itself, together in few transactions; the outcomes in order.
    pub async fn change_each(&self, changes: Vec<Change>) -> Vec<Result<()>> {
        let submit = |change| self.submit(vec![change], Lasting::Durable);
        let answers: Vec<_> = changes.into_iter().map(submit).collect();
        futures::future::join_all(answers)
            .await
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|_| Err(gone())))
            .collect()
    }

    fn submit(&self, changes: Vec<Change>, lasting: Lasting) -> oneshot::Receiver<Result<()>> {
        let (reply, answer) = oneshot::channel();
        // A send that fails drops the reply's sender, which the receiver then tells.
        let _ = self.requests.send(Request { changes, lasting, reply });
        answer
    }

    pub async fn set_sandbox(&self, id: &SandboxId, verb: SandboxVerb) -> Result<()> {
        self.change(vec![Change::Sandbox(id.clone(), verb)]).await
    }

    pub async fn set_container(&self, id: &ContainerId, verb: ContainerVerb) -> Result<()> {
        self.change(vec![Change::Container(id.clone(), verb)]).await
    }

    pub fn sandbox(&self, id: &SandboxId) -> Option<Arc<Sandbox>> {
        self.read().sandboxes.get(id).cloned()
    }

    pub fn container(&self, id: &ContainerId) -> Option<Arc<Container>> {
        self.read().containers.get(id).cloned()
    }

    /// Whose turn it is on one sandbox or container, and its news.
    pub fn turn(&self, id: &str) -> Arc<Turn> {
        self.turns.of(id)
    }
}

fn gone() -> Error {
    Error::Internal("the state database's thread is gone".to_owned())
}

/// One sandbox's or container's order of business.
pub struct Turn {
    /// Held for writing by the operation that works on it; for reading by several that do not
    /// disturb each other (containers being made in one sandbox). Stop does not wait for it.
    pub operation: tokio::sync::RwLock<()>,
    news: watch::Sender<()>,
}

impl Turn {
    /// Marks what is now as seen: `changed` on the result resolves at the next change.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}

/// The turns that somebody uses now, by id.
#[derive(Default)]
struct Turns {
    by_id: Mutex<HashMap<String, Weak<Turn>>>,
}

impl Turns {
    fn of(&self, id: &str) -> Arc<Turn> {
        let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = by_id.get(id).and_then(Weak::upgrade) {
            return turn;
        }
        // Whenever the map is about to grow, unused turns make room first.
        if by_id.len() == by_id.capacity() {
            by_id.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(Turn {
            operation: tokio::sync::RwLock::new(()),
            news: watch::Sender::new(()),
        });
        by_id.insert(id.to_owned(), Arc::downgrade(&turn));
        turn
    }

    fn tell(&self, id: &str) {
        let by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = by_id.get(id).and_then(Weak::upgrade);
        drop(by_id);
        if let Some(turn) = turn {
            turn.news.send_replace(());
        }
    }
}

struct Writer {
    database: Database,
    /// The index as the requests of the current batch leave it.
    own: Index,
    published: Arc<RwLock<Index>>,
    turns: Arc<Turns>,
    news: broadcast::Sender<News>,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let (mut edits, mut lasting) = (Vec::new(), Vec::new());
            let mut answers = Vec::new();
            for request in std::iter::once(first).chain(requests.try_iter().take(BATCH)) {
                let before = edits.len();
                let outcome = self.own.change(request.changes, &mut edits);
                match request.lasting {
                    Lasting::Durable => lasting.extend(edits.iter().skip(before).cloned()),
                    Lasting::Passing => {}
                    Lasting::Ahead => {
                        let ahead = edits.split_off(before);
                        for edit in ahead.iter().rev() {
                            self.own.edit(&edit.clone().reversed());
                        }
                        lasting.extend(ahead);
                    }
                }
                answers.push((request.reply, outcome));
            }
            let written = if lasting.is_empty() { Ok(()) } else { self.database.write(&lasting) };
            match &written {
                Ok(()) => self.publish(&edits),
                Err(error) => {
                    tracing::error!(%error, "records cannot be written");
                    for edit in edits.into_iter().rev() {
                        self.own.edit(&edit.reversed());
                    }
                }
            }
            for (reply, outcome) in answers {
                let answer = match (&written, outcome) {
                    (Err(error), Ok(())) => Err(Error::Internal(error.to_string())),
                    (_, outcome) => outcome,
                };
                // A caller that went away does not care.
                let _ = reply.send(answer);
            }
        }
    }

    fn publish(&self, edits: &[Edit]) {
        let mut index = self.published.write().unwrap_or_else(PoisonError::into_inner);
        for edit in edits {
            index.edit(edit);
        }
        drop(index);
        for edit in edits {
            match edit {
                Edit::Sandbox { id, .. } => self.turns.tell(id.as_str()),
                Edit::Container { id, .. } => self.turns.tell(id.as_str()),
                Edit::Shim { .. } | Edit::PodCidr { .. } => {}
            }
        }
        if self.news.receiver_count() > 0 {
            let at = now();
            for news in edits.iter().flat_map(|edit| news::of(edit, at)) {
                // The last listener may just have gone.
                let _ = self.news.send(news);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::tests::container;
    use super::super::index::tests::sandbox;
    use super::*;
    use crate::model::sandbox::SandboxState;

    #[tokio::test]
    async fn of_many_with_one_name_exactly_one_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let records = Arc::new(Records::open(&folder.path().join("db")).unwrap());
        let tries = (0..50).map(|n| {
            let records = records.clone();
            let config = sandbox("a", 1).config;
            let sandbox = Sandbox { config, ..sandbox(&format!("{n}f"), n) };
            tokio::spawn(async move { records.change(vec![Change::AddSandbox(sandbox)]).await })
        });
        let mut made = 0;
        for attempt in tries.collect::<Vec<_>>() {
            match attempt.await.unwrap() {
                Ok(()) => made += 1,
                Err(error) => assert!(matches!(error, Error::NameReserved { .. }), "{error}"),
            }
        }
        assert_eq!(made, 1);
        assert_eq!(records.read().sandboxes.len(), 1);
    }

    #[tokio::test]
    async fn what_is_foretold_is_in_the_file_and_unseen_until_it_is_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db");
        let records = Records::open(&file).unwrap();
        let making = Sandbox { state: SandboxState::Creating, ..sandbox("a", 1) };
        let id = making.id.clone();
        records.change_passing(Change::AddSandbox(making)).await.unwrap();
        let ready =
            Change::Sandbox(id.clone(), SandboxVerb::Ready(crate::model::ids::ShimId::random()));
        records.foretell(ready.clone()).await.unwrap();
        assert_eq!(records.sandbox(&id).unwrap().state, SandboxState::Creating);

        let copy = folder.path().join("copy");
        std::fs::copy(&file, &copy).unwrap();
        let loaded = Database::open(&copy).unwrap().load().unwrap();
        assert_eq!(loaded.sandboxes.get(&id).unwrap().state, SandboxState::Ready);

        records.change_passing(ready).await.unwrap();
        assert_eq!(records.sandbox(&id).unwrap().state, SandboxState::Ready);
        records.change(vec![Change::ForgetSandbox(id.clone())]).await.unwrap();
        std::fs::copy(&file, &copy).unwrap();
        assert!(Database::open(&copy).unwrap().load().unwrap().sandboxes.get(&id).is_none());
    }

    #[tokio::test]
    async fn a_change_is_in_the_file_when_it_is_answered_and_wakes_who_waits() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db");
        let records = Records::open(&file).unwrap();
        let owner = sandbox("a", 1);
        let one = container(&owner.id, "one");
        let turn = records.turn(one.id.as_str());
        let mut news = turn.news();
        let adds = vec![Change::AddSandbox(owner.clone()), Change::AddContainer(one.clone())];
        records.change(adds).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), news.changed()).await.unwrap().unwrap();

        let copy = folder.path().join("copy");
        std::fs::copy(&file, &copy).unwrap();
        let loaded = Database::open(&copy).unwrap().load().unwrap();
        assert!(loaded.containers.get(&one.id).is_some());
    }

    /// Prints how long a durable change takes, alone and in a crowd.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "a measurement"]
    async fn measure_changes() {
        for base in ["/dev/shm", "/tmp"] {
            let folder = tempfile::tempdir_in(base).unwrap();
            let records = Arc::new(Records::open(&folder.path().join("db")).unwrap());
            let began = std::time::Instant::now();
            for n in 0..500 {
                let sandbox = sandbox(&format!("{n:x}f"), n);
                records.change(vec![Change::AddSandbox(sandbox)]).await.unwrap();
            }
            let alone = began.elapsed() / 500;
            let began = std::time::Instant::now();
            let crowd = (0..2000).map(|n| {
                let (records, sandbox) = (records.clone(), sandbox(&format!("{n:x}e"), n));
                tokio::spawn(async move { records.change(vec![Change::AddSandbox(sandbox)]).await })
            });
            futures::future::join_all(crowd.collect::<Vec<_>>()).await;
            println!("{base}: {alone:?} alone, {:?} in a crowd", began.elapsed() / 2000);
        }
    }

    #[tokio::test]
    async fn a_name_is_free_again_once_its_holder_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("db")).unwrap();
        let first = sandbox("a", 1);
        let second = Sandbox { config: first.config.clone(), ..sandbox("b", 2) };
        let add = |sandbox: &Sandbox| vec![Change::AddSandbox(sandbox.clone())];
        records.change(add(&first)).await.unwrap();
        assert!(records.change(add(&second)).await.is_err());
        records.change(vec![Change::ForgetSandbox(first.id)]).await.unwrap();
        records.change(add(&second)).await.unwrap();
    }
}
