//! How containers end, and that nothing is left then.

use std::time::{Duration, Instant};

use tonic::Code;

use super::bench::{Bench, with_shim};
use super::guests;
use crate::proto::shim::{self as wire};

#[test]
fn a_program_runs_to_its_end_and_its_output_is_in_the_log() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let id = shim.run(&sandbox, guests::HELLO).await;
        let exit = shim.exit_of(&id).await;
        assert_eq!((exit.code, exit.reason.as_str()), (0, "Completed"), "{}", exit.message);
        let log = shim.log(&id);
        assert!(log.ends_with(" stdout F hello\n"), "{log}");
        assert_eq!(shim.mounted_roots(), Vec::<String>::new());
    });
}

#[test]
fn an_exit_code_is_exact() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let id = shim.run(&sandbox, guests::EXIT_3).await;
        let exit = shim.exit_of(&id).await;
        assert_eq!((exit.code, exit.reason.as_str()), (3, "Error"));
    });
}

#[test]
fn a_trap_is_told_in_the_exit_and_in_the_log() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let id = shim.run(&sandbox, guests::TRAP).await;
        let exit = shim.exit_of(&id).await;
        assert_eq!((exit.code, exit.reason.as_str()), (134, "Error"));
        assert!(exit.message.contains("unreachable"), "{}", exit.message);
        assert!(exit.message.contains("inner"), "{}", exit.message);
        assert!(shim.log(&id).contains(" stderr F "), "{}", shim.log(&id));
    });
}

#[test]
fn a_guest_over_its_memory_ends_alone() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let bystander = shim.run(&sandbox, guests::WAIT).await;
        let mut request = shim.request(&sandbox, guests::HOG);
        request.limits =
            Some(wire::Limits { memory: 8 << 20, descriptors: 64, handles: 64, ..<_>::default() });
        let id = request.id.clone();
        shim.client.create_container(request).await.expect("creates");
        shim.start(&id).await.expect("starts");
        let exit = shim.exit_of(&id).await;
        assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"), "{}", exit.message);
        let state =
            shim.client.state(wire::StateRequest::default()).await.expect("tells").into_inner();
        let phase = state.containers.iter().find(|c| c.id == bystander).map(|c| c.phase());
        assert_eq!(phase, Some(wire::container_state::Phase::Running));
    });
}

#[test]
fn a_spinner_dies_at_once_with_the_signal_that_was_asked_for() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        for (guest, signal, code) in
            [(guests::SPIN, 15, 143), (guests::WAIT, 15, 143), (guests::SPIN, 9, 137)]
        {
            let id = shim.run(&sandbox, guest).await;
            let asked = Instant::now();
            let exit = shim.stop(&id, signal, 0).await;
            eprintln!("stopped in {:?}", asked.elapsed());
            assert_eq!(exit.code, code);
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
            assert_eq!(shim.stop(&id, 9, 0).await, exit, "the first exit stays");
            assert_eq!(shim.mounted_roots(), Vec::<String>::new());
        }
    });
}

#[test]
fn grace_that_runs_out_ends_in_kill_and_both_who_asked_hear_the_same() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let id = shim.run(&sandbox, guests::WAIT).await;
        let asked = Instant::now();
        let request = wire::StopContainerRequest {
            id,
            signal: 15,
            grace_ms: 30,
            patience: wire::stop_container_request::Patience::All.into(),
        };
        let mut other = shim.client.clone();
        let (one, two) = tokio::join!(
            shim.client.stop_container(request.clone()),
            other.stop_container(request)
        );
        let exits = [one, two].map(|stopped| stopped.expect("stops").into_inner().exit);
        assert!(asked.elapsed() >= Duration::from_millis(30));
        assert_eq!(exits[0].as_ref().map(|exit| exit.code), Some(137));
        assert_eq!(exits[0], exits[1]);
    });
}

#[test]
fn a_container_that_never_ran_can_be_stopped() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let request = shim.request(&sandbox, guests::HELLO);
        let id = request.id.clone();
        shim.client.create_container(request).await.expect("creates");
        assert_eq!(shim.mounted_roots().len(), 2, "root and /dev");
        assert_eq!(shim.stop(&id, 15, 1000).await.code, 143);
        assert_eq!(shim.mounted_roots(), Vec::<String>::new());
        let error = shim.start(&id).await.expect_err("it has ended");
        assert_eq!(error.code(), Code::FailedPrecondition);
    });
}

#[test]
fn stopping_a_sandbox_ends_all_its_containers_and_threads() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let mut ids = Vec::new();
        for guest in [guests::SPIN, guests::WAIT, guests::WAIT] {
            ids.push(shim.run(&sandbox, guest).await);
        }
        let request = wire::SandboxRequest { id: sandbox.to_string() };
        shim.client.stop_sandbox(request.clone()).await.expect("stops");
        shim.client.stop_sandbox(request.clone()).await.expect("stops again");
        assert_eq!(shim.mounted_roots(), Vec::<String>::new());
        let state =
            shim.client.state(wire::StateRequest::default()).await.expect("tells").into_inner();
        assert!(state.sandboxes.iter().all(|sandbox| sandbox.stopped));
        assert_eq!(state.containers.len(), 3);
        let codes = state.containers.iter().map(|c| c.exit.as_ref().map(|exit| exit.code));
        assert!(codes.into_iter().all(|code| code == Some(137)));
        let threads = shim.registry.sandboxes().iter().map(|s| s.threads.count()).sum::<usize>();
        assert_eq!(threads, 0);

        let late = shim.request(&sandbox, guests::HELLO);
        let error = shim.client.create_container(late).await.expect_err("it is stopped");
        assert_eq!(error.code(), Code::FailedPrecondition);

        shim.client.remove_sandbox(request).await.expect("removes");
        let state =
            shim.client.state(wire::StateRequest::default()).await.expect("tells").into_inner();
        assert_eq!(state, wire::StateResponse::default());
        shim.client.shutdown(wire::Empty {}).await.expect("is empty");
    });
}
