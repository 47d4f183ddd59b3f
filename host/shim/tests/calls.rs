//! Versions, limits, statistics, logs and the news of exits.

use tonic::Code;

use super::bench::{Bench, with_shim};
use super::guests;
use crate::model::exits::{JOURNAL, parse};
use crate::proto::SHIM_PROTOCOLS;
use crate::proto::shim::{self as wire};

#[test]
fn a_version_is_agreed_on_and_room_shrinks() {
    with_shim(async |mut shim: Bench| {
        let hello = |versions: Vec<u32>| wire::HelloRequest { versions };
        let error = shim.client.hello(hello(vec![99])).await.expect_err("unknown");
        assert_eq!(error.code(), Code::FailedPrecondition);
        let before =
            shim.client.hello(hello([&[99], &SHIM_PROTOCOLS[..]].concat())).await.expect("agrees");
        assert_eq!(before.get_ref().version, SHIM_PROTOCOLS[0]);
        shim.sandbox().await;
        let after = shim.client.hello(hello(SHIM_PROTOCOLS.to_vec())).await.expect("agrees");
        assert_eq!(after.get_ref().room, before.get_ref().room - 1);
    });
}

#[test]
fn limits_change_while_the_guest_runs_and_bad_ones_change_nothing() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let id = shim.run(&sandbox, guests::WAIT).await;
        let update = |cpus: &str, memory: i64| wire::UpdateContainerRequest {
            id: id.clone(),
            memory,
            descriptors: 0,
            cpuset_cpus: cpus.to_owned(),
            ..Default::default()
        };
        let own = crate::shim::cpu::own();
        let last = own.iter().last().expect("a CPU").to_string();
        shim.client.update_container(update(&last, 64 << 20)).await.expect("updates");
        let container = shim.registry.containers()[0].clone();
        // It is running as soon as its Store is about to be made.
        while container.ledger.memory.used() == 0 {
            tokio::task::yield_now().await;
        }
        let affinity = || -> Vec<String> {
            let status = |tid| {
                let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/status"));
                let text = text.expect("it lives");
                let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
                line.expect("is told").trim().to_owned()
            };
            container.control.threads.ids().into_iter().map(status).collect()
        };
        assert_eq!(affinity(), std::slice::from_ref(&last));

        for bad in ["8000", "x", "3-1"] {
            let error = shim.client.update_container(update(bad, 1 << 20)).await.expect_err(bad);
            assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
        }
        assert_eq!(affinity(), [last]);
        let request = wire::StatsRequest { container_ids: vec![id.clone()], ..Default::default() };
        let stats = shim.client.stats(request).await.expect("tells").into_inner();
        let stats = &stats.containers[0];
        assert_eq!(stats.memory_limit, 64 << 20);
        assert!(stats.memory >= 1 << 16 && stats.memory_peak >= stats.memory);
        assert!(stats.cpu_nanos > 0);

        shim.client.update_container(update("", 0)).await.expect("updates");
        assert_eq!(affinity(), [own.to_string()]);
    });
}

#[test]
fn exits_are_told_until_they_are_acknowledged_and_stay_in_the_journal() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let first = shim.run(&sandbox, guests::EXIT_3).await;
        assert_eq!(shim.next_exit().await.container_id, first);
        assert_eq!(shim.next_exit().await.container_id, first, "nobody has acknowledged it");
        shim.exit_of(&first).await;
        let second = shim.run(&sandbox, guests::HELLO).await;
        assert_eq!(shim.next_exit().await.container_id, second);
        let journal = std::fs::read(shim.file("shim").join(JOURNAL)).expect("reads");
        let ended: Vec<_> =
            parse(&journal).into_iter().map(|r| (r.container, r.exit.code)).collect();
        assert_eq!(ended, [(first, 3), (second, 0)]);
    });
}

#[test]
fn a_removed_container_leaves_its_cpu_time_with_the_sandbox() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let id = shim.run(&sandbox, guests::HELLO).await;
        shim.exit_of(&id).await;
        let all = wire::StatsRequest { sandboxes: true, ..Default::default() };
        let before = shim.client.stats(all.clone()).await.expect("tells").into_inner();
        let request = wire::ContainerRequest { id };
        shim.client.remove_container(request.clone()).await.expect("removes");
        shim.client.remove_container(request).await.expect("is gone");
        let after = shim.client.stats(all).await.expect("tells").into_inner();
        assert!(after.sandboxes[0].cpu_nanos >= before.sandboxes[0].cpu_nanos);
        assert_eq!(after.sandboxes[0].memory, 0);
    });
}

#[test]
fn a_rotated_log_goes_on_in_a_new_file() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let id = shim.run(&sandbox, guests::WAIT).await;
        let log = shim.file(&format!("{id}.log"));
        std::fs::rename(&log, shim.file("rotated")).expect("renames");
        shim.client.reopen_log(wire::ContainerRequest { id }).await.expect("reopens");
        assert!(log.exists());
    });
}

#[test]
fn a_shim_that_holds_a_sandbox_does_not_shut_down() {
    with_shim(async |mut shim: Bench| {
        shim.sandbox().await;
        let error = shim.client.shutdown(wire::Empty {}).await.expect_err("it holds one");
        assert_eq!(error.code(), Code::FailedPrecondition);
    });
}
