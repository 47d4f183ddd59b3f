//! Ends containers as the kubelet does: preStop within the grace period, then StopContainer with
//! what is left; sidecars after everybody else, the last one first.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::events::Event;
use super::hooks;
use super::manifest::Manifest;
use super::observe::{Attempt, Observation};
use super::pod::Pod;
use super::remote::Remote;
use super::sync::Role;
use crate::error::Result;

/// The kubelet's shortest time between the stop signal and the kill, unless it is told less.
const SHORTEST: Duration = Duration::from_secs(2);

/// How to end a pod's containers.
#[derive(Clone, Copy, Debug)]
pub struct Stopper<'a> {
    pub pod: &'a Pod,
    pub manifest: &'a Manifest,
    pub remote: &'a Remote,
    /// The order's grace; `None` is the pod's own.
    pub grace: Option<Duration>,
}

impl Stopper<'_> {
    fn grace(&self) -> Duration {
        let spec = self.manifest.pod.spec.as_ref();
        let own = spec.and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        self.grace.unwrap_or(Duration::from_secs(u64::try_from(own).unwrap_or(0)))
    }

    /// Ends every container that lives. `announced` holds the ids whose Killing event is out.
    pub async fn all(
        &self,
        observation: &Observation,
        announced: &mut HashSet<String>,
    ) -> Result<()> {
        let began = Instant::now();
        let role = |attempt: &&Attempt| {
            self.pod.wanted.iter().find(|w| w.name == attempt.name()).map_or(Role::App, |w| w.role)
        };
        let alive = || observation.attempts.iter().filter(|attempt| attempt.is_alive());
        for attempt in alive() {
            self.announce(attempt, "", announced);
        }
        let mains = alive().filter(|attempt| role(attempt) != Role::Sidecar);
        let stops = mains.map(|attempt| self.stop(attempt, self.grace()));
        for outcome in futures::future::join_all(stops).await {
            outcome?;
        }
        let position =
            |attempt: &&Attempt| self.pod.wanted.iter().position(|w| w.name == attempt.name());
        let mut sidecars: Vec<&Attempt> =
            alive().filter(|attempt| role(attempt) == Role::Sidecar).collect();
        sidecars.sort_by_key(position);
        for attempt in sidecars.into_iter().rev() {
            let left = self.grace().saturating_sub(began.elapsed());
            self.stop(attempt, left).await?;
        }
        Ok(())
    }

    /// Ends one container for `message`'s reason.
    pub async fn one(
        &self,
        attempt: &Attempt,
        message: &str,
        announced: &mut HashSet<String>,
    ) -> Result<()> {
        self.announce(attempt, message, announced);
        self.stop(attempt, self.grace()).await
    }

    fn announce(&self, attempt: &Attempt, message: &str, announced: &mut HashSet<String>) {
        if !announced.insert(format!("killing {}", attempt.id())) {
            return;
        }
        let text = if message.is_empty() {
            format!("Stopping container {}", attempt.name())
        } else {
            message.to_owned()
        };
        self.pod.events.add(Event::normal("Killing", text).of(attempt.name(), attempt.id()));
    }

    async fn stop(&self, attempt: &Attempt, grace: Duration) -> Result<()> {
        let began = Instant::now();
        let container = self.manifest.container(attempt.name());
        let lifecycle = container.and_then(|container| container.lifecycle.as_ref());
        let hook = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let Some(hook) = hook.filter(|_| !grace.is_zero()) {
            let run = hooks::run(self.remote, attempt.id(), hook, Some(grace));
            // The runtime holds the deadline; should it not answer, the stop goes on all the same.
            let outcome = tokio::time::timeout(grace + SHORTEST, run).await;
            let fault = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("not done within {} s", grace.as_secs())),
            };
            if let Some(fault) = fault {
                let text = format!("PreStopHook failed: {fault}");
                let event = Event::warning("FailedPreStopHook", text);
                self.pod.events.add(event.of(attempt.name(), attempt.id()));
            }
        }
        let left = grace.saturating_sub(began.elapsed());
        let left = if self.grace.is_some() { left } else { left.max(SHORTEST) };
        self.remote.stop(attempt.id(), left).await
    }
}
