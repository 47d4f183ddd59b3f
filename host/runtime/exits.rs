//! News from shims: how containers end, and that a shim itself is gone. Each exit is in the
//! database before the shim may forget it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;

use super::change::Change;
use super::client::is_gone;
use super::records::now;
use super::shims::{Shim, Shims};
use super::{cgroup, sweep};
use crate::error::Error;
use crate::model::container::{Container, ContainerState, ContainerVerb, Exit, Reason};
use crate::model::ids::{ContainerId, ShimId};
use crate::model::sandbox::SandboxVerb;
use crate::proto::shim as wire;

/// Exits that are written down together at most.
const BATCH: usize = 256;

impl From<wire::Exit> for Exit {
    fn from(exit: wire::Exit) -> Self {
        Self {
            code: exit.code,
            reason: Reason::parse(&exit.reason),
            message: exit.message,
            finished_at: exit.finished_at,
        }
    }
}

/// Listens to a shim until it is gone, then settles what it held.
pub async fn watch(shims: Weak<Shims>, shim: Arc<Shim>) {
    let mut pause = Duration::from_millis(5);
    loop {
        if listen(&shims, &shim).await {
            pause = Duration::from_millis(5);
        }
        let Some(shims) = shims.upgrade() else { return };
        if is_gone(&shim.folder.socket()).await {
            bury(&shims, &shim.id).await;
            return;
        }
        drop(shims);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Hears one event stream to its end; whether there was one.
async fn listen(shims: &Weak<Shims>, shim: &Shim) -> bool {
    let mut wire = shim.wire();
    let Ok(stream) = wire.events(wire::EventsRequest {}).await else { return false };
    let mut batches = stream.into_inner().ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        let Some(shims) = shims.upgrade() else { return true };
        let events: Vec<wire::Event> = batch.into_iter().filter_map(Result::ok).collect();
        let container_ids = record_exits(&shims, events).await;
        if container_ids.is_empty() {
            continue;
        }
        if let Err(status) = wire.ack_exits(wire::AckExitsRequest { container_ids }).await {
            // They are told again on the next stream and change nothing then.
            tracing::debug!(shim = %shim.id, %status, "exits cannot be acknowledged");
        }
    }
    true
}

/// Writes exits down; the ids of those that need not be told again.
async fn record_exits(shims: &Shims, events: Vec<wire::Event>) -> Vec<String> {
    let mut known = Vec::new();
    let mut changes = Vec::new();
    for event in events {
        let Some(id) = ContainerId::parse(&event.container_id) else { continue };
        let Some(exit) = event.exit else { continue };
        known.push(event.container_id);
        changes.push(Change::Container(id, ContainerVerb::Exit(exit.into())));
    }
    let outcomes = shims.records().change_each(changes).await;
    let settled = |outcome: &Result<(), Error>| match outcome {
        // A container that is being made or is forgotten needs no exit.
        Ok(()) | Err(Error::NotFound { .. } | Error::WrongState { .. }) => true,
        Err(_) => false,
    };
    let pairs = known.into_iter().zip(&outcomes);
    pairs.filter(|(_, outcome)| settled(outcome)).map(|(id, _)| id).collect()
}

/// Settles what a dead shim held, and clears away what is left of it. The order is: exits into
/// the database, then the folder (which holds the journal of exits), then the cgroups, then the
/// shim's record; a daemon that is killed in between begins again at its start.
pub async fn bury(shims: &Arc<Shims>, id: &ShimId) {
    shims.drop_out(id);
    let records = shims.records();
    let turn = records.turn(id.as_str());
    let _turn = turn.operation.write().await;
    let Some(record) = records.read().shims.get(id).cloned() else { return };

    let folder = shims.folder(id);
    let journal = folder.exits();
    let changes = {
        let index = records.read();
        let held = index.sandboxes.iter().filter(|sandbox| sandbox.shim.as_ref() == Some(id));
        let mut changes = Vec::new();
        for sandbox in held {
            for container in index.containers_of(&sandbox.id) {
                let found = journal.iter().find(|exit| exit.container == container.id.as_str());
                changes.extend(settle_lost(&container, found));
            }
            changes.push(Change::Sandbox(sandbox.id.clone(), SandboxVerb::Stop));
        }
        changes
    };
    if !changes.is_empty() {
        tracing::warn!(shim = %id, "a shim is gone; its sandboxes are not ready any more");
    }
    for outcome in records.change_each(changes).await {
        // Sandboxes and containers that are being made are undone by who makes them.
        if let Err(error @ Error::Internal(_)) = outcome {
            tracing::error!(shim = %id, %error, "what a dead shim held cannot be recorded");
            return;
        }
    }

    let path = folder.path().to_owned();
    let clearing = tokio::task::spawn_blocking(move || {
        let swept = sweep::remove(&path);
        cgroup::remove(&record.cgroups, &record.parent_cgroups);
        swept
    });
    if let Ok(Err(error)) = clearing.await {
        tracing::warn!(shim = %id, %error, "a dead shim's folder cannot be removed");
    }
    if let Err(error) = records.change(vec![Change::ForgetShim(id.clone())]).await {
        tracing::warn!(shim = %id, %error, "a dead shim cannot be forgotten");
    }
}

/// What becomes of a dead shim's container: its true exit when the shim wrote one down.
fn settle_lost(
    container: &Container,
    found: Option<&crate::model::exits::ExitRecord>,
) -> Vec<Change> {
    let change = |verb| Change::Container(container.id.clone(), verb);
    match (&container.state, found) {
        (
            ContainerState::Exited { .. }
            | ContainerState::Creating
            | ContainerState::Removing { .. },
            _,
        ) => Vec::new(),
        (_, Some(found)) => {
            let run = ContainerVerb::Run { started_at: found.started_at };
            let ran = (found.started_at > 0).then(|| change(run));
            ran.into_iter().chain([change(ContainerVerb::Exit(found.exit.clone()))]).collect()
        }
        (_, None) => {
            let lost = Exit::lost(now(), "the shim that held the container is gone");
            vec![change(ContainerVerb::Exit(lost))]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::tests::container;
    use super::super::index::tests::sandbox;
    use super::*;
    use crate::model::exits::ExitRecord;

    fn state_after(state: ContainerState, found: Option<&ExitRecord>) -> ContainerState {
        let container = Container { state, ..container(&sandbox("a", 1).id, "one") };
        let changes = settle_lost(&container, found);
        changes.into_iter().fold(container.state, |state, change| match change {
            Change::Container(_, verb) => state.after(&verb).unwrap(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_lost_container_has_its_journals_exit_else_255() {
        let exit = Exit { code: 3, reason: Reason::Error, message: String::new(), finished_at: 8 };
        let record = ExitRecord {
            container: String::new(),
            sandbox: String::new(),
            started_at: 5,
            exit: exit.clone(),
        };
        for state in [
            ContainerState::Created,
            ContainerState::Starting,
            ContainerState::Running { started_at: 5 },
        ] {
            let told = state_after(state.clone(), Some(&record));
            assert_eq!(told, ContainerState::Exited { started_at: 5, exit: exit.clone() });
            let lost = state_after(state, None);
            assert!(matches!(&lost, ContainerState::Exited { exit, .. }
                if exit.code == 255 && exit.reason == Reason::Unknown && exit.finished_at > 0));
        }
        let ended = ContainerState::Exited { started_at: 1, exit };
        assert_eq!(state_after(ended.clone(), None), ended);
    }
}
