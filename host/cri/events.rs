//! GetContainerEvents: the core's news as CRI's stream, each with the pod's sandbox and the
//! statuses of its containers at that time.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio_stream::wrappers::BroadcastStream;
use tonic::Status;

use super::convert::{container, sandbox};
use super::service::Service;
use crate::model::sandbox::Realm;
use crate::proto::cri;
use crate::runtime::Filter;
use crate::runtime::news::{Happening, News, Subject};

pub(super) type Events =
    Pin<Box<dyn Stream<Item = Result<cri::ContainerEventResponse, Status>> + Send>>;

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
        let kind = match news.happening {
            Happening::Created => cri::ContainerEventType::ContainerCreatedEvent,
            Happening::Started => cri::ContainerEventType::ContainerStartedEvent,
            Happening::Stopped => cri::ContainerEventType::ContainerStoppedEvent,
            Happening::Deleted => cri::ContainerEventType::ContainerDeletedEvent,
        };
        // A sandbox that is gone is told as it was last.
        let known = match &news.subject {
            Subject::Sandbox(found) => Some(found.clone()),
            Subject::Container(_) => self.runtime.sandbox(Some(realm), sandbox_id).ok(),
        };
        let filter = Filter { sandbox: sandbox_id.to_owned(), ..Filter::default() };
        let containers = self.runtime.containers(&filter);
        Some(cri::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: news.at,
            pod_sandbox_status: known.map(|known| sandbox::status(&known)),
            containers_statuses: containers.iter().map(|found| container::status(found)).collect(),
        })
    }
}
