//! The shim's side of its protocol: one function per call, each of which hands over to the
//! registry at once. What changes something is finished even when the caller goes away.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::container::on_thread;
use super::exec::{ExecSpec, Streams};
use super::guest::Stdin;
use super::kill::Kill;
use super::output::Capture;
use super::registry::Registry;
use super::{convert, exec, hooks, resolve, room, stats};
use crate::error::{Error, Result};
use crate::proto::SHIM_PROTOCOLS;
use crate::proto::shim::hook_word::Word;
use crate::proto::shim::shim_server::Shim;
use crate::proto::shim::{self as wire, Empty};

pub struct Server {
    registry: Arc<Registry>,
    max_pods: u32,
    /// Turns true when the shim is to end.
    closing: watch::Sender<bool>,
}

impl Server {
    pub fn new(registry: Arc<Registry>, max_pods: u32, closing: watch::Sender<bool>) -> Self {
        Self { registry, max_pods, closing }
    }
}

/// Carries `work` on even when the caller's connection is lost in the middle.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::spawn(work).await {
        Ok(result) => result.map(Response::new).map_err(convert::status),
        Err(error) => Err(Status::internal(format!("the shim failed: {error}"))),
    }
}

#[tonic::async_trait]
impl Shim for Server {
    async fn hello(
        &self,
        request: Request<wire::HelloRequest>,
    ) -> Result<Response<wire::HelloResponse>, Status> {
        let versions = request.into_inner().versions;
        let common = SHIM_PROTOCOLS.into_iter().find(|version| versions.contains(version));
        let version = common.ok_or_else(|| {
            Status::failed_precondition(format!(
                "the shim (wasmpod {}) speaks protocol versions {SHIM_PROTOCOLS:?}, the daemon \
                 {versions:?}: drain the node's pods before going that far",
                env!("CARGO_PKG_VERSION")
            ))
        })?;
        Ok(Response::new(wire::HelloResponse {
            version,
            pid: std::process::id(),
            room: room::left(&self.registry, self.max_pods),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            engine: crate::engine::compatibility(&self.registry.host.engines.mapped),
        }))
    }

    async fn state(
        &self,
        request: Request<wire::StateRequest>,
    ) -> Result<Response<wire::StateResponse>, Status> {
        let after = request.into_inner().after;
        let sandboxes = self.registry.sandboxes();
        let mut containers = self.registry.containers();
        containers.retain(|container| *container.id().as_str() > *after);
        containers.sort_by(|one, other| one.id().as_str().cmp(other.id().as_str()));
        let states = containers
            .iter()
            .map(|c| convert::container_state(c.id(), &c.spec.sandbox, &c.phase()));
        let (containers, more) = page(states, STATE_PAGE);
        Ok(Response::new(wire::StateResponse {
            sandboxes: sandboxes
                .iter()
                .map(|sandbox| wire::SandboxState {
                    id: sandbox.spec.id.to_string(),
                    stopped: sandbox.is_ended(),
                })
                .collect(),
            containers,
            more,
        }))
    }

