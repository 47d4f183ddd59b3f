//! A pod's status from what is observed: phase, exit code, what each container does. Pure, after
//! the kubelet's getPhase.

use std::collections::BTreeMap;

use super::observe::{Attempt, Observation};
use super::record::{Ending, PodPhase};
use super::sync::{Phase, Role, Wanted};

/// Why a container does not run: the kubelet's reason and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: &'static str,
    pub message: String,
}

/// What watchers and lists are told of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerInfo {
    pub name: String,
    pub role: Role,
    /// Of the newest attempt, with its number; `None` before the first.
    pub newest: Option<(u32, Phase)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodStatus {
    pub phase: PodPhase,
    /// A word for `ps`: CrashLoopBackOff, Completed, Error; or empty.
    pub reason: String,
    pub sandbox: String,
    pub containers: Vec<ContainerInfo>,
    /// Set once the pod has ended for good.
    pub ending: Option<Ending>,
}

impl PodStatus {
    pub fn container(&self, name: &str) -> Option<&ContainerInfo> {
        self.containers.iter().find(|container| container.name == name)
    }

    pub fn restarts(&self) -> u32 {
        self.containers.iter().filter_map(|c| c.newest).map(|(attempt, _)| attempt).sum()
    }

    /// App containers that run, of how many.
    pub fn ready(&self) -> (u32, u32) {
        let apps = || self.containers.iter().filter(|c| c.role == Role::App);
        let runs = |c: &&ContainerInfo| matches!(c.newest, Some((_, Phase::Running)));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (number(apps().filter(runs).count()), number(apps().count()))
    }
}

/// The status of a pod that has not ended.
pub fn status(
    wanted: &[Wanted],
    observation: &Observation,
    waiting: &BTreeMap<String, Waiting>,
) -> PodStatus {
    let containers: Vec<ContainerInfo> = wanted
        .iter()
        .map(|wanted| ContainerInfo {
            name: wanted.name.clone(),
            role: wanted.role,
            newest: observation
                .newest(&wanted.name)
                .map(|attempt| (attempt.number(), attempt.phase())),
        })
        .collect();
    let reason = wanted
        .iter()
        .find_map(|wanted| waiting.get(&wanted.name))
        .map_or(String::new(), |waiting| waiting.reason.to_owned());
    let sandbox = observation.sandbox().map_or(String::new(), |sandbox| sandbox.id.clone());
    PodStatus { phase: phase(wanted, observation), reason, sandbox, containers, ending: None }
}

/// The kubelet's getPhase, for a pod that nobody has ordered to end.
pub fn phase(wanted: &[Wanted], observation: &Observation) -> PodPhase {
    let seen = |wanted: &Wanted| observation.seen(&wanted.name).map(|seen| seen.phase);
    let apps = || wanted.iter().filter(|wanted| wanted.role == Role::App);
    let failed_init = wanted.iter().any(|wanted| {
        wanted.role == Role::Init
            && matches!(seen(wanted), Some(Phase::Exited { code, .. })
                if code != 0 && !wanted.restarts_after(code))
    });
    if failed_init {
        return PodPhase::Failed;
    }
    if apps().any(|wanted| matches!(seen(wanted), None | Some(Phase::Created))) {
        return PodPhase::Pending;
    }
    let is_over = |wanted: &Wanted| match seen(wanted) {
        Some(Phase::Exited { code, .. }) => !wanted.restarts_after(code),
        _ => false,
    };
    if !apps().all(is_over) {
        return PodPhase::Running;
    }
    if apps().all(|wanted| matches!(seen(wanted), Some(Phase::Exited { code: 0, .. }))) {
        PodPhase::Succeeded
    } else {
        PodPhase::Failed
    }
}

