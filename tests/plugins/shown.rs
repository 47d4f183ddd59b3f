//! What people see of a daemon's plugins: `wasmpod plugin ls`, and their words in `wasmpod events`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};
use support::{Daemon, container, eventually_async, sandbox};

use super::kit::{File, Plugin, configuration, pod, probe, shows, start, wasm};
use crate::support;

async fn listed(daemon: &Daemon) -> Vec<Value> {
    let output = daemon.cli(&["plugin", "ls", "-o", "json"]).await;
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn table(daemon: &Daemon) -> String {
    String::from_utf8(daemon.cli(&["plugin", "ls"]).await.stdout).unwrap()
}

/// Waits until the only plugin is in this state, and gives what is told of it.
async fn is(daemon: &Daemon, state: &str) -> Value {
    eventually_async(state, || async {
        let only = listed(daemon).await.remove(0);
        (only["state"] == state).then_some(only)
    })
    .await
}

#[tokio::test]
async fn the_list_is_in_the_order_in_which_plugins_are_asked() {
    let daemon = start(&[
        Plugin { name: "later", guest: "env-inject", index: 20, ..Plugin::default() },
        Plugin { more: "fail = \"open\"", ..Plugin::default() },
    ])
    .await;
    let table = table(&daemon).await;
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split("   ").map(str::trim).filter(|c| !c.is_empty()).collect())
        .collect();
    let header = ["NAME", "INDEX", "STATE", "BREAKDOWNS", "FAIL", "HOOKS", "PATH", "LAST FAULT"];
    assert_eq!(lines[0], header);
    assert_eq!(lines[1][..5], ["probe", "10", "running", "0", "open"]);
    assert!(lines[1][5].starts_with("run-pod-sandbox,stop-pod-sandbox,"), "{table}");
    assert_eq!(lines[2][..6], ["later", "20", "running", "0", "closed", "pre-create-container"]);
    assert!(lines[2][6].ends_with("env-inject.wasm") && lines[2][7] == "-", "{table}");

    let none = Daemon::start().await;
    assert!(listed(&none).await.is_empty());
}

#[tokio::test]
async fn the_doctor_tells_of_plugins_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("odd.wasm");
    std::fs::copy(support::guest("hello-p2"), &file).unwrap();
    let config = configuration(&[probe("probe", 1, "")])
        + &format!("[plugins.odd]\npath = {file:?}\n[plugins.gone]\npath = \"/nowhere.wasm\"\n");
    let daemon = Daemon::start_with(&config).await;
    let found = eventually_async("both are refused", || async {
        let output = daemon.try_cli(&["doctor", "-o", "json"]).await;
        assert!(!output.status.success());
        let mut found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        found.retain(|item| item["check"] == "plugins");
        let errors = found.iter().filter(|item| item["severity"] == "error").count();
        (errors == 2 && found.iter().any(|item| item["severity"] == "fine")).then_some(found)
    })
    .await;
    let about = |name: &str| found.iter().find(|item| item["subject"] == name).unwrap();
    let what = about("odd")["what"].as_str().unwrap();
    assert!(what.starts_with("cannot be used: it is no plugin: it does not export"), "{what}");
    let mend = format!("wasmpod plugin check {}", file.display());
    assert_eq!(about("odd")["mend"], mend);
    assert!(about("gone")["what"].as_str().unwrap().contains("/nowhere.wasm"), "{found:?}");
    assert_eq!(about("probe")["severity"], "fine");
}

