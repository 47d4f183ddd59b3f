//! A p1 guest's reads and writes of a file on a volume, beside the same calls by this process on
//! the same folder.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use wasmpod::proto::cri::NamespaceMode;

use crate::support::{Daemon, Log, container, mount};
use crate::table::Table;
use crate::target::Target;

/// Bytes of a call, and how many calls.
const SIZES: [(usize, usize); 3] = [(512, 65_536), (4096, 32_768), (65_536, 2048)];
const ROUNDS: usize = 7;

pub async fn measure(table: &mut Table) {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let mut target = Target::own(&daemon);
    let folder = tempfile::Builder::new().prefix("wpfiles").tempdir().unwrap();
    for (block, count) in SIZES {
        for kind in ["write", "read"] {
            // Both have their best round: the rest is what else the machine does.
            let mut guest = u64::MAX;
            let mut native = u64::MAX;
            for _ in 0..ROUNDS {
                guest = guest.min(
                    by_guest(
                        &mut target,
                        &image,
                        folder.path(),
                        [kind, &block.to_string(), &count.to_string()],
                    )
                    .await,
                );
                native = native.min(natively(kind, &folder.path().join("native"), block, count));
            }
            let ratio = guest as f64 / native as f64;
            let rate = (block * count) as f64 / guest as f64 * 1e9 / f64::from(1 << 20);
            table.at_most(
                format!("p1 file {kind}, {block} B a call ({rate:.0} MiB/s), beside native"),
                ratio,
                1.5,
                "x",
            );
        }
    }
}

/// Nanoseconds, as the guest tells them.
async fn by_guest(target: &mut Target, image: &str, folder: &Path, io: [&str; 3]) -> u64 {
    let sandbox = target.sandbox(NamespaceMode::Node);
    let pod = target.run(&sandbox).await;
    let mut config = container("io", image);
    let [kind, block, count] = io;
    config.args = ["io", kind, "/data/guest", block, count].map(str::to_owned).to_vec();
    config.mounts = vec![mount(folder, "/data")];
    let id = target.create(&pod, &config, &sandbox).await;
    target.start(&id).await;
    target.wait(&id).await;
    let log = Log::read(&Path::new(&sandbox.log_directory).join(&config.log_path));
    target.remove(&pod).await;
    let text = log.text("stdout");
    text.trim().rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("guest: {text}"))
}

fn natively(kind: &str, path: &Path, block: usize, count: usize) -> u64 {
    let mut bytes = vec![7_u8; block];
    let mut file = if kind == "write" { File::create(path) } else { File::open(path) }.unwrap();
    let begun = Instant::now();
    for _ in 0..count {
        if kind == "write" {
            file.write_all(&bytes).unwrap();
        } else {
            file.read_exact(&mut bytes).unwrap();
        }
    }
    u64::try_from(begun.elapsed().as_nanos()).unwrap()
}
