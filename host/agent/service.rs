//! The PodAgent service: turns pod.v1's messages into the agent's calls and back.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::pod::Pod;
use super::pods::Agent;
use super::record::Mode;
use super::watch::{self, Watcher};
use crate::cri::client::MAX_MESSAGE;
use crate::cri::codes;
use crate::proto::pod::pod_agent_server::{PodAgent, PodAgentServer};
use crate::proto::pod::{
    self as wire, InfoRequest, InfoResponse, ListRequest, ListResponse, RemoveRequest,
    RemoveResponse, RunRequest, RunResponse, StopRequest, StopResponse, WatchRequest,
    WatchResponse,
};

/// One agent's service, for as many sockets as it is served on.
#[derive(Clone, Debug)]
pub struct Service(Arc<Agent>);

impl Agent {
    /// The service to serve beside CRI.
    pub fn service(self: &Arc<Self>) -> PodAgentServer<Service> {
        PodAgentServer::new(Service(self.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PodAgent for Service {
    async fn info(&self, _: Request<InfoRequest>) -> Answer<InfoResponse> {
        let config = self.0.config();
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        Ok(Response::new(InfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            root: text(&config.root),
            state: text(&config.state),
            listen: text(&config.listen),
            agent: text(&config.agent_socket()),
            pid: std::process::id(),
        }))
    }

    async fn run(&self, request: Request<RunRequest>) -> Answer<RunResponse> {
        let agent = self.0.clone();
        // Taken on whole even if the caller goes away.
        let run = tokio::spawn(async move { agent.run(request.into_inner()).await });
        let pod = run
            .await
            .map_err(|error| Status::internal(format!("taking on the pod: {error}")))?
            .map_err(codes::status)?;
        Ok(Response::new(RunResponse {
            uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            ports: pod.ports.clone(),
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let request = request.into_inner();
        let pod = self.0.find(&request.uid).map_err(codes::status)?;
        let watcher = if request.owner { Watcher::Owner } else { Watcher::Guest };
        let messages = watch::watch(pod, watcher, self.0.ending());
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Answer<StopResponse> {
        let _busy = self.0.busy();
        let request = request.into_inner();
        if request.grace_seconds.is_some_and(|seconds| seconds < 0) {
            return Err(Status::invalid_argument("the grace period must not be negative"));
        }
        let pod = self.0.find(&request.pod).map_err(codes::status)?;
        pod.order_stop(request.grace_seconds);
        // A sender that is gone means a worker that is done.
        let _ = pod.status.subscribe().wait_for(|status| status.ending.is_some()).await;
        Ok(Response::new(StopResponse {}))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Answer<RemoveResponse> {
        let _busy = self.0.busy();
        let request = request.into_inner();
        let pod = self.0.find(&request.pod).map_err(codes::status)?;
        if !pod.has_ended() {
            if !request.force {
                let name = &pod.name;
                return Err(Status::failed_precondition(format!(
                    "pod {name} has not ended: stop it first, or remove it with `wasmpod rm -f \
                     {name}`"
                )));
            }
            pod.order_stop(Some(0));
        }
        pod.order_removal();
        let _ = pod.gone.subscribe().wait_for(|gone| *gone).await;
        Ok(Response::new(RemoveResponse {}))
    }

    async fn list(&self, _: Request<ListRequest>) -> Answer<ListResponse> {
        let pods = self.0.pods().iter().map(|pod| message(pod)).collect();
        Ok(Response::new(ListResponse { pods }))
    }
}

fn message(pod: &Pod) -> wire::Pod {
    let status = pod.status.borrow();
    let (ready, total) = status.ready();
    let mode = match pod.mode {
        Mode::Attached => wire::run_request::Mode::Attached,
        Mode::Detached => wire::run_request::Mode::Detached,
    };
    wire::Pod {
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        phase: status.phase.as_str().to_owned(),
        reason: status.reason.clone(),
        created_at: pod.created_at,
        ready,
        total,
        restarts: status.restarts(),
        sandbox_id: status.sandbox.clone(),
        mode: mode.into(),
    }
}
