//! Requests that a service answers and bytes that a guest's socket echoes, beside `wasmtime serve`
//! and `wasmtime run` of the same files where a wasmtime is installed; and what idle services cost.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wasmpod::proto::cri::{self, NamespaceMode};

use crate::idle;
use crate::support::{self, Daemon, Port, container};
use crate::table::{Table, Times};
use crate::target::Target;

/// Connections that ask at once.
const CALLERS: usize = 8;
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(2);

/// What a TCP round echoes.
const BYTES: usize = 256 << 20;

pub async fn measure(table: &mut Table) {
    let daemon = Daemon::start().await;
    requests(table, &daemon, ("web", "/healthz")).await;
    requests(table, &daemon, ("web", "/none")).await;
    requests(table, &daemon, ("web-p3", "/")).await;
    echoes(table, &daemon).await;
    drop(daemon);
    idle_services(table, crate::scaled(1000)).await;
}

/// A guest's answers to requests for a path: one of WASI 0.2 without and with a line in its log
/// for each, one of 0.3.
async fn requests(table: &mut Table, daemon: &Daemon, (guest, path): (&str, &'static str)) {
    let image = daemon.import(guest).await;
    let port = Port::new();
    let mut config = on_the_host("web");
    config.annotations = [("wasmpod.dev/http".to_owned(), port.number.to_string())].into();
    let pod = daemon.run_pod(config).await;
    let web = pod.run(container("web", &image)).await;
    let theirs = Theirs::serve(guest).await;
    let (mut own, mut other) = (Load::default(), Load::default());
    // Turn by turn, so that both meet the same machine; the first round warms up.
    for round in 0..=ROUNDS {
        let asked = load(port.at(), path);
        let beside = theirs.as_ref().map(|theirs| load(theirs.at, path));
        if round > 0 {
            own.add(asked);
            other.add(beside.unwrap_or_default());
        }
    }
    web.stop(0).await;
    table.add(format!("requests of {guest}{path}, {CALLERS} connections"), own.summary());
    if theirs.is_some() {
        table.add("  wasmtime serve of the same", other.summary());
        table.at_least("  beside wasmtime serve", own.rate() / other.rate(), 1.0, "x");
        let late = own.times.percentile(99) / other.times.percentile(99);
        table.at_most("  its p99 beside wasmtime serve's", late, 1.0, "x");
    }
}

fn on_the_host(name: &str) -> cri::PodSandboxConfig {
    let mut config = support::sandbox(name);
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options = Some(support::host_network());
    config
}

/// What was answered within a time.
#[derive(Default)]
struct Load {
    times: Times,
    count: usize,
    seconds: f64,
}

impl Load {
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.count += other.count;
        self.seconds += other.seconds;
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    fn summary(&self) -> String {
        format!("{:.0}/s, {}", self.rate(), self.times.summary())
    }
}

/// Asks on connections that stay open, one request after the other on each.
fn load(at: SocketAddr, path: &'static str) -> Load {
    let begun = Instant::now();
    let callers: Vec<_> =
        (0..CALLERS).map(|_| std::thread::spawn(move || call(at, path, begun + ROUND))).collect();
    let mut load = Load::default();
    for caller in callers {
        let times = caller.join().unwrap();
        load.count += times.len();
        times.into_iter().for_each(|time| load.times.add(time));
    }
    load.seconds = begun.elapsed().as_secs_f64();
    load
}

fn call(at: SocketAddr, path: &str, end: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
    let mut times = Vec::new();
    let mut answer = Vec::new();
    while Instant::now() < end {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).unwrap();
        answer.clear();
        // The guest tells no length, so the last chunk is the end.
        while !answer.ends_with(b"0\r\n\r\n") {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "the connection was closed");
            answer.extend(&piece[..read]);
        }
        times.push(begun.elapsed());
    }
    times
}

/// A wasmtime of the machine's; ended when dropped.
struct Theirs {
    process: Child,
    at: SocketAddr,
}

impl Theirs {
    async fn serve(guest: &str) -> Option<Self> {
        let port = Port::new();
        let at = port.at();
        let mut command = Command::new("wasmtime");
        command
            .args(["serve", "-S", "cli,p3", "-W", "component-model-async=y", "--addr"])
            .arg(at.to_string());
        Self::begin(command.arg(support::guest(guest)), at).await
    }

    async fn echo() -> Option<Self> {
        let port = Port::new();
        let at = port.at();
        let mut command = Command::new("wasmtime");
        command.args(["run", "-S", "inherit-network"]).arg(support::guest("probe-p2"));
        Self::begin(command.args(["serve", &at.to_string(), "1000000"]), at).await
    }

    async fn begin(command: &mut Command, at: SocketAddr) -> Option<Self> {
        let Ok(process) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            eprintln!("SKIPPED: no wasmtime to compare with");
            return None;
        };
        let theirs = Self { process, at };
        let listens = || TcpStream::connect(at).ok().map(drop);
        support::eventually("wasmtime listens", listens).await;
        Some(theirs)
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn echoes(table: &mut Table, daemon: &Daemon) {
    let image = daemon.import("probe-p2").await;
    let port = Port::new();
    let pod = daemon.run_pod(on_the_host("echo")).await;
    let mut config = container("echo", &image);
    config.args = ["serve", &port.at().to_string(), "1000000"].map(str::to_owned).to_vec();
    let server = pod.run(config).await;
    server.says("listening").await;
    let theirs = Theirs::echo().await;
    let (mut own, mut other) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        own += echo(port.at());
        other += theirs.as_ref().map_or(0.0, |theirs| echo(theirs.at));
    }
    server.stop(0).await;
    let rate = |seconds: f64| (BYTES * ROUNDS) as f64 / f64::from(1 << 20) / seconds;
    table.add("TCP echo by a p2 guest", format!("{:.0} MiB/s", rate(own)));
    if theirs.is_some() {
        table.add("  wasmtime run of the same", format!("{:.0} MiB/s", rate(other)));
        table.at_least("  beside wasmtime run", rate(own) / rate(other), 0.85, "x");
    }
}

/// Seconds until all bytes have come back.
fn echo(at: SocketAddr) -> f64 {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(at).unwrap();
    let mut writes = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let piece = vec![7; 64 << 10];
        for _ in 0..BYTES / piece.len() {
            writes.write_all(&piece).unwrap();
        }
        writes.shutdown(Shutdown::Write).unwrap();
    });
    let (mut piece, mut all) = (vec![0; 64 << 10], 0);
    while all < BYTES {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the echo ended early");
        all += read;
    }
    writer.join().unwrap();
    begun.elapsed().as_secs_f64()
}

/// Services that nobody asks anything.
async fn idle_services(table: &mut Table, count: usize) {
    if !support::root_for("a network of each service's own") {
        return;
    }
    let daemon = Daemon::start().await;
    let image = daemon.import("web").await;
    let mut target = Target::own(&daemon);
    // One first: what all share is there before anything is weighed.
    let mut before = 0;
    for number in 0..=count {
        let sandbox = target.sandbox(NamespaceMode::Pod);
        let pod = target.run(&sandbox).await;
        let id = target.create(&pod, &container("web", &image), &sandbox).await;
        target.start(&id).await;
        if number == 0 {
            before = idle::shims(&daemon);
        }
    }
    let each = idle::shims(&daemon).saturating_sub(before) as f64 / count as f64;
    table.at_most(format!("{count} idle services, PSS of shims each"), each, 200.0, "KiB");
}
