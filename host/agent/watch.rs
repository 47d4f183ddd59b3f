//! Plays a pod to a watcher: its events from the first one on, its containers' log lines, and
//! last its ending.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tonic::Status;

use super::events::{Event, Kind};
use super::logs::{Line, LogReader, Progress, Stream};
use super::pod::Pod;
use super::record::{Mode, PodDirs};
use super::store;
use super::sync::Phase;
use crate::error::Result;
use crate::proto::pod::watch_response::Item;
use crate::proto::pod::{self as wire, WatchResponse};
use crate::watch::FolderWatch;

/// Messages under way to a slow watcher.
const QUEUE: usize = 256;

pub type Messages = mpsc::Receiver<Result<WatchResponse, Status>>;

/// Whether the pod lives with this watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    Owner,
    Guest,
}

/// Counts one owner for as long as it lives.
struct Owner<'a>(&'a Pod);

impl<'a> Owner<'a> {
    fn of(pod: &'a Pod) -> Self {
        pod.owners.send_modify(|count| *count += 1);
        Self(pod)
    }
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        self.0.owners.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Starts playing; ends when the pod has ended, the receiver is dropped or `ending` is true.
pub fn watch(pod: Arc<Pod>, watcher: Watcher, mut ending: watch::Receiver<bool>) -> Messages {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let _owner = (watcher == Watcher::Owner).then(|| Owner::of(&pod));
        let played = tokio::select! {
            () = sender.closed() => false,
            _ = ending.wait_for(|ending| *ending) => false,
            played = play(&pod, &sender) => played.is_some(),
        };
        // An attached pod goes with the owner that has seen its end.
        if played && watcher == Watcher::Owner && pod.mode == Mode::Attached {
            pod.order_removal();
        }
    });
    receiver
}

type Sender = mpsc::Sender<Result<WatchResponse, Status>>;

/// `None` when nobody listens any more.
async fn send(sender: &Sender, item: Item) -> Option<()> {
    sender.send(Ok(WatchResponse { item: Some(item) })).await.ok()
}

async fn play(pod: &Pod, sender: &Sender) -> Option<()> {
    let names = pod.wanted.iter().map(|wanted| wanted.name.as_str());
    let followers = names.map(|name| follow(pod, name, sender));
    let told = async { tokio::join!(futures::future::join_all(followers), tell(pod, sender)).1 };
    tokio::select! {
        // Ends with the pod; the other never does.
        told = told => told?,
        never = show_pulls(pod, sender) => match never {},
    }
    let ending = pod.status.borrow().ending.clone()?;
    let ended = wire::Ended {
        phase: ending.phase.as_str().to_owned(),
        exit_code: ending.exit_code,
        reason: ending.reason,
        message: ending.message,
    };
    send(sender, Item::Ended(ended)).await
}

/// Shows how far the pull of an image is, for as long as somebody listens.
async fn show_pulls(pod: &Pod, sender: &Sender) -> Infallible {
    let mut pulling = pod.pulling.subscribe();
    let mut shown = false;
    loop {
        let now = pulling.borrow_and_update().clone();
        if now.is_some() || shown {
            shown = now.is_some();
            let now = now.map(|now| wire::PodPull {
                container: now.container,
                image: now.image,
                progress: Some(now.progress),
            });
            if send(sender, Item::Pull(now.unwrap_or_default())).await.is_none() {
                break;
            }
        }
        if pulling.changed().await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// Sends every event until the pod has ended.
async fn tell(pod: &Pod, sender: &Sender) -> Option<()> {
    let mut count = pod.events.watch();
    let mut status = pod.status.subscribe();
    let mut next = 0;
    loop {
        // Asked for first: what happened before the end is in what is read after.
        let ended = status.borrow_and_update().ending.is_some();
        count.mark_unchanged();
        let (events, after) = pod.events.since(next);
        next = after;
        for event in events {
            send(sender, Item::Event(event_message(event))).await?;
        }
        if ended {
            return Some(());
        }
        tokio::select! {
            changed = count.changed() => changed.ok()?,
            changed = status.changed() => changed.ok()?,
        }
    }
}

fn event_message(event: Event) -> wire::Event {
    let kind = match event.kind {
        Kind::Normal => wire::event::Kind::Normal,
        Kind::Warning => wire::event::Kind::Warning,
    };
    wire::Event {
        time: event.time,
        kind: kind.into(),
        reason: event.reason,
        message: event.message,
        container: event.container,
    }
}

/// Sends every line of every attempt of a container until the pod has ended.
async fn follow(pod: &Pod, name: &str, sender: &Sender) -> Option<()> {
    let mut status = pod.status.subscribe();
    for attempt in 0.. {
        let path = pod.dirs.logs().join(PodDirs::log_path(name, attempt));
        let there = |status: &super::status::PodStatus| {
            let newest = status.container(name).and_then(|container| container.newest);
            newest.is_some_and(|(newest, _)| newest >= attempt)
        };
        let reached = {
            let wanted = |s: &super::status::PodStatus| s.ending.is_some() || there(s);
            let reached = status.wait_for(wanted).await.ok()?;
            there(&reached)
        };
        if !reached && !path.exists() {
            return Some(());
        }
        let folder = path.parent().map(FolderWatch::new);
        let mut reader = LogReader::new(path);
        loop {
            // Asked for before reading: the log of an exited container is complete.
            let over = {
                let status = status.borrow_and_update();
                let newest = status.container(name).and_then(|container| container.newest);
                let passed = newest.is_some_and(|(newest, phase)| {
                    newest > attempt || (newest == attempt && matches!(phase, Phase::Exited { .. }))
                });
                status.ending.is_some() || passed
            };
            reader = send_lines(reader, (name, sender), over).await?;
            if over {
                break;
            }
            let changed = async {
                match &folder {
                    Some(folder) => folder.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                changed = status.changed() => changed.ok()?,
            }
        }
    }
    Some(())
}

/// Sends what is in the log now; at its end also what has no newline.
async fn send_lines(
    mut reader: LogReader,
    (name, sender): (&str, &Sender),
    is_complete: bool,
) -> Option<LogReader> {
    loop {
        let read = store::blocking(move || {
            let mut lines = Vec::new();
            let progress = reader.read(&mut lines);
            Ok((reader, progress, lines))
        });
        let (back, progress, mut lines) = read.await.ok()?;
        reader = back;
        // A log that cannot be read any more has nothing more to say.
        let done = !matches!(progress, Ok(Progress::More));
        if done && is_complete {
            reader.finish(&mut lines);
        }
        for line in lines {
            send(sender, Item::Log(line_message(name, line))).await?;
        }
        if done {
            return Some(reader);
        }
    }
}

fn line_message(name: &str, line: Line) -> wire::LogLine {
    wire::LogLine {
        time: line.time,
        container: name.to_owned(),
        stderr: line.stream == Stream::Stderr,
        line: line.text.into(),
    }
}
