//! Where containers' threads really run, and for how long: cpusets, quotas, shares, memory nodes.
//!
//! A busy machine gives a container less than its quota, never more: every window is held to the
//! upper bound. For the lower one the time counts too that threads waited for a CPU.

use crate::support;

mod everywhere;
pub mod kit;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kit::{
    applied, cpus, daemon, groups, percent, ran, run, share, share_and_wait, threads, update,
};
use support::{Container, Daemon, eventually, eventually_async, guest, sandbox};
use wasmpod::proto::cri;

/// Points of a CPU that a quota may be missed by.
const POINTS: f64 = 5.0;

const WINDOW: Duration = Duration::from_millis(1500);
const WINDOWS: usize = 12;

/// The names of a container's threads that have run since a first look, once `enough` have.
async fn seen_on(daemon: &Daemon, of: &Container, enough: &[&str]) -> BTreeSet<(String, usize)> {
    let begun = threads(daemon, of);
    let mut seen = BTreeSet::new();
    eventually(&format!("threads {enough:?} run"), || {
        for (tid, thread) in threads(daemon, of) {
            let before = begun.get(&tid).map(|thread| thread.ran).unwrap_or_default();
            if thread.ran > before + Duration::from_millis(10) {
                seen.insert((thread.name.get(..1).unwrap_or_default().to_owned(), thread.cpu));
            }
        }
        enough.iter().all(|name| seen.iter().any(|(seen, _)| seen == name)).then_some(())
    })
    .await;
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn every_thread_runs_where_it_is_pinned_under_load_and_after_changes() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIPPED: pinning needs two CPUs");
        return;
    }
    let daemon = Daemon::start_with(&format!("[exec]\ntoolbox = {:?}\n", guest("toolbox"))).await;
    let pod = daemon.run_pod(sandbox("pinned")).await;
    for kind in ["probe", "probe-p2"] {
        let image = daemon.import(kind).await;
        let load = run(&pod, (&format!("load-{kind}"), &image), &["spin"], cpus("")).await;
        let pinned = run(&pod, (kind, &image), &["spin"], cpus("1")).await;
        let idle = run(&pod, (&format!("idle-{kind}"), &image), &["idle"], cpus("1")).await;
        // Blocking calls in processes of the container, started by an exec of it.
        let of_exec = pinned.clone();
        let script = "cat /dev/zero | cat > /dev/null";
        let exec =
            tokio::spawn(async move { of_exec.exec(&["sh", "-c", script], 25).await.is_err() });
        for cpu in [1_usize, 0, 1, 0] {
            let list = cpu.to_string();
            update(&pinned, cpus(&list)).await.unwrap();
            update(&idle, cpus(&list)).await.unwrap();
            let seen = seen_on(&daemon, &pinned, &["c", "p"]).await;
            assert!(seen.iter().all(|(_, on)| *on == cpu), "{kind} on {cpu}: {seen:?}");
            let all = [threads(&daemon, &pinned), threads(&daemon, &idle)];
            assert!(all[0].values().any(|thread| thread.name.starts_with("x-")), "{all:?}");
            for thread in all.iter().flat_map(|threads| threads.values()) {
                assert_eq!(thread.allowed, list, "{kind}: {thread:?}");
            }
        }
        assert!(threads(&daemon, &load).values().all(|thread| thread.allowed != "0"));
        assert!(exec.await.unwrap(), "it is ended by its timeout");
        for container in [load, pinned, idle] {
            container.stop(0).await;
        }
    }
}

