//! RunPodSandbox of a pod on a bridge with addresses of host-local's, beside the same plugins run
//! by themselves.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Instant;

use serde_json::Value;
use wasmpod::model::ids::SandboxId;
use wasmpod::proto::cri::NamespaceMode;

use crate::kit::{self, Net};
use crate::support::Daemon;
use crate::table::{Table, Times};
use crate::target::Target;

const PODS: usize = 200;
const WARM_UP: usize = 20;

pub async fn measure(table: &mut Table) {
    if !kit::possible() {
        return;
    }
    let net = Net::new();
    net.write(&[net.bridge_plugin()]);
    let daemon = Daemon::start_with(&net.configuration()).await;
    let mut own = Target::own(&daemon);
    let (mut pods, mut plugins) = (Times::default(), Times::default());
    // Turn by turn, so that both meet the same machine and as long a bridge.
    for round in 0..WARM_UP + crate::scaled(PODS) {
        let sandbox = own.sandbox(NamespaceMode::Pod);
        let begun = Instant::now();
        let pod = own.run(&sandbox).await;
        let took = begun.elapsed();
        own.remove(&pod).await;
        let alone = by_itself(&net);
        if round >= WARM_UP {
            pods.add(took);
            plugins.add(alone);
        }
    }
    table.add("RunPodSandbox, bridge + host-local", pods.summary());
    table.add("  the plugins by themselves", plugins.summary());
    let more = pods.percentile(50) - plugins.percentile(50);
    table.at_most("  what wasmpod adds, p50", more, 3.0, "ms");
}

/// ADD in a namespace that is there, timed, and DEL.
fn by_itself(net: &Net) -> std::time::Duration {
    let (told, made) = channel();
    let (done, end) = channel::<()>();
    let thread = std::thread::spawn(move || {
        wasmpod::netns::make().unwrap().unwrap();
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let path = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
        told.send(PathBuf::from(path)).unwrap();
        let _ = end.recv();
    });
    let namespace = made.recv().unwrap();
    let mut config: Value = net.bridge_plugin();
    config["cniVersion"] = "1.0.0".into();
    config["name"] = net.name().into();
    let id = SandboxId::random();
    let call = |verb: &str| {
        let mut plugin = Command::new(kit::plugins().join("bridge"))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", id.as_str())
            .env("CNI_NETNS", &namespace)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", kit::plugins())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        plugin.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let output = plugin.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    let begun = Instant::now();
    call("ADD");
    let took = begun.elapsed();
    call("DEL");
    drop(done);
    thread.join().unwrap();
    took
}