/// How a pod ended whose containers have all stopped, whatever their policies.
pub fn ending(wanted: &[Wanted], observation: &Observation) -> Ending {
    let failed = |role: Role| -> Option<&Attempt> {
        let of_role = wanted.iter().filter(|wanted| wanted.role == role);
        let attempts = of_role.filter_map(|wanted| observation.newest(&wanted.name));
        attempts
            .filter(|attempt| matches!(attempt.phase(), Phase::Exited { code, .. } if code != 0))
            .min_by_key(|attempt| attempt.status.finished_at)
    };
    let all_done = wanted.iter().filter(|wanted| wanted.role == Role::App).all(|wanted| {
        let newest = observation.newest(&wanted.name).map(Attempt::phase);
        matches!(newest, Some(Phase::Exited { code: 0, .. }))
    });
    let phase = if all_done { PodPhase::Succeeded } else { PodPhase::Failed };
    let (exit_code, message) = match failed(Role::App).or_else(|| failed(Role::Init)) {
        Some(attempt) => {
            let (name, status) = (attempt.name(), &attempt.status);
            let text =
                format!("container {name} ended with {} ({})", status.exit_code, status.reason);
            (status.exit_code, text)
        }
        None if all_done => (0, String::new()),
        // Ended before it came to run: there is no code, and it was no success.
        None => (1, "the pod ended before all of its containers ran".to_owned()),
    };
    Ending { phase, exit_code, reason: String::new(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::sync::RestartPolicy;
    use crate::proto::cri;

    fn attempt(name: &str, code: Option<i32>, finished_at: i64) -> Attempt {
        let state = match code {
            Some(_) => cri::ContainerState::ContainerExited,
            None => cri::ContainerState::ContainerRunning,
        };
        let metadata = cri::ContainerMetadata { name: name.to_owned(), attempt: 0 };
        Attempt {
            sandbox: "s".to_owned(),
            status: cri::ContainerStatus {
                metadata: Some(metadata),
                state: state.into(),
                exit_code: code.unwrap_or(0),
                finished_at,
                reason: "Error".to_owned(),
                ..Default::default()
            },
        }
    }

    fn pod(policy: RestartPolicy, attempts: Vec<Attempt>) -> (PodPhase, Ending) {
        let item = |name: &str, role| Wanted { name: name.to_owned(), role, policy };
        let wanted = [item("i", Role::Init), item("a", Role::App), item("b", Role::App)];
        let sandboxes = vec![cri::PodSandbox { id: "s".to_owned(), ..Default::default() }];
        let observation = Observation { sandboxes, attempts };
        (phase(&wanted, &observation), ending(&wanted, &observation))
    }

    #[test]
    fn phases_are_the_kubelets() {
        use PodPhase::{Failed, Pending, Running, Succeeded};
        use RestartPolicy::{Always, Never, OnFailure};
        let run = |name| attempt(name, None, 0);
        let end = |name, code| attempt(name, Some(code), 1);
        for (policy, attempts, want) in [
            (Always, vec![], Pending),
            (Always, vec![run("i")], Pending),
            (Never, vec![end("i", 1)], Failed),
            (OnFailure, vec![end("i", 1)], Pending),
            (Always, vec![run("a")], Pending),
            (Always, vec![run("a"), run("b")], Running),
            (Always, vec![end("a", 0), end("b", 1)], Running),
            (Never, vec![end("a", 0), run("b")], Running),
            (Never, vec![end("a", 0), end("b", 1)], Failed),
            (Never, vec![end("a", 0), end("b", 0)], Succeeded),
            (OnFailure, vec![end("a", 0), end("b", 1)], Running),
            (OnFailure, vec![end("a", 0), end("b", 0)], Succeeded),
        ] {
            assert_eq!(pod(policy, attempts.clone()).0, want, "{policy:?} {attempts:?}");
        }
    }

    #[test]
    fn the_exit_code_is_that_of_the_first_app_container_to_fail() {
        let never = RestartPolicy::Never;
        let failed = vec![attempt("a", Some(3), 9), attempt("b", Some(134), 4)];
        assert_eq!(pod(never, failed).1.exit_code, 134);
        assert_eq!(pod(never, vec![attempt("i", Some(7), 1)]).1.exit_code, 7);
        let done = vec![attempt("a", Some(0), 1), attempt("b", Some(0), 1)];
        assert_eq!(pod(never, done).1.exit_code, 0);
        assert_eq!(pod(never, vec![]).1.exit_code, 1);
    }
}