/// Whether `of` is held to `percent` of a CPU, and gets them where it need not wait for a CPU.
async fn holds(daemon: &Daemon, of: &Container, percent: f64, what: &str) {
    let mut seen = Vec::new();
    for _ in 0..WINDOWS {
        let (share, waited) = share_and_wait(daemon, of, WINDOW).await;
        seen.push((share, waited));
        assert!(share <= percent + POINTS, "{what}: {seen:.1?} of {percent} %");
        if share + waited >= percent - POINTS {
            return;
        }
    }
    panic!("{what}: {seen:.1?} of {percent} %");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_held_by_both_ways_and_follows_live_changes() {
    for way in kit::WAYS {
        let Some(daemon) = daemon(way).await else { continue };
        let pod = daemon.run_pod(sandbox("quota")).await;
        for kind in ["probe", "probe-p2"] {
            let image = daemon.import(kind).await;
            let spins = run(&pod, (kind, &image), &["spin"], percent(50)).await;
            holds(&daemon, &spins, 50.0, &format!("{way} {kind}")).await;
            update(&spins, percent(20)).await.unwrap();
            holds(&daemon, &spins, 20.0, &format!("{way} {kind} updated")).await;
            let unsaid = cri::LinuxContainerResources::default();
            update(&spins, unsaid.clone()).await.unwrap();
            assert_eq!(applied(&spins).await.cpu_quota, 20_000, "0 is not said");
            update(&spins, cri::LinuxContainerResources { cpu_quota: -1, ..unsaid }).await.unwrap();
            assert_eq!(applied(&spins).await.cpu_quota, -1);
            eventually_async("without a quota it gets more", || async {
                (share(&spins, Duration::from_millis(500)).await > 30.0).then_some(())
            })
            .await;
            spins.stop(0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_all_threads_of_a_container_together() {
    for way in kit::WAYS {
        let Some(daemon) = daemon(way).await else { continue };
        let image = daemon.import("probe").await;
        let pod = daemon.run_pod(sandbox("together")).await;
        let main = run(&pod, ("main", &image), &["spin"], percent(40)).await;
        let of_exec = main.clone();
        let exec = tokio::spawn(async move { of_exec.exec(&["probe", "spin"], 25).await.is_err() });
        eventually("the exec runs", || {
            let all = threads(&daemon, &main);
            let ran =
                |t: &kit::Thread| t.name.starts_with("x-") && t.ran > Duration::from_millis(50);
            all.values().any(ran).then_some(())
        })
        .await;
        holds(&daemon, &main, 40.0, way).await;
        main.stop(0).await;
        assert!(exec.await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_containers_share_a_cpu_by_their_shares() {
    for way in kit::WAYS {
        let Some(daemon) = daemon(way).await else { continue };
        let image = daemon.import("probe").await;
        let pod = daemon.run_pod(sandbox("shares")).await;
        let shares = |cpu_shares| cri::LinuxContainerResources { cpu_shares, ..cpus("0") };
        let first = run(&pod, ("first", &image), &["spin"], shares(1024)).await;
        let second = run(&pod, ("second", &image), &["spin"], shares(256)).await;
        ratio(&first, &second, 4.0, way).await;
        // The other way round while they run.
        update(&first, shares(512)).await.unwrap();
        update(&second, shares(1024)).await.unwrap();
        ratio(&second, &first, 2.0, way).await;
        assert_eq!(applied(&second).await.cpu_shares, 1024);
    }
}

/// Whether one gets about so many times the other's CPU time.
async fn ratio(more: &Container, less: &Container, times: f64, way: &str) {
    let mut seen = Vec::new();
    for _ in 0..WINDOWS {
        let (more, less) = tokio::join!(share(more, WINDOW), share(less, WINDOW));
        seen.push(more / less);
        if (times * 0.75..=times * 1.25).contains(&(more / less)) {
            return;
        }
    }
    panic!("{way}: {seen:.2?} instead of {times}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_guest_is_ended_at_once() {
    for way in kit::WAYS {
        let Some(daemon) = daemon(way).await else { continue };
        let image = daemon.import("probe").await;
        let pod = daemon.run_pod(sandbox("throttled")).await;
        let mut fastest = Duration::MAX;
        for round in 0..4 {
            // A millisecond each second: who waited for his turn would wait most of one.
            let least = cri::LinuxContainerResources {
                cpu_quota: 1000,
                cpu_period: 1_000_000,
                ..Default::default()
            };
            let name = format!("{round}");
            let spins = run(&pod, (&name, &image), &["spin"], percent(100)).await;
            update(&spins, least).await.unwrap();
            eventually_async("it is throttled", || async {
                (share(&spins, Duration::from_millis(200)).await < 5.0).then_some(())
            })
            .await;
            let begun = Instant::now();
            spins.stop(0).await;
            fastest = fastest.min(begun.elapsed());
            assert_eq!(spins.status().await.unwrap().exit_code, 137);
        }
        assert!(fastest < Duration::from_millis(150), "{way}: {fastest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_containers_with_a_quota_cost_no_cpu() {
    for way in kit::WAYS {
        let Some(daemon) = daemon(way).await else { continue };
        let pod = daemon.run_pod(sandbox("idle")).await;
        for kind in ["probe", "probe-p2"] {
            let image = daemon.import(kind).await;
            let mut idle = Vec::new();
            for at in 0..5 {
                let name = format!("{kind}-{at}");
                let args = ["say", "here", "--", "idle"];
                idle.push(run(&pod, (&name, &image), &args, percent(10)).await);
            }
            for container in &idle {
                container.says("here").await;
            }
            eventually_async("nobody runs", || async {
                let mut before = Duration::ZERO;
                for container in &idle {
                    before += ran(container).await.1;
                }
                share(&idle[0], Duration::from_secs(1)).await;
                let mut after = Duration::ZERO;
                for container in &idle {
                    after += ran(container).await.1;
                }
                (after == before).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_survives_the_daemon_and_ends_with_the_container() {
    let Some(mut daemon) = daemon("cgroup").await else { return };
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("survives")).await;
    let asked = cri::LinuxContainerResources {
        cpu_shares: 300,
        cpuset_cpus: "0".to_owned(),
        ..percent(20)
    };
    let one = run(&pod, ("one", &image), &["spin"], asked.clone()).await;
    let two = run(&pod, ("two", &image), &["spin"], percent(10)).await;
    assert_eq!(groups(&daemon).len(), 2);
    let quick = run(&pod, ("quick", &image), &["exit", "0"], percent(30)).await;
    quick.exit().await;
    eventually("an ended container's group goes", || (groups(&daemon).len() == 2).then_some(()))
        .await;

    daemon.restart().await;
    let told = applied(&one).await;
    assert_eq!((told.cpu_quota, told.cpu_period), (20_000, 100_000));
    assert_eq!((told.cpu_shares, told.cpuset_cpus.as_str()), (300, "0"));
    holds(&daemon, &one, 20.0, "after the daemon's death").await;
    one.stop(0).await;
    eventually("a stopped container's group goes", || (groups(&daemon).len() == 1).then_some(()))
        .await;

    let name = groups(&daemon).remove(0);
    let left = || {
        let all = daemon.cgroups(std::slice::from_ref(&name));
        all.is_empty().then_some(())
    };
    assert!(left().is_none());
    let thread = threads(&daemon, &two).into_values().next().unwrap();
    let shim = thread.folder.components().nth(2).unwrap().as_os_str().to_str().unwrap();
    let pid = rustix::process::Pid::from_raw(shim.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("a dead shim's groups are swept", left).await;
    assert_eq!(two.exit().await.exit_code, 255);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_share_of_the_machine_is_an_invalid_argument_and_changes_nothing() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("bad")).await;
    let good = cri::LinuxContainerResources {
        cpu_shares: 100,
        cpuset_cpus: "0".to_owned(),
        cpuset_mems: "0".to_owned(),
        ..percent(50)
    };
    let one = run(&pod, ("one", &image), &["idle"], good.clone()).await;
    let nothing = cri::LinuxContainerResources::default;
    let bad = [
        cri::LinuxContainerResources { cpuset_cpus: ",".to_owned(), ..nothing() },
        cri::LinuxContainerResources { cpuset_cpus: " ".to_owned(), ..nothing() },
        cri::LinuxContainerResources { cpuset_cpus: "0-".to_owned(), ..nothing() },
        cri::LinuxContainerResources { cpuset_cpus: "0,8000".to_owned(), ..nothing() },
        cri::LinuxContainerResources { cpuset_mems: "x".to_owned(), ..nothing() },
        cri::LinuxContainerResources { cpuset_mems: "0,1000".to_owned(), ..nothing() },
        cri::LinuxContainerResources { cpu_quota: 999, ..nothing() },
        cri::LinuxContainerResources { cpu_quota: -7, ..nothing() },
        cri::LinuxContainerResources { cpu_period: 999, ..nothing() },
        cri::LinuxContainerResources { cpu_period: 1_000_001, ..nothing() },
        cri::LinuxContainerResources { cpu_shares: 1, ..nothing() },
        cri::LinuxContainerResources { cpu_shares: 262_145, ..nothing() },
    ];
    for (at, bad) in bad.into_iter().enumerate() {
        let before = applied(&one).await;
        let both = cri::LinuxContainerResources { memory_limit_in_bytes: 1 << 20, ..bad.clone() };
        let error = update(&one, both).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{bad:?}: {error}");
        assert!(!error.message().contains('\n'), "{error}");
        assert_eq!(applied(&one).await, before, "{bad:?}");
        let mut config = support::container(&format!("bad-{at}"), &image);
        config.linux =
            Some(cri::LinuxContainerConfig { resources: Some(bad.clone()), ..Default::default() });
        let error = pod.try_create(config).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{bad:?}: {error}");
    }
    assert_eq!(threads(&daemon, &one).values().next().unwrap().allowed, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_cpus_are_its_pods() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIPPED: it needs two CPUs");
        return;
    }
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let mut config = sandbox("bounded");
    config.linux.get_or_insert_default().resources = Some(cpus("1"));
    let pod = daemon.run_pod(config).await;
    let one = run(&pod, ("one", &image), &["idle"], cpus("")).await;
    assert_eq!(threads(&daemon, &one).values().next().unwrap().allowed, "1");
    let error = update(&one, cpus("0-1")).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.message().contains("the pod has 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_comes_from_the_nodes_that_were_named() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("nodes")).await;
    let mems = cri::LinuxContainerResources { cpuset_mems: "0".to_owned(), ..Default::default() };
    let bound = run(&pod, ("bound", &image), &["spin"], mems.clone()).await;
    let later = run(&pod, ("later", &image), &["spin"], Default::default()).await;
    let is_bound = |of: &Container| {
        let thread = threads(&daemon, of).into_values().next().unwrap();
        match std::fs::read_to_string(thread.folder.join("numa_maps")) {
            Ok(maps) => maps.contains("bind:0"),
            // A kernel without NUMA.
            Err(_) => true,
        }
    };
    assert!(is_bound(&bound));
    update(&later, mems).await.unwrap();
    // It follows at its next loop or call.
    eventually("a running guest follows", || is_bound(&later).then_some(())).await;
    assert_eq!(applied(&later).await.cpuset_mems, "0");
}
