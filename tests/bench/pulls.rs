//! Pulls from a registry on loopback: beside curl and sha256sum, of what is there already, and
//! what they cost in memory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wasmpod::image::{Imported, Pull, Stage};
use wasmpod::proto::cri;

use crate::images::kit::{Entry, Kit, gzip, layer, module};
use crate::registry::kit::{Made, artifact, classic, large};
use crate::registry::server::{Guard, Server, folder, is_there};
use crate::support::Daemon;
use crate::table::{Table, Times, millis};

const ROUNDS: usize = 9;
const WARM: usize = 300;

pub async fn measure(table: &mut Table) {
    if !is_there() {
        return;
    }
    let folder = folder();
    let server = Server::start(folder.path(), Guard::Nothing).await;
    beside_curl(table, &server).await;
    let daemon = Daemon::start().await;
    server.push(&artifact(module(1)), "warm", "1");
    let name = format!("{}/warm:1", server.host);
    pull(&daemon, &name).await;
    let mut times = Times::default();
    for _ in 0..crate::scaled(WARM) {
        let begun = Instant::now();
        pull(&daemon, &name).await;
        times.add(begun.elapsed());
    }
    table.at_most("PullImage of what is there, p50", times.percentile(50), 3.0, "ms");
    table.add("PullImage of what is there, p99", format!("{:.2} ms", times.percentile(99)));
    memory(table, &server, &daemon).await;
}

/// 20 MB, the best of some rounds each: the rest is what else the machine does.
async fn beside_curl(table: &mut Table, server: &Server) {
    let made = artifact(large(7, 20_000_000));
    server.push(&made, "large", "1");
    let url = format!("http://{}{}", server.host, made.layer().blob_path("large"));
    let scratch = tempfile::tempdir().unwrap();
    let (mut curl, mut came, mut all) = (Duration::MAX, Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        curl = curl.min(by_curl(&url, &scratch.path().join("blob")));
        let (download, whole) = by_store(&format!("{}/large:1", server.host)).await;
        came = came.min(download);
        all = all.min(whole);
    }
    let what = format!(
        "pull of 20 MB until it is checked and durable ({:.0} ms), beside curl and sha256sum",
        millis(came)
    );
    table.at_most(what, came.as_secs_f64() / curl.as_secs_f64(), 1.3, "x");
    let what = format!("  until it is an image with machine code ({:.0} ms)", millis(all));
    table.at_most(what, all.as_secs_f64() / curl.as_secs_f64(), 1.3, "x");
}

fn by_curl(url: &str, file: &Path) -> Duration {
    let begun = Instant::now();
    let run = |command: &mut Command| {
        assert!(command.stdout(Stdio::null()).status().unwrap().success());
    };
    run(Command::new("curl").args(["-sf", "--noproxy", "*", "-o"]).arg(file).arg(url));
    run(Command::new("sha256sum").arg(file));
    begun.elapsed()
}

/// Into a fresh store of this process: until the layers are there, and until all is done.
async fn by_store(name: &str) -> (Duration, Duration) {
    let kit = Kit::new();
    let store = kit.store().await;
    let begun = Instant::now();
    let wanted = Pull { name: name.to_owned(), auth: None, imported: Imported::Keep };
    let pulling = store.pull(wanted).unwrap();
    let mut progress = pulling.progress();
    let came = tokio::spawn(async move {
        let passed = |stage: Stage| !matches!(stage, Stage::Resolving | Stage::Downloading);
        progress.wait_for(|now| passed(now.stage)).await.unwrap();
        begun.elapsed()
    });
    pulling.done().await.unwrap();
    (came.await.unwrap(), begun.elapsed())
}

async fn pull(daemon: &Daemon, name: &str) {
    let image = Some(cri::ImageSpec { image: name.to_owned(), ..Default::default() });
    let request = cri::PullImageRequest { image, ..Default::default() };
    daemon.images().pull_image(request).await.unwrap();
}

/// 200 MB in three layers.
async fn memory(table: &mut Table, server: &Server, daemon: &Daemon) {
    let made = noise(200_000_000 / 3);
    server.push(&made, "heavy", "1");
    let idle = status(daemon.pid(), "VmRSS:");
    // Makes the peak what is there now.
    std::fs::write(format!("/proc/{}/clear_refs", daemon.pid()), "5").unwrap();
    let begun = Instant::now();
    pull(daemon, &format!("{}/heavy:1", server.host)).await;
    table.add("pull of 200 MB, gzip, 3 layers", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    let peak = status(daemon.pid(), "VmHWM:");
    let more = peak.saturating_sub(idle) as f64 / 1024.0;
    table.at_most("  the daemon's peak memory above idle", more, 32.0, "MiB");
}

fn noise(bytes: usize) -> Made {
    let layers: Vec<_> = (0..3)
        .map(|mark| {
            let data = large(mark, bytes);
            let tar = layer(&[Entry::File("a.wasm", &module(mark)), Entry::File("data", &data)]);
            ("tar+gzip", gzip(&tar), tar)
        })
        .collect();
    classic(("wasi", "wasm"), &["a.wasm"], &layers)
}

/// KiB of a line of a process's status.
fn status(pid: u32, line: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap();
    found.trim().trim_end_matches(" kB").parse().unwrap()
}