#[tokio::test]
async fn the_list_follows_breakdowns_the_circuit_and_the_file() {
    let whole = wasm("plugin-probe");
    let file = File::new(&whole);
    let traps = probe("probe", 1, "do = { pre-create-container = \"trap\" }");
    let daemon = Daemon::start_with(&file.configuration(traps)).await;
    let found = is(&daemon, "running").await;
    assert_eq!((&found["breakdowns"], &found["fault"]), (&json!(0), &json!("")));

    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    pod.try_create(container("main", &image)).await.unwrap_err();
    let found = is(&daemon, "running").await;
    assert_eq!(found["breakdowns"], 1);
    let fault = found["fault"].as_str().unwrap();
    assert!(fault.starts_with("broke down: "), "{fault}");
    assert!(fault.ends_with(" (pre-create-container)"), "{fault}");

    for _ in 0..2 {
        pod.try_create(container("main", &image)).await.unwrap_err();
    }
    let found = is(&daemon, "circuit-open").await;
    assert_eq!(found["breakdowns"], 3);
    assert!(table(&daemon).await.contains("circuit open"));

    file.replace(&whole[..whole.len() / 2]);
    let found = is(&daemon, "refused").await;
    assert_eq!(found["breakdowns"], 0);
    assert!(found["fault"].as_str().unwrap().contains("it is not valid WebAssembly"), "{found}");

    file.replace(&wasm("env-inject"));
    let found = is(&daemon, "running").await;
    assert_eq!((&found["fault"], &found["hooks"]), (&json!(""), &json!(["pre-create-container"])));
}

/// A `wasmpod events` that listens.
struct Watcher {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watcher {
    fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        let mut command = daemon.command(&["events"]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut first).unwrap();
        assert_eq!(first, "wasmpod: showing what happens from now on\n");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// Everything up to the line with this text.
    fn until(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.recv_timeout(support::DEADLINE);
            lines.push(line.unwrap_or_else(|_| panic!("{text:?} did not come: {lines:?}")));
            if lines.last().unwrap().contains(text) {
                return lines;
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_show_both_realms_and_what_a_plugin_tells() {
    let tells = "do = { post-start-container = \"tell Warmed\" }";
    let daemon = start(&[probe("probe", 1, tells)]).await;
    let image = daemon.import("probe").await;
    let plain = Watcher::start(&daemon, &[]);
    let json = Watcher::start(&daemon, &["-o", "json"]);

    let mut config = sandbox("plugged");
    // Nobody else speaks in a plugin's name.
    for (key, value) in [("plugin", "liar"), ("reason", "Lied")] {
        config.annotations.insert(format!("event.wasmpod.dev/{key}"), value.to_owned());
    }
    let pod = daemon.run_pod(config).await;
    let main = shows(&pod, &image, &["exit", "3"]).await;
    main.exit().await;
    let file = daemon.path().join("agents.yaml");
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: agents}}\nspec:\n  restartPolicy: Never\n  \
         containers: [{{name: idle, image: {image}, args: [idle]}}]\n"
    );
    std::fs::write(&file, manifest).unwrap();
    daemon.cli(&["run", "-d", &file.display().to_string()]).await;

    let lines = plain.until("Started container idle of pod agents");
    let has = |text: &str| assert!(lines.iter().any(|line| line.contains(text)), "{lines:#?}");
    has(" Normal Created pod tests/plugged");
    has(" Normal Started container main of pod tests/plugged");
    has(" Warning Warmed container main of pod tests/plugged: as asked (plugin probe)");
    has(" Normal Stopped container main of pod tests/plugged: Error, exit code 3");
    assert!(!lines.iter().any(|line| line.contains("Lied")), "{lines:#?}");

    let lines = json.until("\"Warmed\"");
    let event: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!((&event["id"], &event["container"]), (&json!(main.id), &json!("main")));
    assert_eq!((&event["severity"], &event["plugin"]), (&json!("Warning"), &json!("probe")));
    assert_eq!((&event["message"], &event["realm"]), (&json!("as asked"), &json!("kubelet")));
    assert_eq!((&event["namespace"], &event["pod"]), (&json!("tests"), &json!("plugged")));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_pod_are_shown_alone() {
    let daemon = Daemon::start().await;
    let pod = pod(&daemon).await;
    let other = daemon.run_pod(sandbox("other")).await;
    let watcher = Watcher::start(&daemon, &["plugged"]);
    other.stop().await;
    pod.stop().await;
    let lines = watcher.until("Stopped");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with(" Normal Stopped pod tests/plugged"), "{lines:?}");
}
