//! Tests of `sync`.

use proptest::prelude::*;

use super::*;

const RUNNING: Phase = Phase::Running;
const OK: Phase = Phase::Exited { code: 0, finished_at: 1 };
const BAD: Phase = Phase::Exited { code: 3, finished_at: 1 };
const READY: Option<SandboxSeen> = Some(SandboxSeen { attempt: 0, ready: true });

fn wanted(role: Role, policy: RestartPolicy) -> Wanted {
    Wanted { name: format!("{role:?}"), role, policy }
}

fn here(phase: Phase) -> Option<Seen> {
    Some(Seen { phase, in_sandbox: true })
}

fn before(phase: Phase) -> Option<Seen> {
    Some(Seen { phase, in_sandbox: false })
}

fn start(start: &[usize]) -> Actions {
    Actions { start: start.to_vec(), ..Actions::default() }
}

fn create(attempt: u32, start: &[usize]) -> Actions {
    let create = Some(attempt);
    Actions { kill_pod: true, create, start: start.to_vec(), ..Actions::default() }
}

fn over() -> Actions {
    Actions { kill_pod: true, ..Actions::default() }
}

/// Rows of the kubelet's TestComputePodActions and its init and sidecar siblings.
#[test]
fn the_kubelets_table_holds() {
    use RestartPolicy::{Always, Never, OnFailure};
    use Role::{App, Init, Sidecar};
    let gone = Some(SandboxSeen { attempt: 0, ready: false });
    type Containers = Vec<(Role, RestartPolicy, Option<Seen>)>;
    let rows: Vec<(&str, Containers, Option<SandboxSeen>, Actions)> = vec![
        ("new pod", vec![(App, Always, None), (App, Always, None)], None, create(0, &[0, 1])),
        (
            "new pod with init",
            vec![(Init, Always, None), (App, Always, None)],
            None,
            create(0, &[0]),
        ),
        (
            "all run",
            vec![(App, Always, here(RUNNING)), (App, Always, here(RUNNING))],
            READY,
            start(&[]),
        ),
        (
            "one exited, Always",
            vec![(App, Always, here(OK)), (App, Always, here(RUNNING))],
            READY,
            start(&[0]),
        ),
        (
            "one failed, OnFailure",
            vec![(App, OnFailure, here(BAD)), (App, OnFailure, here(OK))],
            READY,
            start(&[0]),
        ),
        (
            "all done, OnFailure",
            vec![(App, OnFailure, here(OK)), (App, OnFailure, here(OK))],
            READY,
            over(),
        ),
        ("all exited, Never", vec![(App, Never, here(BAD)), (App, Never, here(OK))], READY, over()),
        (
            "one runs, Never",
            vec![(App, Never, here(BAD)), (App, Never, here(RUNNING))],
            READY,
            start(&[]),
        ),
        ("created is started anew", vec![(App, Never, here(Phase::Created))], READY, start(&[0])),
        (
            "unknown is killed first",
            vec![(App, Never, here(Phase::Unknown))],
            READY,
            Actions { kill: vec![0], ..start(&[0]) },
        ),
        (
            "sandbox gone, Always",
            vec![(App, Always, before(BAD)), (App, Always, None)],
            gone,
            create(1, &[0, 1]),
        ),
        (
            "sandbox gone, OnFailure skips the done",
            vec![(App, OnFailure, before(OK)), (App, OnFailure, before(BAD))],
            gone,
            create(1, &[1]),
        ),
        ("sandbox gone, OnFailure all done", vec![(App, OnFailure, before(OK))], gone, over()),
        ("sandbox gone, Never", vec![(App, Never, before(BAD))], gone, over()),
        (
            "sandbox gone before anything ran, Never",
            vec![(App, Never, None)],
            gone,
            create(1, &[0]),
        ),
        (
            "sandbox gone, init runs again",
            vec![(Init, Always, before(OK)), (App, Always, before(BAD))],
            gone,
            create(1, &[0]),
        ),
        (
            "new sandbox, old init does not count",
            vec![(Init, Always, before(OK)), (App, Always, before(BAD))],
            READY,
            start(&[0]),
        ),
        ("init runs", vec![(Init, Always, here(RUNNING)), (App, Always, None)], READY, start(&[])),
        (
            "first init done",
            vec![(Init, Never, here(OK)), (Init, Never, None), (App, Never, None)],
            READY,
            start(&[1]),
        ),
        (
            "init done",
            vec![(Init, Never, here(OK)), (App, Never, None), (App, Never, None)],
            READY,
            start(&[1, 2]),
        ),
        (
            "init failed, OnFailure",
            vec![(Init, OnFailure, here(BAD)), (App, OnFailure, None)],
            READY,
            start(&[0]),
        ),
        ("init failed, Never", vec![(Init, Never, here(BAD)), (App, Never, None)], READY, over()),
        (
            "init unknown, Never",
            vec![(Init, Never, here(Phase::Unknown)), (App, Never, None)],
            READY,
            over(),
        ),
        (
            "sidecar runs, init next",
            vec![(Sidecar, Always, here(RUNNING)), (Init, Never, None), (App, Never, None)],
            READY,
            start(&[1]),
        ),
        (
            "last sidecar runs",
            vec![(Sidecar, Always, here(RUNNING)), (App, Never, None)],
            READY,
            start(&[1]),
        ),
        (
            "sidecar crashed while init runs",
            vec![(Sidecar, Always, here(BAD)), (Init, Never, here(RUNNING)), (App, Never, None)],
            READY,
            start(&[0]),
        ),
        (
            "sidecar crashed beside the app",
            vec![(Sidecar, Always, here(OK)), (App, Never, here(RUNNING))],
            READY,
            start(&[0]),
        ),
        (
            "app done, sidecar does not hold the pod",
            vec![(Sidecar, Always, here(RUNNING)), (App, Never, here(OK))],
            READY,
            over(),
        ),
        (
            "app done, crashed sidecar rests",
            vec![(Sidecar, Always, here(BAD)), (App, Never, here(OK))],
            READY,
            over(),
        ),
        (
            "init removed after the app started",
            vec![(Init, Never, None), (App, Always, here(RUNNING))],
            READY,
            start(&[]),
        ),
    ];
    for (name, containers, sandbox, expected) in rows {
        let wants: Vec<Wanted> =
            containers.iter().map(|(role, policy, _)| wanted(*role, *policy)).collect();
        let seen: Vec<Option<Seen>> = containers.iter().map(|(_, _, seen)| seen.clone()).collect();
        let actions = actions(&View { wanted: &wants, seen: &seen, sandbox });
        assert_eq!(actions, expected, "{name}");
    }
}

