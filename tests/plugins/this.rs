//! What a container is told of itself, by the guest SDK's example of one that ends gracefully.

use std::time::Instant;

use crate::support::{Container, Daemon, Pod, container, sandbox};

async fn worker(pod: &Pod, image: &str, cpus: &str) -> Container {
    let mut config = container("main", image);
    let linux = config.linux.get_or_insert_default();
    linux.resources.get_or_insert_default().cpuset_cpus = cpus.to_owned();
    pod.run(config).await
}

#[tokio::test]
async fn a_container_knows_itself_finishes_its_work_and_ends_with_its_own_code() {
    let daemon = Daemon::start().await;
    let image = daemon.import("graceful").await;
    let pod = daemon.run_pod(sandbox("steady")).await;
    let main = worker(&pod, &image, "0").await;
    main.says("main of pod steady works on CPUs 0").await;
    let begun = Instant::now();
    main.stop(60).await;
    assert!(begun.elapsed().as_secs() < 30, "it ends long before its grace is over");
    main.says("all of them are done").await;
    let exit = main.exit().await;
    assert_eq!((exit.exit_code, exit.reason.as_str()), (7, "Error"));
}

#[tokio::test]
async fn one_that_has_no_grace_or_uses_it_up_is_ended() {
    let daemon = Daemon::start().await;
    let (image, probe) = (daemon.import("graceful").await, daemon.import("probe").await);
    let pod = daemon.run_pod(sandbox("hasty")).await;
    let main = worker(&pod, &image, "").await;
    main.says("works on CPUs").await;
    main.stop(0).await;
    assert_eq!(main.exit().await.exit_code, 137);
    // Whoever never asked for its stop hears of none, and is not waited for.
    let mut config = container("deaf", &probe);
    config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
    let deaf = pod.run(config).await;
    deaf.says("here").await;
    let begun = Instant::now();
    deaf.stop(60).await;
    assert!(begun.elapsed().as_secs() < 30);
}

#[tokio::test]
async fn it_hears_of_its_stop_through_a_daemon_that_was_killed() {
    let mut daemon = Daemon::start().await;
    let image = daemon.import("graceful").await;
    let pod = daemon.run_pod(sandbox("lasting")).await;
    let main = worker(&pod, &image, "").await;
    main.says("works on CPUs").await;
    daemon.kill();
    daemon.restart().await;
    let main = Container { pod: Pod { client: daemon.runtime(), ..pod }, ..main };
    main.stop(60).await;
    assert_eq!(main.exit().await.exit_code, 7);
}
