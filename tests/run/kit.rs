//! Pods as texts, and what running them printed.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{self, Daemon};

/// A daemon whose back-off is short.
pub async fn quick_daemon() -> Daemon {
    Daemon::start_with("[agent]\nback_off_ms = 50\nmax_back_off_ms = 400\n").await
}

/// A pod of that name: metadata's and spec's other fields in YAML's flow style, "PROBE" standing
/// for the probe's file.
pub fn pod(name: &str, spec: &str) -> String {
    let probe = support::guest("probe");
    let text =
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n");
    text.replace("PROBE", &probe.display().to_string())
}

/// Writes a manifest into the daemon's folder, from which its relative paths then start.
pub fn write(daemon: &Daemon, manifest: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = daemon.path().join(format!("pod-{number}.yaml"));
    std::fs::write(&file, manifest).unwrap();
    file
}

/// `wasmpod run` of a manifest to its end.
pub async fn run(daemon: &Daemon, manifest: &str) -> Ran {
    let file = write(daemon, manifest);
    Ran(daemon.try_cli(&["run", &file.display().to_string()]).await)
}

/// `wasmpod run -d`.
pub async fn run_detached(daemon: &Daemon, manifest: &str) {
    let file = write(daemon, manifest);
    daemon.cli(&["run", "-d", &file.display().to_string()]).await;
}

/// `wasmpod run` under way, to be ended by signals.
pub fn start(daemon: &Daemon, manifest: &str) -> Running {
    let file = write(daemon, manifest);
    let log = daemon.path().join(file.with_extension("out").file_name().unwrap());
    let open = || std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
    let mut command: Command = daemon.command(&["run", &file.display().to_string()]);
    let child = command.stdin(Stdio::null()).stdout(open()).stderr(open()).spawn().unwrap();
    Running { child, log }
}

pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// What it has printed so far, both streams.
    pub fn told(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub async fn until_told(&self, text: &str) {
        support::eventually(&format!("{text:?} in {}", self.log.display()), || {
            self.told().contains(text).then_some(())
        })
        .await;
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Its exit code, and all that it told.
    pub async fn ended(mut self) -> (i32, String) {
        let status =
            support::eventually("wasmpod run ends", || self.child.try_wait().unwrap()).await;
        (status.code().unwrap_or(-1), self.told())
    }
}

pub struct Ran(pub Output);

impl Ran {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    /// What the guests wrote to stdout.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// The pod's events and the guests' stderr.
    pub fn events(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    #[track_caller]
    pub fn ended_with(&self, code: i32) {
        assert_eq!(self.code(), code, "{}{}", self.output(), self.events());
    }

    /// Each of `lines` is a line of stdout.
    #[track_caller]
    pub fn wrote(&self, lines: &[&str]) {
        let output = self.output();
        for line in lines {
            assert!(
                output.lines().any(|written| written == *line),
                "{line:?} was not written:\n{output}{}",
                self.events()
            );
        }
    }

    /// The texts are among the events, in this order.
    #[track_caller]
    pub fn told_in_order(&self, texts: &[&str]) {
        in_order(&self.events(), texts);
    }
}

#[track_caller]
pub fn in_order(told: &str, texts: &[&str]) {
    let mut from = 0;
    for text in texts {
        let Some(at) = told[from..].find(text) else {
            panic!("{text:?} is not told in its place:\n{told}");
        };
        from += at + text.len();
    }
}
