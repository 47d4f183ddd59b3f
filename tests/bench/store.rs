//! The image store: a list of many images, and the making of machine code.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wasmpod::proto::cri::ListImagesRequest;

use crate::scaled;
use crate::support::Daemon;
use crate::table::Table;

const IMAGES: usize = 1000;
const LISTS: usize = 50;
const MODULES: usize = 10;
const ROUNDS: usize = 3;
const WASMPOD: &str = env!("CARGO_BIN_EXE_wasmpod");

pub async fn measure(table: &mut Table) {
    list(table).await;
    let folder = tempfile::Builder::new().prefix("wpimages").tempdir().unwrap();
    beside_wasmtime(table, folder.path());
    in_parallel(table, folder.path());
}

async fn list(table: &mut Table) {
    let daemon = Daemon::start().await;
    let folder = tempfile::tempdir().unwrap();
    let count = scaled(IMAGES);
    let wasm = module(1, 1);
    // A file's name is part of its image; the program, and its machine code, are one.
    for number in 0..count {
        let file = folder.path().join(format!("app{number}.wasm"));
        std::fs::write(&file, &wasm).unwrap();
        let path = file.display().to_string();
        daemon.cli(&["import", &path, &format!("app:{number}")]).await;
    }
    let mut client = daemon.images();
    let mut best = Duration::MAX;
    for _ in 0..LISTS {
        let begun = Instant::now();
        let listed = client.list_images(ListImagesRequest { filter: None }).await.unwrap();
        best = best.min(begun.elapsed());
        assert_eq!(listed.into_inner().images.len(), count);
    }
    table.at_most(format!("ListImages of {count}"), best.as_secs_f64() * 1e3, 5.0, "ms");
}

/// One file of some megabytes of machine code.
fn beside_wasmtime(table: &mut Table, folder: &Path) {
    let input = folder.join("big.wasm");
    let wasm = module(1, 4000);
    std::fs::write(&input, &wasm).unwrap();
    let output = folder.join("big.cwasm");
    let own = best(|| {
        let _ = std::fs::remove_file(&output);
        let mut child = Command::new(WASMPOD);
        child.arg("compile").arg("--input").arg(&input).arg("--output").arg(&output);
        child.args(["--digest", &digest(&wasm), "--memory-mib", "4096", "--seconds", "600"]);
        // It ends when its stdin does.
        let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
        let alive = child.stdin.take();
        assert!(child.wait().unwrap().success());
        drop(alive);
    });
    let mib = wasm.len() as f64 / f64::from(1 << 20);
    let what = format!("compile {mib:.1} MiB of wasm");
    let mut theirs = Command::new("wasmtime");
    theirs.arg("compile").arg(&input).arg("-o").arg(folder.join("theirs.cwasm"));
    if theirs.output().is_ok_and(|done| done.status.success()) {
        let theirs = best(|| assert!(theirs.status().unwrap().success()));
        let ratio = own.as_secs_f64() / theirs.as_secs_f64();
        table.at_most(format!("{what}, beside wasmtime compile"), ratio, 1.1, "x");
    } else {
        table.add(what, format!("{:.0} ms", own.as_secs_f64() * 1e3));
    }
}

/// An image of ten programs on all CPUs, and on one.
fn in_parallel(table: &mut Table, folder: &Path) {
    let layout = layout(folder);
    let import = |first: &[&str]| {
        let words: Vec<&str> = first.iter().copied().chain([WASMPOD, "import"]).collect();
        best(|| {
            let root = tempfile::tempdir_in(folder).unwrap();
            let (program, arguments) = words.split_first().unwrap();
            let mut command = Command::new(program);
            command.args(arguments).arg(&layout).arg("ten").arg("--root").arg(root.path());
            assert!(command.stdout(Stdio::null()).status().unwrap().success());
        })
    };
    let one = import(&["taskset", "-c", "0"]);
    let all = import(&[]);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let what = format!("{MODULES} modules on {cpus} CPUs, beside one CPU");
    table.at_least(what, one.as_secs_f64() / all.as_secs_f64(), 0.85 * cpus as f64, "x");
}

fn best(mut work: impl FnMut()) -> Duration {
    let mut once = || {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    (0..ROUNDS).map(|_| once()).min().unwrap()
}

/// A module of so many functions, each of some hundred instructions; `mark` makes it its own.
fn module(mark: usize, functions: usize) -> Vec<u8> {
    let step =
        "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 31)) (i32.load (local.get 0))))";
    let mut text =
        format!("(module (memory (export \"memory\") 1) (global i32 (i32.const {mark}))");
    for _ in 0..functions {
        text.push_str("(func (param i32) (result i32)");
        text.push_str(&step.repeat(40));
        text.push_str("(if (local.get 0) (then (local.set 0 (i32.const 7)))) (local.get 0))");
    }
    text.push_str("(func (export \"_start\")))");
    wat::parse_str(text).unwrap()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// An OCI layout of one image with ten programs in it.
fn layout(folder: &Path) -> PathBuf {
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..MODULES {
        let wasm = module(number, 300);
        let mut header = tar::Header::new_ustar();
        header.set_size(wasm.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("app{number}.wasm"), &wasm[..]).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let layout = folder.join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let blob = |media: &str, bytes: &[u8]| -> Value {
        let digest = digest(bytes);
        std::fs::write(layout.join("blobs/sha256").join(&digest[7..]), bytes).unwrap();
        json!({ "mediaType": media, "digest": digest, "size": bytes.len() })
    };
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &tar);
    let config = json!({
        "os": "wasi", "architecture": "wasm", "config": { "Entrypoint": ["/app0.wasm"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&tar)] },
    });
    let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let media = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": media, "config": config, "layers": [layer] });
    let manifest = blob(media, manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    layout
}
