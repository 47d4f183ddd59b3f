//! From the call of RunPodSandbox to the first byte in the container's log.

use std::process::{Command, Stdio};
use std::time::Instant;

use wasmpod::proto::cri::NamespaceMode;

use crate::support::{self, Daemon, container, guest};
use crate::table::{Table, Times};
use crate::target::{FirstByte, Target};

const PODS: usize = 300;
const WARM_UP: usize = 20;

pub async fn measure(table: &mut Table) {
    let daemon = Daemon::start().await;
    let mut own = Target::own(&daemon);
    table.add("an empty call (Version)", empty_calls(&mut own).await.summary());
    for name in ["hello", "hello-p2", "go-hello"] {
        let image = daemon.import(name).await;
        let steps = first_bytes(&mut own, &image, NamespaceMode::Node).await;
        report(
            table,
            &format!("first log byte, {name}"),
            &steps,
            (name == "hello").then_some((3.0, 10.0)),
        );
        if name == "hello" {
            for (step, times) in
                ["RunPodSandbox", "CreateContainer", "StartContainer"].iter().zip(&steps.parts)
            {
                table.add(format!("  of it {step}"), times.summary());
            }
        }
    }
    if support::root_for("a network namespace of the pod's own") {
        let steps = first_bytes(&mut own, "tests/hello:1", NamespaceMode::Pod).await;
        table.at_most("first log byte, own network, p50", steps.whole.percentile(50), 4.0, "ms");
        table.add(
            "first log byte, own network, p99",
            format!("{:.2} ms", steps.whole.percentile(99)),
        );
    }
    drop(daemon);
    if let Some((mut peer, image)) = Target::peer().await {
        let steps = first_bytes(&mut peer, &image, NamespaceMode::Node).await;
        report(table, &format!("first log byte, {}", peer.name), &steps, None);
    }
    wasmtime(table);
}

/// What any call costs on this machine: the ground that the others stand on.
async fn empty_calls(target: &mut Target) -> Times {
    let mut times = Times::default();
    for round in 0..WARM_UP + crate::scaled(PODS) {
        let begun = Instant::now();
        target.version().await;
        if round >= WARM_UP {
            times.add(begun.elapsed());
        }
    }
    times
}

struct Steps {
    whole: Times,
    parts: [Times; 3],
}

async fn first_bytes(target: &mut Target, image: &str, network: NamespaceMode) -> Steps {
    let mut steps = Steps { whole: Times::default(), parts: Default::default() };
    for round in 0..WARM_UP + crate::scaled(PODS) {
        let sandbox = target.sandbox(network);
        let config = container("first", image);
        let log = FirstByte::of(format!("{}/{}", sandbox.log_directory, config.log_path).into());
        let begun = Instant::now();
        let pod = target.run(&sandbox).await;
        let ran = Instant::now();
        let id = target.create(&pod, &config, &sandbox).await;
        let created = Instant::now();
        target.start(&id).await;
        let started = Instant::now();
        log.wait();
        let whole = begun.elapsed();
        if round >= WARM_UP {
            steps.whole.add(whole);
            steps.parts[0].add(ran - begun);
            steps.parts[1].add(created - ran);
            steps.parts[2].add(started - created);
        }
        target.remove(&pod).await;
    }
    steps
}

fn report(table: &mut Table, what: &str, steps: &Steps, promise: Option<(f64, f64)>) {
    let (p50, p99) = (steps.whole.percentile(50), steps.whole.percentile(99));
    match promise {
        Some((most50, most99)) => {
            table.at_most(format!("{what}, p50"), p50, most50, "ms");
            table.at_most(format!("{what}, p99"), p99, most99, "ms");
        }
        None => table.add(what, steps.whole.summary()),
    }
}

/// The same module by `wasmtime run`, to the end of the process.
fn wasmtime(table: &mut Table) {
    let run = || {
        Command::new("wasmtime")
            .arg("run")
            .arg(guest("hello"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    if !run().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no wasmtime to compare with");
        return;
    }
    let mut times = Times::default();
    for _ in 0..crate::scaled(50) {
        let begun = Instant::now();
        run().unwrap();
        times.add(begun.elapsed());
    }
    table.add("wasmtime run hello, whole process", times.summary());
}
