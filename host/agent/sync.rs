//! What to do next for a pod: one pure function over its specification and what is observed,
//! after the kubelet's computePodActions. Back-off, hooks and RPCs are the worker's.
//!
//!     no ready sandbox ──> create one ──> init containers, one after the other
//!                                         (a sidecar: once it runs, the next) ──> app containers
//!     nothing runs, nothing to start ──> end the pod

use super::backoff::Nanos;

/// Kubernetes' restart policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    /// The policy of that name; Kubernetes' default is Always.
    pub fn parse(name: Option<&str>) -> Self {
        match name {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }

    pub fn restarts_after(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next starts.
    Init,
    /// An init container with restartPolicy Always: runs beside all that follow.
    Sidecar,
    App,
}

/// A container as specified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub role: Role,
    /// Its own policy, else the pod's.
    pub policy: RestartPolicy,
}

impl Wanted {
    /// Whether an end with that code is followed by a restart. An init container that is
    /// through has nothing to do again, whatever its policy.
    pub fn restarts_after(&self, code: i32) -> bool {
        (self.role != Role::Init || code != 0) && self.policy.restarts_after(code)
    }
}

/// Where a container's newest attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Created,
    Running,
    Exited { code: i32, finished_at: Nanos },
    Unknown,
}

/// The newest attempt of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub phase: Phase,
    /// Whether it belongs to the newest sandbox.
    pub in_sandbox: bool,
}

/// The newest sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SandboxSeen {
    pub attempt: u32,
    pub ready: bool,
}

/// Everything that decides. `seen` is parallel to `wanted`: init containers in their order, then
/// app containers.
#[derive(Clone, Debug)]
pub struct View<'a> {
    pub wanted: &'a [Wanted],
    pub seen: &'a [Option<Seen>],
    pub sandbox: Option<SandboxSeen>,
}

/// What to do, in this order: kill, make a sandbox, start. Indices are into `View::wanted`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// End every container and the sandbox. Without `create` the pod is over.
    pub kill_pod: bool,
    /// Make a sandbox of this attempt.
    pub create: Option<u32>,
    /// Containers in a state that nobody can know, to be killed before their restart.
    pub kill: Vec<usize>,
    pub start: Vec<usize>,
}

/// The next actions. Never restarts what its policy lets rest.
pub fn actions(view: &View<'_>) -> Actions {
    match view.sandbox {
        Some(SandboxSeen { ready: true, .. }) => in_sandbox(view),
        other => without_sandbox(view, other.map_or(0, |sandbox| sandbox.attempt + 1)),
    }
}

/// Pairs of index, specification and what is seen of it.
fn items<'a>(
    view: &'a View<'_>,
) -> impl DoubleEndedIterator<Item = (usize, &'a Wanted, Option<&'a Seen>)> {
    let seen = view.seen.iter().map(Option::as_ref);
    let pairs = view.wanted.iter().zip(seen).enumerate();
    pairs.map(|(index, (wanted, seen))| (index, wanted, seen)).collect::<Vec<_>>().into_iter()
}

fn without_sandbox(view: &View<'_>, attempt: u32) -> Actions {
    let mut actions = Actions { kill_pod: true, ..Actions::default() };
    let had_containers = view.seen.iter().any(Option::is_some);
    let rests =
        |wanted: &Wanted| wanted.role == Role::Sidecar || wanted.policy == RestartPolicy::Never;
    if attempt > 0 && had_containers && view.wanted.iter().all(rests) {
        return actions;
    }
    let start: Vec<usize> = items(view)
        .filter(|(_, wanted, seen)| wanted.role == Role::App && !rests_done(wanted, *seen))
        .map(|(index, _, _)| index)
        .collect();
    let has_init = view.wanted.iter().any(|wanted| wanted.role != Role::App);
    if start.is_empty() && (!has_init || initialized_before(view)) {
        return actions;
    }
    actions.create = Some(attempt);
    // A new sandbox begins from the beginning.
    actions.start = if has_init { vec![0] } else { start };
    actions
}

/// Ended in a way that its policy does not restart, counted over all sandboxes.
fn rests_done(wanted: &Wanted, seen: Option<&Seen>) -> bool {
    matches!(seen, Some(Seen { phase: Phase::Exited { code, .. }, .. })
        if !wanted.policy.restarts_after(*code))
}

fn initialized_before(view: &View<'_>) -> bool {
    items(view).any(|(_, wanted, seen)| wanted.role == Role::App && seen.is_some())
}

fn in_sandbox(view: &View<'_>) -> Actions {
    let mut actions = Actions::default();
    let initialized = init_actions(view, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    let mut keep = 0;
    let mut start = Vec::new();
    for (index, wanted, seen) in items(view) {
        if wanted.role != Role::App {
            continue;
        }
        match seen.map(|seen| seen.phase) {
            Some(Phase::Running) => keep += 1,
            Some(Phase::Exited { code, .. }) if !wanted.policy.restarts_after(code) => {}
            Some(Phase::Unknown) => {
                actions.kill.push(index);
                start.push(index);
            }
            _ => start.push(index),
        }
    }
    if keep == 0 && start.is_empty() {
        // Sidecars must not keep a finished pod alive.
        return Actions { kill_pod: true, ..Actions::default() };
    }
    actions.start.extend(start);
    actions
}

/// Adds what init containers and sidecars need; whether app containers may run. Looks from the
/// last to the first for the one that the pod has come to (computeInitContainerActions).
fn init_actions(view: &View<'_>, actions: &mut Actions) -> bool {
    let last = items(view).rfind(|(_, wanted, _)| wanted.role != Role::App).map(|item| item.0);
    let Some(last) = last else { return true };
    // An app container of this sandbox proves that all init containers were through.
    let mut initialized = items(view).any(|(_, wanted, seen)| {
        wanted.role == Role::App && seen.is_some_and(|seen| seen.in_sandbox)
    });
    let mut reached = initialized;
    let mut start = Vec::new();
    for (index, wanted, seen) in items(view).rev() {
        if wanted.role == Role::App {
            continue;
        }
        // What is left of an earlier sandbox says nothing about this one.
        let Some(seen) = seen.filter(|seen| seen.in_sandbox) else {
            if reached && wanted.role == Role::Sidecar {
                start.push(index);
            }
            continue;
        };
        if reached && wanted.role == Role::Init {
            continue;
        }
        let next = |initialized: &mut bool, start: &mut Vec<usize>| {
            if index == last {
                *initialized = true;
            } else {
                start.push(index + 1);
            }
        };
        match (seen.phase, wanted.role) {
            (Phase::Created, _) => start.push(index),
            (Phase::Running, Role::Sidecar) => {
                if !reached {
                    next(&mut initialized, &mut start);
                }
            }
            (Phase::Running, _) => {}
            (Phase::Exited { .. }, Role::Sidecar) => start.push(index),
            (Phase::Exited { code: 0, .. }, _) => next(&mut initialized, &mut start),
            (Phase::Exited { .. }, _) | (Phase::Unknown, Role::Init)
                if wanted.policy == RestartPolicy::Never =>
            {
                *actions = Actions { kill_pod: true, ..Actions::default() };
                return false;
            }
            (Phase::Exited { .. }, _) => start.push(index),
            (Phase::Unknown, _) => {
                actions.kill.push(index);
                start.push(index);
            }
        }
        reached = true;
    }
    if !reached {
        start.push(0);
    }
    start.reverse();
    actions.start = start;
    initialized
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
