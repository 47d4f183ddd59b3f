//! Ending containers. Does not wait its turn: a stop overtakes a start that blocks and a stop
//! that is more patient.

use std::time::Duration;

use super::Runtime;
use super::annotations::{Annotations, STOP};
use super::client::failure;
use super::records::now;
use crate::error::{Error, Result};
use crate::model::container::{Container, ContainerState, ContainerVerb, Exit};
use crate::model::ids::ContainerId;
use crate::model::signal;
use crate::proto::shim as wire;
use crate::proto::shim::stop_container_request::Patience;

/// How a container is to be ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopPlan {
    /// Linux number.
    signal: u32,
    grace: Duration,
    /// Whom the grace is for.
    patience: Patience,
}

impl StopPlan {
    pub const KILL: Self =
        Self { signal: signal::KILL, grace: Duration::ZERO, patience: Patience::Hearing };
}

/// How long a lost shim's burial, or a start that was overtaken, may take to be recorded.
const SETTLING: Duration = Duration::from_secs(10);

impl Runtime {
    /// A guest that cannot hear signals is ended at once, whatever the grace, unless the
    /// annotation lets it go on; a grace of zero is a KILL, as CRI has it.
    pub(super) fn stop_plan(&self, container: &Container, grace: Duration) -> StopPlan {
        if grace.is_zero() {
            return StopPlan::KILL;
        }
        let sandbox = self.records.sandbox(&container.sandbox);
        let wish = sandbox.as_ref().and_then(|sandbox| {
            Annotations { pod: &sandbox.config, container: &container.config }.get(STOP)
        });
        let patience = match wish {
            Some("grace") => Patience::All,
            _ => Patience::Hearing,
        };
        StopPlan { signal: container.stop_signal, grace, patience }
    }

    /// Ends a container if it runs and returns its exit once that is recorded; `None` for one
    /// that never ran or is not there.
    pub(super) async fn end_container(
        &self,
        id: &ContainerId,
        plan: StopPlan,
    ) -> Result<Option<Exit>> {
        let is_heard = |container: &Container| {
            let sandbox = self.records.sandbox(&container.sandbox);
            self.chain().is_ok_and(|chain| sandbox.is_some_and(|pod| chain.concerns(&pod)))
        };
        let was_running = match self.records.container(id) {
            Some(container) if is_heard(&container) => {
                self.tell_of_stop(&container).await;
                matches!(container.state, ContainerState::Running { .. })
            }
            _ => false,
        };
        let ended = self.end_told_container(id, plan).await;
        if was_running && ended.is_ok() {
            self.tell_of_stopped(id).await;
        }
        ended
    }

    async fn end_told_container(&self, id: &ContainerId, plan: StopPlan) -> Result<Option<Exit>> {
        loop {
            let Some(container) = self.records.container(id) else { return Ok(None) };
            match &container.state {
                ContainerState::Exited { exit, .. } => return Ok(Some(exit.clone())),
                ContainerState::Starting | ContainerState::Running { .. } => {}
                ContainerState::Creating
                | ContainerState::Created
                | ContainerState::Removing { .. } => {
                    return Ok(None);
                }
            }
            let stopped = match self.shim_of(&container) {
                Ok(shim) => {
                    let request = wire::StopContainerRequest {
                        id: id.to_string(),
                        signal: plan.signal,
                        grace_ms: u64::try_from(plan.grace.as_millis()).unwrap_or(u64::MAX),
                        patience: plan.patience.into(),
                    };
                    let answer = shim.wire().stop_container(request).await;
                    answer.map_err(|status| failure("stopping a container", &status))
                }
                Err(error) => Err(error),
            };
            let exit = match stopped {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    self.count_stuck(id, answer.stuck_threads);
                    answer.exit.map(Exit::from)
                }
                Err(Error::NotFound { .. }) => None,
                Err(error @ Error::Unavailable(_)) => {
                    let over = || {
                        let container = self.records.container(id);
                        container.is_none_or(|c| c.state.exit().is_some()).then_some(())
                    };
                    self.await_news(id.as_str(), over).await.ok_or(error)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let exit = match (exit, &container.state) {
                (Some(exit), _) => exit,
                // The shim has not heard of the start yet, or has just refused it.
                (None, ContainerState::Starting) => {
                    let changed = || {
                        let container = self.records.container(id);
                        container.is_none_or(|c| c.state != ContainerState::Starting).then_some(())
                    };
                    let soon = Duration::from_millis(20);
                    let _ = tokio::time::timeout(soon, self.await_news(id.as_str(), changed)).await;
                    continue;
                }
                (None, _) => Exit::lost(now(), "the shim does not know the container"),
            };
            match self.records.set_container(id, ContainerVerb::Exit(exit)).await {
                // The loop's next turn returns the exit that stands.
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn count_stuck(&self, id: &ContainerId, threads: u32) {
        if threads > 0 {
            let all = self
                .stuck_threads
                .fetch_add(u64::from(threads), std::sync::atomic::Ordering::Relaxed)
                + u64::from(threads);
            tracing::warn!(container = %id, threads, all, "threads stay in a system call");
        }
    }

    /// Looks at each change of a record until `seen` finds what it wants; `None` when it does
    /// not within [`SETTLING`].
    pub(super) async fn await_news<T>(&self, id: &str, seen: impl Fn() -> Option<T>) -> Option<T> {
        let turn = self.records.turn(id);
        let mut news = turn.news();
        let wait = async {
            loop {
                if let Some(found) = seen() {
                    return Some(found);
                }
                news.changed().await.ok()?;
            }
        };
        tokio::time::timeout(SETTLING, wait).await.ok().flatten()
    }
}
