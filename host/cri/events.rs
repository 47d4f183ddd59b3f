//! GetContainerEvents: the core's news as CRI's stream, each with the pod's sandbox and the
//! statuses of its containers at that time.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio_stream::wrappers::BroadcastStream;
use tonic::Status;

use super::convert::{container, sandbox};
use super::service::Service;
use crate::model::container::ContainerState;
use crate::model::sandbox::{Realm, SandboxState};
use crate::proto::cri;
use crate::runtime::Filter;
use crate::runtime::news::{Happening, News, Subject};

pub(super) type Events =
    Pin<Box<dyn Stream<Item = Result<cri::ContainerEventResponse, Status>> + Send>>;

/// CRI's events have no place for words. Those that a plugin tells are annotations of the pod's
/// status in an event that says again what was last: a kubelet looks at the pod once more.
const TOLD: &str = "event.wasmpod.dev/";

impl Service {
    /// Everything that happens from now on in `scope`. A listener that falls too far behind gets
    /// DATA_LOSS and has to list anew.
    pub(super) fn events(&self, scope: Option<Realm>) -> Events {
        let service = self.clone();
        let stream = BroadcastStream::new(self.runtime.news()).filter_map(move |news| {
            let item = match news {
                Ok(news) => service.event(scope, &news).map(Ok),
                Err(_) => Some(Err(Status::data_loss("events were lost: list anew"))),
            };
            std::future::ready(item)
        });
        Box::pin(stream)
    }

    /// `None` for what happened to another realm's pod.
    fn event(&self, scope: Option<Realm>, news: &News) -> Option<cri::ContainerEventResponse> {
        let (id, sandbox_id, realm) = match &news.subject {
            Subject::Sandbox(found) => (found.id.as_str(), found.id.as_str(), found.realm),
            Subject::Container(found) => (found.id.as_str(), found.sandbox.as_str(), found.realm),
        };
        if scope.is_some_and(|scope| scope != realm) {
            return None;
        }
        let kind = match &news.happening {
            Happening::Created => cri::ContainerEventType::ContainerCreatedEvent,
            Happening::Started => cri::ContainerEventType::ContainerStartedEvent,
            Happening::Stopped => cri::ContainerEventType::ContainerStoppedEvent,
            Happening::Deleted => cri::ContainerEventType::ContainerDeletedEvent,
            Happening::Told(_) => last_kind(&news.subject),
        };
        // A sandbox that is gone is told as it was last.
        let known = match &news.subject {
            Subject::Sandbox(found) => Some(found.clone()),
            Subject::Container(_) => self.runtime.sandbox(Some(realm), sandbox_id).ok(),
        };
        let mut pod_sandbox_status = known.map(|known| sandbox::status(&known));
        if let Some(status) = &mut pod_sandbox_status {
            // A pod's own annotations speak for no plugin.
            status.annotations.retain(|key, _| !key.starts_with(TOLD));
        }
        if let (Happening::Told(word), Some(status)) = (&news.happening, &mut pod_sandbox_status) {
            let severity = if word.is_warning { "Warning" } else { "Normal" };
            let words = [
                ("plugin", word.by.as_str()),
                ("severity", severity),
                ("reason", &word.reason),
                ("message", &word.message),
            ];
            let words = words.map(|(key, value)| (format!("{TOLD}{key}"), value.to_owned()));
            status.annotations.extend(words);
        }
        Some(cri::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: news.at,
            pod_sandbox_status,
            containers_statuses: self.statuses_of(sandbox_id),
        })
    }

    /// Of a pod's containers, as a kubelet that follows events wants them with its sandbox.
    pub(super) fn statuses_of(&self, sandbox_id: &str) -> Vec<cri::ContainerStatus> {
        let filter = Filter { sandbox: sandbox_id.to_owned(), ..Filter::default() };
        self.runtime.containers(&filter).iter().map(|found| container::status(found)).collect()
    }
}

/// What happened to it last.
fn last_kind(subject: &Subject) -> cri::ContainerEventType {
    let is_over = match subject {
        Subject::Sandbox(found) => found.state != SandboxState::Ready,
        Subject::Container(found) => match &found.state {
            ContainerState::Running { .. } => false,
            ContainerState::Exited { .. } | ContainerState::Removing { .. } => true,
            _ => return cri::ContainerEventType::ContainerCreatedEvent,
        },
    };
    match is_over {
        true => cri::ContainerEventType::ContainerStoppedEvent,
        false => cri::ContainerEventType::ContainerStartedEvent,
    }
}
