//! What the real crictl shows of running pods: events, stats and metrics.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;
use support::{Container, DEADLINE, Daemon, Pod, container, eventually, sandbox};

use crate::crictl::{Crictl, program};
use crate::support;

async fn running(pod: &Pod, name: &str, image: &str, words: &[&str]) -> Container {
    let mut config = container(name, image);
    config.args = words.iter().map(|&word| word.to_owned()).collect();
    let container = pod.run(config).await;
    container.says("up").await;
    container
}

/// A pod with a container that spins and one that holds 32 MiB.
async fn two(daemon: &Daemon) -> (Pod, Container, Container) {
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("watched")).await;
    let spins = running(&pod, "spins", &image, &["say", "up", "--", "spin"]).await;
    let words = ["grow", "32", "--", "say", "up", "--", "idle"];
    let holds = running(&pod, "holds", &image, &words).await;
    (pod, spins, holds)
}

/// A number that crictl prints as protobuf's JSON does: 64 bits are a text.
fn number(value: &Value) -> u64 {
    let text = value["value"].as_str().unwrap_or_else(|| panic!("no number: {value}"));
    text.parse().unwrap()
}

/// The element of a list whose `key` leads to `wanted`.
fn with<'a>(list: &'a Value, key: &str, wanted: &str) -> &'a Value {
    let items = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    let found = items.iter().find(|item| item.pointer(key) == Some(&Value::from(wanted)));
    found.unwrap_or_else(|| panic!("no {wanted} in {list}"))
}

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn stats_show_who_spins_and_who_holds_memory() {
    let Some(program) = program() else { return };
    let daemon = Daemon::start().await;
    let crictl = Crictl { program, daemon: &daemon };
    let (pod, spins, holds) = two(&daemon).await;
    let cpu = |of: &Container| {
        let stats = crictl.reads(&["stats", "-o", "json", &of.id]);
        number(&stats["stats"][0]["cpu"]["usageCoreNanoSeconds"])
    };
    let before = [cpu(&spins), cpu(&holds)];
    eventually("the spinning guest's time grows by 300 ms", || {
        (cpu(&spins) > before[0] + 300_000_000).then_some(())
    })
    .await;
    assert!(cpu(&holds) < before[1] + 300_000_000, "an idle guest takes nothing");
    let stats = crictl.reads(&["stats", "-o", "json"]);
    let memory = |of: &Container| {
        let found = with(&stats["stats"], "/attributes/id", &of.id);
        number(&found["memory"]["workingSetBytes"])
    };
    assert!(memory(&holds) >= 32 * MIB && memory(&spins) < 16 * MIB, "{stats}");
    let table = crictl.prints(&["stats"]);
    assert!(table.contains("spins") && table.contains("holds"), "{table}");

    let stats = crictl.reads(&["statsp", "-o", "json"]);
    let of_pod = with(&stats["stats"], "/attributes/id", &pod.id);
    let linux = &of_pod["linux"];
    assert!(number(&linux["cpu"]["usageCoreNanoSeconds"]) > 300_000_000, "{stats}");
    assert!(number(&linux["memory"]["workingSetBytes"]) >= 32 * MIB, "{stats}");
    assert_eq!(linux["containers"].as_array().unwrap().len(), 2, "{stats}");
    let table = crictl.prints(&["statsp"]);
    assert!(table.contains("watched"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_described_and_grow() {
    let Some(program) = program() else { return };
    let daemon = Daemon::start().await;
    let crictl = Crictl { program, daemon: &daemon };
    let (pod, spins, holds) = two(&daemon).await;
    let described = crictl.reads(&["metricdescs"]);
    let read = |of: &Container, name: &str| {
        let metrics = crictl.reads(&["metricsp"]);
        let of_pod = with(&metrics["podMetrics"], "/podSandboxId", &pod.id);
        let found = with(&of_pod["containerMetrics"], "/containerId", &of.id);
        let metric = with(&found["metrics"], "/name", name);
        let known = with(&described["descriptors"], "/name", name);
        let labels = metric["labelValues"].as_array().unwrap();
        assert_eq!(labels.len(), known["labelKeys"].as_array().unwrap().len(), "{metric}");
        number(&metric["value"])
    };
    assert!(read(&holds, "container_memory_working_set_bytes") >= 32 * MIB);
    let name = "container_cpu_usage_seconds_total";
    let before = read(&spins, name);
    eventually("a second of CPU time shows", || (read(&spins, name) > before).then_some(())).await;
}

/// A crictl that prints as long as it lives.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn begin(crictl: &Crictl<'_>) -> Self {
        let mut command = crictl.command(&["events", "-o", "json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// The next event, however many lines it is printed on; `None` when none comes for a moment.
    fn next(&self) -> Option<Value> {
        let mut text = String::new();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            text.push_str(&line);
            if let Ok(event) = serde_json::from_str(&text) {
                return Some(event);
            }
        }
        None
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_a_containers_life() {
    let Some(program) = program() else { return };
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let crictl = Crictl { program, daemon: &daemon };
    let watch = Watch::begin(&crictl);
    // What happened before crictl was connected is not told, so pods come until one is.
    let first = eventually_told(&daemon, &watch).await;
    assert!(first["containerEventType"].is_string(), "{first}");

    let pod = daemon.run_pod(sandbox("told")).await;
    let main = running(&pod, "main", &image, &["say", "up", "--", "exit", "3"]).await;
    main.exit().await;
    main.remove().await;
    let mut told = Vec::new();
    while told.len() < 4 {
        let event = watch.next().expect("an event");
        if event["containerId"] == main.id.as_str() {
            told.push(event["containerEventType"].as_str().unwrap().to_owned());
        }
    }
    let life = ["CREATED", "STARTED", "STOPPED", "DELETED"];
    assert_eq!(told, life.map(|step| format!("CONTAINER_{step}_EVENT")));
}

async fn eventually_told(daemon: &Daemon, watch: &Watch) -> Value {
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed() < DEADLINE, "crictl tells no event");
        let pod = daemon.run_pod(sandbox("early")).await;
        pod.remove().await;
        if let Ok(line) = watch.lines.recv_timeout(std::time::Duration::from_millis(50)) {
            let mut text = line;
            loop {
                if let Ok(event) = serde_json::from_str(&text) {
                    return event;
                }
                text.push_str(&watch.lines.recv_timeout(DEADLINE).expect("the event's end"));
            }
        }
    }
}