fn any_phase() -> impl Strategy<Value = Option<Seen>> {
    let phase =
        prop_oneof![Just(Phase::Created), Just(RUNNING), Just(OK), Just(BAD), Just(Phase::Unknown)];
    proptest::option::of(
        (phase, any::<bool>()).prop_map(|(phase, in_sandbox)| Seen { phase, in_sandbox }),
    )
}

fn any_pod() -> impl Strategy<Value = Vec<(Wanted, Option<Seen>)>> {
    let policy = prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::OnFailure),
        Just(RestartPolicy::Never)
    ];
    let role = prop_oneof![Just(Role::Init), Just(Role::Sidecar)];
    let init = proptest::collection::vec((role, any_phase()), 0..4);
    let app = proptest::collection::vec(any_phase(), 1..4);
    (policy, init, app).prop_map(|(policy, init, app)| {
        let init = init.into_iter().map(move |(role, seen)| {
            let policy = if role == Role::Sidecar { RestartPolicy::Always } else { policy };
            (wanted(role, policy), seen)
        });
        let app = app.into_iter().map(move |seen| (wanted(Role::App, policy), seen));
        init.chain(app).collect()
    })
}

proptest! {
    #[test]
    fn what_runs_is_never_started_and_what_rests_never_restarted(pod in any_pod(), ready in any::<bool>()) {
        let (wanted, seen): (Vec<_>, Vec<_>) = pod.into_iter().unzip();
        let sandbox = Some(SandboxSeen { attempt: 0, ready });
        let actions = actions(&View { wanted: &wanted, seen: &seen, sandbox });
        for index in &actions.start {
            let seen = seen[*index].as_ref().filter(|_| ready);
            if let Some(seen) = seen.filter(|seen| seen.in_sandbox) {
                prop_assert_ne!(seen.phase, RUNNING);
                if let Phase::Exited { code, .. } = seen.phase {
                    prop_assert!(wanted[*index].policy.restarts_after(code));
                }
            }
        }
        let mut sorted = actions.start.clone();
        sorted.sort_unstable();
        sorted.dedup();
        prop_assert_eq!(sorted, actions.start);
    }

    /// Plays a pod through with containers that end as told; it must settle, and in order.
    #[test]
    fn every_pod_that_ends_settles_in_order(pod in any_pod(), codes in proptest::collection::vec(0..2i32, 60)) {
        let wanted: Vec<Wanted> = pod.into_iter().map(|(wanted, _)| Wanted {
            policy: if wanted.role == Role::Sidecar { RestartPolicy::Always } else { RestartPolicy::OnFailure },
            ..wanted
        }).collect();
        let mut seen: Vec<Option<Seen>> = vec![None; wanted.len()];
        let mut sandbox = None;
        let mut codes = codes.into_iter().chain(std::iter::repeat(0));
        let mut settled = false;
        for _ in 0..200 {
            let actions = actions(&View { wanted: &wanted, seen: &seen, sandbox });
            if actions.kill_pod && actions.create.is_none() {
                settled = true;
                break;
            }
            if let Some(attempt) = actions.create {
                sandbox = Some(SandboxSeen { attempt, ready: true });
            }
            for index in actions.start {
                for earlier in 0..index {
                    let phase = seen[earlier].as_ref().map(|seen| seen.phase);
                    match wanted[earlier].role {
                        Role::Init => prop_assert_eq!(phase, Some(OK)),
                        Role::Sidecar => prop_assert!(phase.is_some()),
                        Role::App => {}
                    }
                }
                seen[index] = here(RUNNING);
            }
            for (wanted, seen) in wanted.iter().zip(seen.iter_mut()) {
                if wanted.role != Role::Sidecar && seen.as_ref().is_some_and(|seen| seen.phase == RUNNING) {
                    let code = codes.next().unwrap_or(0);
                    *seen = here(if code == 0 { OK } else { BAD });
                }
            }
        }
        prop_assert!(settled);
    }
}
