//! Measures a daemon of its own, and what is named beside it, through CRI; prints a table.
//! run.sh tells how to use it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod exec;
mod files;
mod idle;
// Of the tests' kits the bench uses a part.
#[allow(dead_code)]
#[path = "../network/kit.rs"]
mod kit;
mod latency;
mod network;
mod pinning;
mod plugins;
mod polls;
mod pulls;
mod services;
mod stop;
mod store;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod target;
mod throughput;

/// What the tests make images of.
#[allow(dead_code)]
#[path = "../images"]
mod images {
    pub mod kit;
}
#[allow(dead_code)]
#[path = "../registry"]
mod registry {
    pub mod fake;
    pub mod kit;
    pub mod server;
}

use table::Table;

const ALL: [&str; 14] = [
    "latency",
    "exec",
    "streams",
    "throughput",
    "idle",
    "polls",
    "stop",
    "files",
    "pulls",
    "store",
    "network",
    "services",
    "pinning",
    "plugins",
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // cargo bench adds --bench.
    let mut wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if wanted.is_empty() {
        wanted = ALL.map(str::to_owned).to_vec();
    }
    if let Some(other) = wanted.iter().find(|word| !ALL.contains(&word.as_str())) {
        eprintln!("{other} is none of {ALL:?}");
        std::process::exit(2);
    }
    // Daemon and shims take as many descriptors as they may, and 2,000 log files are theirs.
    raise_descriptor_limit();

    let mut table = Table::default();
    for name in &wanted {
        eprintln!("measuring {name}");
        match name.as_str() {
            "latency" => latency::measure(&mut table).await,
            "exec" => exec::measure(&mut table).await,
            "throughput" => throughput::measure(&mut table).await,
            "streams" => streams::measure(&mut table).await,
            "polls" => polls::measure(&mut table).await,
            "idle" => idle::measure(&mut table).await,
            "network" => network::measure(&mut table).await,
            "stop" => stop::measure(&mut table).await,
            "pulls" => pulls::measure(&mut table).await,
            "pinning" => pinning::measure(&mut table).await,
            "plugins" => plugins::measure(&mut table).await,
            "services" => services::measure(&mut table).await,
            "store" => store::measure(&mut table).await,
            _ => files::measure(&mut table).await,
        }
    }
    println!("{table}");
}

/// A count of pods, made smaller by WASMPOD_BENCH_SCALE.
fn scaled(count: usize) -> usize {
    let scale = std::env::var("WASMPOD_BENCH_SCALE").map_or(1, |text| text.parse().unwrap());
    (count / scale).max(1)
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
