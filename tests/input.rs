//! Standard input, before anybody can attach: a pipe that stays open where CRI asks for one, the
//! end of input where not.

use crate::support;

use std::time::{Duration, Instant};

use support::{Daemon, container, sandbox};
use wasmpod::proto::cri::ContainerState;

#[tokio::test]
async fn without_stdin_input_ends_at_once_and_with_it_reads_wait_until_the_stop() {
    let daemon = Daemon::start().await;
    for kind in ["probe", "probe-p2"] {
        let image = daemon.import(kind).await;
        let pod = daemon.run_pod(sandbox("input")).await;
        let mut config = container("closed", &image);
        config.args = ["echo", "--", "say", "over"].map(str::to_owned).to_vec();
        let closed = pod.run(config.clone()).await;
        assert_eq!(closed.exit().await.exit_code, 0, "{kind}");
        assert_eq!(closed.log().text("stdout"), "over\n", "{kind}");

        config.metadata.as_mut().unwrap().name = "open".to_owned();
        config.log_path = "open_0.log".to_owned();
        config.stdin = true;
        config.args =
            ["say", "here", "--", "echo", "--", "say", "over"].map(str::to_owned).to_vec();
        let open = pod.run(config).await;
        open.says("here").await;
        // An exec has no input, whatever the container has.
        let echoed = open.exec(&[kind, "echo", "--", "say", "done"], 10).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&echoed.stdout), "done\n", "{kind}");
        assert_eq!(open.status().await.unwrap().state(), ContainerState::ContainerRunning);
        assert!(!open.log().contains("over"), "{kind}");
        let asked = Instant::now();
        open.stop(30).await;
        assert!(asked.elapsed() < Duration::from_secs(5), "{kind}: {:?}", asked.elapsed());
        assert_eq!(open.status().await.unwrap().exit_code, 143, "{kind}");
        pod.remove().await;
    }
}
