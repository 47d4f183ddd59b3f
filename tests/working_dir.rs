//! A working directory other than the root: which folder a guest's paths mean.

use crate::support;

use support::{Daemon, container, sandbox};

/// What the probe prints in /work when it does these things.
async fn probe(daemon: &Daemon, kind: &str, things: &[&str]) -> Vec<String> {
    let image = daemon.import(kind).await;
    let mut config = container("probe", &image);
    config.working_dir = "/work".to_owned();
    config.args = things.join(" -- ").split(' ').map(str::to_owned).collect();
    let pod = daemon.run_pod(sandbox("files")).await;
    let ran = pod.run(config).await;
    ran.exit().await;
    let text = ran.log().text("stdout");
    pod.remove().await;
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn names_go_where_their_folder_is_when_their_spelling_is_lost() {
    let daemon = Daemon::start().await;
    for kind in ["probe", "probe-p2"] {
        let printed = probe(
            &daemon,
            kind,
            &[
                "mkdir ./own",
                "write /tmp/new root",
                "write own/new work",
                "write ./exact work",
                "write fresh work",
                "read /etc/hostname",
                "read ../tmp/new",
                "ls /work",
                "ls /work/own",
            ],
        )
        .await;
        assert!(printed[5].starts_with("read /etc/hostname: ok"), "{kind}: {printed:?}");
        let read: Vec<&str> = printed.iter().skip(6).map(String::as_str).collect();
        assert_eq!(
            read,
            ["read ../tmp/new: ok root", "ls /work: ok exact fresh own", "ls /work/own: ok new"],
            "{kind}: {printed:?}"
        );
    }
}
