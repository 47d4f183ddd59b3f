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
    large(table, folder.path());
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
    // As ours: code that can be ended from outside.
    theirs.args(["compile", "-W", "epoch-interruption=y"]);
    theirs.arg(&input).arg("-o").arg(folder.join("theirs.cwasm"));
    if theirs.output().is_ok_and(|done| done.status.success()) {
        let theirs = best(|| assert!(theirs.status().unwrap().success()));
        let ratio = own.as_secs_f64() / theirs.as_secs_f64();
        table.at_most(format!("{what}, beside wasmtime compile"), ratio, 1.1, "x");
    } else {
        table.add(what, format!("{:.0} ms", own.as_secs_f64() * 1e3));
    }
}

/// As large as Yosys, the largest program that people are known to run: its compiler's memory,
/// beside what one may have.
fn large(table: &mut Table, folder: &Path) {
    let wasm = repeated(scaled(69 << 20));
    let input = folder.join("large.wasm");
    std::fs::write(&input, &wasm).unwrap();
    let begun = Instant::now();
    let mut child = Command::new(WASMPOD);
    child.arg("compile").arg("--input").arg(&input).arg("--output").arg(folder.join("large"));
    child.args(["--digest", &digest(&wasm), "--memory-mib", "4096", "--seconds", "600"]);
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        let text = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let line = text.as_deref().unwrap_or_default().lines().find(|l| l.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success());
    let mib = wasm.len() >> 20;
    let seconds = begun.elapsed().as_secs_f64();
    let what = format!("memory to compile {mib} MiB of wasm, which takes {seconds:.0} s");
    table.at_most(what, peak as f64 / 1024.0, 4096.0, "MiB");
}

/// A module of about so many bytes, all functions alike.
fn repeated(bytes: usize) -> Vec<u8> {
    // local 0 = local 0 * 31 + memory[local 0]
    let step = b"\x20\0\x41\x1f\x6c\x20\0\x28\x02\0\x6a\x21\0";
    let mut body = b"\0".to_vec();
    body.extend(step.repeat(40));
    body.extend_from_slice(b"\x20\0\x0b");
    let mut code = leb(body.len());
    code.extend(&body);
    let count = bytes.div_ceil(code.len()).max(1);
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    let mut section = |id: u8, content: &[&[u8]]| {
        wasm.push(id);
        wasm.extend(leb(content.iter().map(|part| part.len()).sum()));
        content.iter().for_each(|part| wasm.extend_from_slice(part));
    };
    section(1, &[b"\x01\x60\x01\x7f\x01\x7f"]);
    section(3, &[&leb(count), &vec![0; count]]);
    section(5, &[b"\x01\0\x01"]);
    section(10, &[&leb(count), &code.repeat(count)]);
    wasm
}

fn leb(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
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
