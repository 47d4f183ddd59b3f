//! The pods of examples/, run as README shows it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::support;

use std::path::Path;
use std::process::Output;

use support::Daemon;

/// `wasmpod run` of an example to its end.
async fn run(daemon: &Daemon, example: &str) -> Ran {
    support::guest_folder();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    Ran(daemon.try_cli(&["run", &file.display().to_string()]).await)
}

struct Ran(Output);

impl Ran {
    fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    /// What the guests wrote.
    fn output(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// The pod's events, and the guests' stderr.
    fn events(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Fails with everything that was printed unless each text was, in this order.
    #[track_caller]
    fn told_in_order(&self, texts: &[&str]) {
        let events = self.events();
        let mut from = 0;
        for text in texts {
            let found = events[from..].find(text);
            let Some(at) = found else { panic!("{text:?} is not told in its place:\n{events}") };
            from += at + text.len();
        }
    }

    #[track_caller]
    fn wrote(&self, text: &str) {
        assert!(
            self.output().contains(text),
            "{text:?} was not written:\n{}{}",
            self.output(),
            self.events()
        );
    }
}

#[tokio::test]
async fn hello_greets_and_its_events_come_in_a_kubelets_order() {
    let daemon = Daemon::start().await;
    let ran = run(&daemon, "hello.yaml").await;
    assert_eq!(ran.code(), 0, "{}", ran.events());
    ran.wrote("hello, the reader, from hello\n");
    ran.wrote("argument 2: two\n");
    ran.told_in_order(&["Pulled", "Created", "Started"]);
}

#[tokio::test]
async fn programs_in_go_and_c_run_as_they_are() {
    let daemon = Daemon::start().await;
    for (example, text) in
        [("go-hello.yaml", "wasip1/wasm, host go-hello"), ("c-hello.yaml", "from C, host c-hello")]
    {
        let ran = run(&daemon, example).await;
        assert_eq!(ran.code(), 0, "{example}: {}", ran.events());
        ran.wrote(text);
    }
}

#[tokio::test]
async fn a_component_of_wasi_0_3_streams_files_to_its_output() {
    let daemon = Daemon::start().await;
    let ran = run(&daemon, "p3-command.yaml").await;
    assert_eq!(ran.code(), 0, "{}", ran.events());
    ran.wrote("p3-command\n");
    ran.wrote("resolv.conf");
}

#[tokio::test]
async fn the_tour_shows_what_a_pod_can_have() {
    let daemon = Daemon::start().await;
    let ran = run(&daemon, "tour.yaml").await;
    assert_eq!(ran.code(), 0, "{}", ran.events());
    ran.wrote("ls /data: ok inbox");
    ran.wrote("read /data/inbox/first: ok prepared by init");
    ran.wrote("read /etc/greeting/notes.txt: ok ConfigMap keys are files in the container.");
    ran.wrote("read /etc/token/token: ok s3cr3t");
    ran.wrote("write /etc/greeting/notes.txt: ROFS");
    ran.wrote("read /data/inbox/second: ok written by postStart");
    ran.wrote("hello, everybody in this pod, from tour");
    ran.wrote("tick 5 at");
    ran.told_in_order(&["container prepare", "container ticker", "container greeter"]);
}

#[tokio::test]
async fn a_memory_hog_ends_alone() {
    let daemon = Daemon::start().await;
    let ran = run(&daemon, "memory-hog.yaml").await;
    assert_eq!(ran.code(), 137, "{}", ran.events());
    ran.wrote("tick 10 at");
    assert!(ran.events().contains("OOMKilled"), "{}", ran.events());
}

#[tokio::test]
async fn a_pod_that_stays_is_seen_followed_and_ended() {
    let daemon = Daemon::start().await;
    support::guest_folder();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ticker.yaml");
    daemon.cli(&["run", "-d", &file.display().to_string()]).await;
    support::eventually_async("the ticker has ticked", || async {
        let logs = daemon.try_cli(&["logs", "ticker"]).await;
        String::from_utf8_lossy(&logs.stdout).contains("tick 2 at").then_some(())
    })
    .await;
    let listed = daemon.cli(&["ps"]).await;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("ticker") && listed.contains("Running"), "{listed}");
    daemon.cli(&["inspect", "ticker"]).await;
    daemon.cli(&["stop", "ticker"]).await;
    daemon.cli(&["rm", "ticker"]).await;
    let listed = daemon.cli(&["ps"]).await;
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("ticker"));
}

#[tokio::test]
async fn a_crash_looper_is_started_again() {
    let daemon = Daemon::start().await;
    support::guest_folder();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/crash-looper.yaml");
    daemon.cli(&["run", "-d", &file.display().to_string()]).await;
    support::eventually_async("its second life", || async {
        let logs = daemon.try_cli(&["logs", "crash-looper"]).await;
        String::from_utf8_lossy(&logs.stdout).contains("life 2 begins").then_some(())
    })
    .await;
}
