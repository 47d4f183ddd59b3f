//! Every kind of thread that works for a container is where the container's CPUs are: a service's
//! helpers, a terminal's, those of name look-ups; also after changes, and for an ordinary user.

use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use support::{Container, Daemon, Pod, container, env, eventually, guest, sandbox};
use wasmpod::proto::cri;

use super::kit::{applied, cpus, percent, run, share, threads, update};
use crate::services::kit::serve;
use crate::support;

/// The most threads of a container that only wait in calls for its guests.
const MOST_BLOCKING: usize = 4;

fn has_two_cpus() -> bool {
    let has = std::thread::available_parallelism().unwrap().get() > 1;
    if !has {
        eprintln!("SKIPPED: pinning needs two CPUs");
    }
    has
}

/// Whether there are threads of all these kinds, and every one may be on `list` alone; those that
/// have run since are there.
async fn all_on(daemon: &Daemon, of: &Container, (kinds, list): (&[&str], &str)) {
    let begun = threads(daemon, of);
    for kind in kinds {
        assert!(begun.values().any(|thread| thread.name.starts_with(kind)), "{kind}: {begun:?}");
    }
    let late = begun.values().find(|thread| thread.allowed != list);
    assert!(late.is_none(), "{list}: {late:?}");
    eventually("some of it runs", || {
        let now = threads(daemon, of);
        let ran = now.iter().filter(|(tid, thread)| {
            begun.get(tid).is_some_and(|before| thread.ran > before.ran + Duration::from_millis(2))
        });
        let on: Vec<usize> = ran.map(|(_, thread)| thread.cpu).collect();
        assert!(on.iter().all(|cpu| cpu.to_string() == list), "{list}: {now:?}");
        (!on.is_empty()).then_some(())
    })
    .await;
}

/// Makes each CPU busy.
async fn load(pod: &Pod, image: &str) {
    for at in 0..2 {
        run(pod, (&format!("load-{at}"), image), &["spin"], cpus("")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_services_helpers_follow_its_cpus() {
    if !has_two_cpus() {
        return;
    }
    let daemon = Daemon::start().await;
    let (web, port) = serve(&daemon, "web", ",timeout=60s").await;
    load(&web.pod, &daemon.import("probe").await).await;
    let at = port.at();
    // Requests that spin, on more connections than one thread takes.
    let mut clients: Vec<_> = (0..8).map(|_| TcpStream::connect(at).unwrap()).collect();
    for client in &mut clients {
        std::io::Write::write_all(client, b"GET /spin HTTP/1.1\r\nHost: pod\r\n\r\n").unwrap();
    }
    eventually("it has help", || {
        threads(&daemon, &web).values().any(|thread| thread.name.starts_with('h')).then_some(())
    })
    .await;
    for cpu in ["1", "0", "1"] {
        update(&web, cpus(cpu)).await.unwrap();
        all_on(&daemon, &web, (&["c", "h"], cpu)).await;
    }
    drop(clients);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminals_thread_and_execs_on_terminals_follow_their_containers_cpus() {
    use crate::streaming::kit::{TERMINAL, exec};
    if !has_two_cpus() {
        return;
    }
    let daemon = Daemon::start_with(&format!("[exec]\ntoolbox = {:?}\n", guest("toolbox"))).await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("terminals")).await;
    load(&pod, &image).await;
    let mut config = container("shows", &image);
    config.args = ["say", "here", "--", "spin"].map(str::to_owned).to_vec();
    config.tty = true;
    let shows = pod.run(config).await;
    let script = "while :; do echo x; done";
    let remote = exec(&shows, &["sh", "-c", script], TERMINAL).await;
    let mut shown = remote.stdout.unwrap();
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = shown.next().await {} });
    eventually("both have a terminal", || {
        let all = threads(&daemon, &shows);
        (all.values().filter(|thread| thread.name.starts_with('t')).count() == 2).then_some(())
    })
    .await;
    for cpu in ["1", "0", "1"] {
        update(&shows, cpus(cpu)).await.unwrap();
        all_on(&daemon, &shows, (&["c", "t", "x"], cpu)).await;
    }
    shows.stop(0).await;
    reading.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_wait_in_calls_are_few_and_follow_their_containers_cpus() {
    if !has_two_cpus() || !support::root_for("a name server's port") {
        return;
    }
    // It never answers.
    let address = |last: u32| format!("127.54.{}.{last}:53", std::process::id() % 250);
    let silent = (1..=254).find_map(|last| UdpSocket::bind(address(last)).ok()).unwrap();
    let daemon = Daemon::start().await;
    let mut config = sandbox("waits");
    config.dns_config = Some(cri::DnsConfig {
        servers: vec![silent.local_addr().unwrap().ip().to_string()],
        ..Default::default()
    });
    let pod = daemon.run_pod(config).await;
    for kind in ["probe", "probe-p2"] {
        let image = daemon.import(kind).await;
        let calls: Vec<String> = (0..2000)
            .map(|at| format!("io write /f 4096 1000 -- io read /f 4096 1000 -- mkdir /{at}"))
            .collect();
        let looks = "resolve a.silent.test -- resolve b.silent.test".to_owned();
        for (name, things) in [("calls", calls.join(" -- ")), ("looks", looks)] {
            let things = format!("{things} -- idle");
            let args: Vec<&str> = things.split(' ').collect();
            let waits = run(&pod, (&format!("{kind}-{name}"), &image), &args, cpus("1")).await;
            for cpu in ["1", "0", "1"] {
                update(&waits, cpus(cpu)).await.unwrap();
                let all = threads(&daemon, &waits);
                assert!(all.values().all(|thread| thread.allowed == cpu), "{cpu}: {all:?}");
                let own = all.values().filter(|thread| thread.name.starts_with('c')).count();
                assert!(all.len() - own <= MOST_BLOCKING, "{all:?}");
            }
            waits.stop(0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_users_containers_are_pinned_and_held_as_they_are_told_to_be() {
    if !has_two_cpus() {
        return;
    }
    let daemon = Daemon::start_as_user("").await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("ordinary")).await;
    load(&pod, &image).await;
    let asked = cri::LinuxContainerResources { cpuset_cpus: "1".to_owned(), ..percent(20) };
    let mut config = container("main", &image);
    config.args = vec!["spin".to_owned()];
    config.envs = vec![env("A", "b")];
    config.linux =
        Some(cri::LinuxContainerConfig { resources: Some(asked.clone()), ..Default::default() });
    let main = pod.run(config).await;
    all_on(&daemon, &main, (&["c"], "1")).await;
    assert!(share(&main, Duration::from_secs(2)).await < 30.0);
    update(&main, cpus("0")).await.unwrap();
    all_on(&daemon, &main, (&["c"], "0")).await;
    let now = applied(&main).await;
    assert_eq!((now.cpuset_cpus.as_str(), now.cpu_quota), ("0", 20_000));
    let error = update(&main, cpus("8000")).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert_eq!(applied(&main).await, now);
    all_on(&daemon, &main, (&["c"], "0")).await;
}
