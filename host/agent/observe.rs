//! What CRI shows of a pod: its sandboxes and the attempts of its containers, newest first.

use std::collections::HashMap;

use super::remote::Remote;
use super::sync::{Phase, SandboxSeen, Seen};
use crate::error::Result;
use crate::proto::cri;

/// One attempt of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub sandbox: String,
    pub status: cri::ContainerStatus,
}

impl Attempt {
    pub fn id(&self) -> &str {
        &self.status.id
    }

    pub fn name(&self) -> &str {
        self.status.metadata.as_ref().map_or("", |metadata| metadata.name.as_str())
    }

    /// The restart count, which is the attempt as the kubelet counts.
    pub fn number(&self) -> u32 {
        self.status.metadata.as_ref().map_or(0, |metadata| metadata.attempt)
    }

    pub fn phase(&self) -> Phase {
        match self.status.state() {
            cri::ContainerState::ContainerCreated => Phase::Created,
            cri::ContainerState::ContainerRunning => Phase::Running,
            cri::ContainerState::ContainerExited => {
                Phase::Exited { code: self.status.exit_code, finished_at: self.status.finished_at }
            }
            cri::ContainerState::ContainerUnknown => Phase::Unknown,
        }
    }

    pub fn is_alive(&self) -> bool {
        matches!(self.phase(), Phase::Running | Phase::Unknown)
    }
}

/// Newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    pub sandboxes: Vec<cri::PodSandbox>,
    pub attempts: Vec<Attempt>,
}

impl Observation {
    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&cri::PodSandbox> {
        self.sandboxes.first()
    }

    pub fn sandbox_seen(&self) -> Option<SandboxSeen> {
        let newest = self.sandbox()?;
        let is_ready =
            |sandbox: &cri::PodSandbox| sandbox.state() == cri::PodSandboxState::SandboxReady;
        // Two ready ones are one too many: the kubelet makes a new one then.
        let ready = is_ready(newest) && self.sandboxes.iter().filter(|s| is_ready(s)).count() == 1;
        let attempt = newest.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
        Some(SandboxSeen { attempt, ready })
    }

    /// The newest attempt of that container.
    pub fn newest(&self, name: &str) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.name() == name)
    }

    pub fn seen(&self, name: &str) -> Option<Seen> {
        let attempt = self.newest(name)?;
        let current = self.sandbox().is_some_and(|sandbox| sandbox.id == attempt.sandbox);
        Some(Seen { phase: attempt.phase(), in_sandbox: current })
    }
}

/// Asks CRI, and remembers what cannot change any more.
#[derive(Debug, Default)]
pub struct Observer {
    exited: HashMap<String, cri::ContainerStatus>,
}

impl Observer {
    pub async fn observe(&mut self, remote: &Remote, uid: &str) -> Result<Observation> {
        let mut sandboxes = remote.sandboxes(uid).await?;
        let attempt_of = |sandbox: &cri::PodSandbox| sandbox.metadata.as_ref().map(|m| m.attempt);
        sandboxes
            .sort_by_key(|sandbox| std::cmp::Reverse((attempt_of(sandbox), sandbox.created_at)));
        let listed = remote.containers(uid).await?;
        self.exited.retain(|id, _| listed.iter().any(|container| container.id == *id));
        let mut attempts = Vec::new();
        for container in listed {
            let known = self.exited.get(&container.id).cloned();
            let status = match known {
                Some(status) => Some(status),
                None => remote.container_status(&container.id).await?,
            };
            let Some(status) = status else { continue };
            if status.state() == cri::ContainerState::ContainerExited {
                self.exited.insert(container.id, status.clone());
            }
            attempts.push(Attempt { sandbox: container.pod_sandbox_id, status });
        }
        attempts.sort_by_key(|attempt| {
            std::cmp::Reverse((attempt.number(), attempt.status.created_at))
        });
        Ok(Observation { sandboxes, attempts })
    }
}
