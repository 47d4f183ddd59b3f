//! A pod's events: what the agent did and saw, in the kubelet's words, kept in memory for
//! watchers and in a file for the daemon's next life. Losing the last ones to a power cut is
//! bearable, so nothing is synced.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::backoff::Nanos;

/// Events kept of one pod; of a pod with more, the oldest are dropped.
const KEPT: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Normal,
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub time: Nanos,
    pub kind: Kind,
    /// The kubelet's word: Pulled, Created, BackOff...
    pub reason: String,
    pub message: String,
    /// Empty for the pod itself.
    pub container: String,
    /// Of the container that it is about, or empty.
    pub container_id: String,
    /// Set when this tells of the container's end.
    pub exit_code: Option<i32>,
}

impl Event {
    pub fn normal(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Normal, reason, message.into())
    }

    pub fn warning(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Warning, reason, message.into())
    }

    fn new(kind: Kind, reason: &str, message: String) -> Self {
        Self {
            time: now(),
            kind,
            reason: reason.to_owned(),
            message,
            container: String::new(),
            container_id: String::new(),
            exit_code: None,
        }
    }

    /// The same event as one of that container.
    pub fn of(self, container: &str, id: &str) -> Self {
        Self { container: container.to_owned(), container_id: id.to_owned(), ..self }
    }

    pub fn exit(self, code: i32) -> Self {
        Self { exit_code: Some(code), ..self }
    }
}

/// Nanoseconds since the Unix epoch.
pub fn now() -> Nanos {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// The events of one pod.
#[derive(Debug)]
pub struct EventLog {
    file: PathBuf,
    state: Mutex<State>,
    /// How many there have ever been.
    count: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the first one in `events`.
    first: u64,
    events: Vec<Event>,
}

impl EventLog {
    /// Takes up the events of a file; a line that cannot be read is left out.
    pub fn open(file: PathBuf) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut events: Vec<Event> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        events.drain(..events.len().saturating_sub(KEPT));
        let count = watch::Sender::new(events.len() as u64);
        Self { file, state: Mutex::new(State { first: 0, events }), count }
    }

    pub fn add(&self, event: Event) {
        tracing::debug!(reason = event.reason, container = event.container, "{}", event.message);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = append(&self.file, &event) {
            tracing::warn!(%error, file = %self.file.display(), "an event is not kept");
        }
        state.events.push(event);
        if state.events.len() > KEPT {
            state.events.remove(0);
            state.first += 1;
        }
        let count = state.first + state.events.len() as u64;
        drop(state);
        self.count.send_replace(count);
    }

    /// The events from number `from` on, and the number of the next.
    pub fn since(&self, from: u64) -> (Vec<Event>, u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(from.saturating_sub(state.first)).unwrap_or(usize::MAX);
        let next = state.first + state.events.len() as u64;
        (state.events.iter().skip(skip).cloned().collect(), next)
    }

    /// Changes with every event.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}

fn append(file: &Path, event: &Event) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(file)?.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_outlive_their_log_and_a_torn_line_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.jsonl");
        let log = EventLog::open(file.clone());
        log.add(Event::normal("Created", "Container created").of("a", "id"));
        log.add(Event::warning("Error", "exit code 1").of("a", "id").exit(1));
        let (events, next) = log.since(0);
        assert_eq!((events.len(), next), (2, 2));
        fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"time\"").unwrap();
        assert_eq!(EventLog::open(file).since(0).0, events);
        assert_eq!(log.since(1).0, events[1..]);
    }

    #[test]
    fn only_the_newest_are_kept_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::open(folder.path().join("e"));
        for _ in 0..KEPT + 5 {
            log.add(Event::normal("BackOff", ""));
        }
        let (events, next) = log.since(0);
        assert_eq!((events.len(), next), (KEPT, KEPT as u64 + 5));
        assert_eq!(log.since(next - 1).0.len(), 1);
    }
}