    async fn create_sandbox(
        &self,
        request: Request<wire::CreateSandboxRequest>,
    ) -> Result<Response<wire::CreateSandboxResponse>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            let spec = convert::sandbox_spec(request.into_inner())?;
            let sandbox = registry.create_sandbox(spec).await?;
            Ok(wire::CreateSandboxResponse { own_network: sandbox.has_own_network() })
        })
        .await
    }

    async fn stop_sandbox(
        &self,
        request: Request<wire::SandboxRequest>,
    ) -> Result<Response<Empty>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            registry.stop_sandbox(&convert::sandbox_id(&request.get_ref().id)?).await;
            Ok(Empty {})
        })
        .await
    }

    async fn remove_sandbox(
        &self,
        request: Request<wire::SandboxRequest>,
    ) -> Result<Response<Empty>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            registry.remove_sandbox(&convert::sandbox_id(&request.get_ref().id)?).await;
            Ok(Empty {})
        })
        .await
    }

    async fn create_container(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Result<Response<Empty>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            let spec = convert::container_spec(request.into_inner())?;
            registry.create_container(spec).await?;
            Ok(Empty {})
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<wire::ContainerRequest>,
    ) -> Result<Response<wire::StartContainerResponse>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            let id = convert::container_id(&request.get_ref().id)?;
            let started_at = registry.container(&id)?.start().await?;
            Ok(wire::StartContainerResponse { started_at })
        })
        .await
    }

    async fn stop_container(
        &self,
        request: Request<wire::StopContainerRequest>,
    ) -> Result<Response<wire::StopContainerResponse>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            let asked = request.into_inner();
            let id = convert::container_id(&asked.id)?;
            let stopped = registry.stop_container(&id, convert::stop(&asked)).await;
            let (exit, stuck_threads) = stopped.unzip();
            Ok(wire::StopContainerResponse {
                exit: exit.map(convert::exit),
                stuck_threads: stuck_threads.unwrap_or(0),
            })
        })
        .await
    }

    async fn remove_container(
        &self,
        request: Request<wire::ContainerRequest>,
    ) -> Result<Response<Empty>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            registry.remove_container(&convert::container_id(&request.get_ref().id)?).await;
            Ok(Empty {})
        })
        .await
    }

    async fn update_container(
        &self,
        request: Request<wire::UpdateContainerRequest>,
    ) -> Result<Response<Empty>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            let asked = request.into_inner();
            let container = registry.container(&convert::container_id(&asked.id)?)?;
            let update = convert::update(asked)?;
            // The kernel may take milliseconds to move threads.
            on_thread("w-limits", move || container.update(&update)).await??;
            Ok(Empty {})
        })
        .await
    }

    async fn placement(
        &self,
        request: Request<wire::ContainerRequest>,
    ) -> Result<Response<wire::PlacementResponse>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            let asked = request.into_inner();
            let container = registry.container(&convert::container_id(&asked.id)?)?;
            let (allowed, seen) = super::cpu::placement(&container.control.threads.ids());
            Ok(wire::PlacementResponse { allowed: allowed.to_string(), seen: seen.to_string() })
        })
        .await
    }

    type CallHooksStream = ReceiverStream<Result<wire::HookWord, Status>>;

    async fn call_hooks(
        &self,
        request: Request<Streaming<wire::HookWord>>,
    ) -> Result<Response<Self::CallHooksStream>, Status> {
        let mut words = request.into_inner();
        let Some(wire::HookWord { word: Some(Word::Call(call)) }) = words.message().await? else {
            return Err(Status::invalid_argument("a hook's dialogue begins with its call"));
        };
        let id = convert::sandbox_id(&call.sandbox_id).map_err(convert::status)?;
        let sandbox = self.registry.sandbox(&id).map_err(convert::status)?;
        let (out, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            let told = hooks::converse(sandbox, call, (words, out.clone())).await;
            if let Err(error) = told {
                let _ = out.send(Err(convert::status(error))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn update_sandbox(
        &self,
        request: Request<wire::UpdateSandboxRequest>,
    ) -> Result<Response<Empty>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            let asked = request.into_inner();
            let update = convert::sandbox_update(&asked)?;
            registry.update_sandbox(&convert::sandbox_id(&asked.id)?, &update)?;
            Ok(Empty {})
        })
        .await
    }

    async fn reopen_log(
        &self,
        request: Request<wire::ContainerRequest>,
    ) -> Result<Response<Empty>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            let container = registry.container(&convert::container_id(&request.get_ref().id)?)?;
            let parts = container.parts()?;
            // A guest may be writing to a slow disk with the log in its hands.
            on_thread("w-reopen", move || parts.log.as_ref().map_or(Ok(()), |log| log.reopen()))
                .await??;
            Ok(Empty {})
        })
        .await
    }

    async fn resolve_program(
        &self,
        request: Request<wire::ResolveProgramRequest>,
    ) -> Result<Response<wire::ResolveProgramResponse>, Status> {
        let registry = self.registry.clone();
        whole(async move {
            let asked = request.into_inner();
            let container = registry.container(&convert::container_id(&asked.container_id)?)?;
            let found = resolve::resolve(container, asked.program, asked.copy_to.into()).await?;
            Ok(convert::resolve_response(found))
        })
        .await
    }

    async fn exec(
        &self,
        request: Request<wire::ExecRequest>,
    ) -> Result<Response<wire::ExecResponse>, Status> {
        let registry = self.registry.clone();
        // Dropped with this call: an exec whose caller has gone is ended.
        let (_caller, caller_gone) = oneshot::channel::<()>();
        whole(async move {
            let asked = request.into_inner();
            let container = registry.container(&convert::container_id(&asked.container_id)?)?;
            let limit = usize::try_from(asked.max_output).unwrap_or(usize::MAX);
            let outputs = [(); 2].map(|()| Arc::new(Capture::new(limit)));
            let [stdout, stderr] = outputs.clone();
            let spec = ExecSpec {
                code: asked.code.map(convert::code).transpose()?,
                argv: asked.argv,
                timeout: convert::timeout(asked.timeout_ms),
                // CRI's ExecSync has no input.
                streams: Streams { stdin: Stdin::Empty, stdout, stderr },
                kill: Arc::new(Kill::new(container.host.engines.clone())),
                begun: None,
            };
            let exit = exec::exec(container, spec, caller_gone).await?;
            let [stdout, stderr] = outputs.map(|output| output.take().into());
            Ok(wire::ExecResponse { stdout, stderr, exit: exit.map(convert::exit) })
        })
        .await
    }

    async fn stats(
        &self,
        request: Request<wire::StatsRequest>,
    ) -> Result<Response<wire::StatsResponse>, Status> {
        let answer = stats::answer(&self.registry, request.into_inner()).await;
        answer.map(Response::new).map_err(convert::status)
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<wire::Event, Status>> + Send>>;

    async fn events(
        &self,
        _: Request<wire::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let mut closing = self.closing.subscribe();
        let exits = self.registry.host.exits.listen();
        let events = exits.map(|record| Ok(convert::event(record))).take_until(async move {
            // A shim whose server has gone is closing as well.
            let _ = closing.wait_for(|closing| *closing).await;
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn ack_exits(
        &self,
        request: Request<wire::AckExitsRequest>,
    ) -> Result<Response<Empty>, Status> {
        let ids = &request.get_ref().container_ids;
        self.registry.host.exits.acknowledge(ids.iter().map(String::as_str));
        Ok(Response::new(Empty {}))
    }

    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        let held = self.registry.sandboxes().len();
        if held > 0 {
            let error = Error::Precondition(format!("this shim holds {held} sandboxes"));
            return Err(convert::status(error));
        }
        self.closing.send_replace(true);
        Ok(Response::new(Empty {}))
    }
}

/// Bytes of one page of a state's containers. Sandboxes, all on each page, are a few times less:
/// a shim holds thousands at most, of 70 bytes each.
const STATE_PAGE: usize = 4 << 20;

/// The first of some messages that add up to so many bytes, at least one; and whether there are
/// more.
fn page<M: prost::Message>(messages: impl Iterator<Item = M>, most_bytes: usize) -> (Vec<M>, bool) {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for message in messages {
        bytes += message.encoded_len();
        if bytes > most_bytes && !taken.is_empty() {
            return (taken, true);
        }
        taken.push(message);
    }
    (taken, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_what_fits_and_always_something() {
        let states = |count: usize| {
            (0..count).map(|_| wire::SandboxState { id: "x".repeat(98), stopped: false })
        };
        let taken = |count, bytes| {
            let (taken, more) = page(states(count), bytes);
            (taken.len(), more)
        };
        assert_eq!(taken(0, 1000), (0, false));
        assert_eq!(taken(10, 1000), (10, false));
        assert_eq!(taken(11, 1000), (10, true));
        assert_eq!(taken(2, 10), (1, true));
    }
}
