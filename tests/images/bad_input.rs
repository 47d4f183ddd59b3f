//! Hostile and broken input: each is refused in one sentence that names the file and the fault,
//! and leaves nothing behind.

use std::path::Path;

use serde_json::json;
use wasmpod::image::ImageStore;

use super::kit::*;

/// Imports what has to fail: the sentence names the file and has `part` in it.
async fn refused(store: &ImageStore, file: &Path, part: &str) {
    let error = store.import(file, "bad").await.expect_err(part).to_string();
    println!("{error}");
    let name = file.file_name().unwrap().to_string_lossy();
    assert!(error.contains(&*name), "{error}: does not name {name}");
    assert!(error.contains(part), "{error}: does not say {part:?}");
    assert!(!error.contains('\n') && !error.contains("/root/images"), "{error}");
}

/// What failed imports leave: the empty store's files.
async fn assert_clean(kit: &Kit, store: ImageStore) {
    assert!(store.list().is_empty());
    let left: Vec<String> = files(&kit.config.root)
        .into_iter()
        .filter(|file| file != "images/lock" && file != "images/index.json")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn files_that_are_no_wasm_are_named() {
    let kit = Kit::new();
    let store = kit.store().await;
    let elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0";
    for (name, content, part) in [
        (
            "hello.txt",
            &b"hello, world\n"[..],
            "not a WebAssembly file: it starts with \"hello, world\"",
        ),
        ("empty.wasm", b"", "is empty"),
        ("ls", elf, "a native ELF program"),
        ("app.wat", b"(module)", "assemble it first"),
        ("head.wasm", b"\0asm", "cut short"),
        ("old.wasm", b"\0asm\x0a\0\0\0", "unknown version"),
        ("junk.wasm", b"\0asm\x01\0\0\0\xff\xff\xff\xff", "WebAssembly"),
        ("some.tar", &layer(&[Entry::File("x", b"y")]), "neither index.json nor manifest.json"),
        ("garbage.gz", b"\x1f\x8bgarbage and more of it", "cannot be decompressed"),
        ("garbage.zst", b"\x28\xb5\x2f\xfdgarbage", "cannot be decompressed"),
    ] {
        refused(&store, &kit.file(name, content), part).await;
    }
    refused(&store, &kit.path("missing.wasm"), "does not exist").await;
    let fifo = kit.path("fifo.wasm");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    refused(&store, &fifo, "neither a file nor a folder").await;
    assert_clean(&kit, store).await;
}

#[tokio::test]
async fn a_module_cut_at_any_point_is_truncated() {
    let kit = Kit::new();
    let store = kit.store().await;
    let whole = module(1);
    // Between sections a cut leaves a valid, smaller module; inside one it never does.
    for length in [9, 10, 15, whole.len() - 1] {
        let file = kit.file("cut.wasm", &whole[..length]);
        refused(&store, &file, "truncated").await;
    }
    assert_clean(&kit, store).await;
}

#[tokio::test]
async fn what_the_compiler_refuses_is_told_with_its_reason() {
    let kit = Kit::new();
    let store = kit.store().await;
    let invalid = wat::parse_str("(module (func (result i32) i64.const 1))").unwrap();
    refused(&store, &kit.file("typed.wasm", invalid), "not valid WebAssembly: ").await;
    let proposal =
        wat::parse_str(r#"(module (type $f (func)) (type $c (cont $f)) (func (param (ref $c))))"#)
            .unwrap();
    let part = "unsupported proposal, stack switching: ";
    refused(&store, &kit.file("stack-switching.wasm", proposal), part).await;
    // (try (do)) in the encoding that browsers had first.
    let legacy =
        b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x07\x01\x05\0\x06\x40\x0b\x0b";
    let part = "unsupported proposal, legacy exception handling: build it";
    refused(&store, &kit.file("legacy.wasm", legacy), part).await;
    let shared = wat::parse_str(r#"(module (memory 1 2 shared) (func (export "_start")))"#);
    let part = "threads proposal (its memory is shared)";
    refused(&store, &kit.file("shared.wasm", shared.unwrap()), part).await;
    assert_clean(&kit, store).await;
}

#[tokio::test]
async fn a_module_bomb_hits_the_limits_and_the_figures_are_told() {
    let mut kit = Kit::new();
    kit.config.compile.memory_mib = 300;
    kit.config.compile.seconds = 3;
    let store = kit.store().await;

    // One function whose body fans out: cheap to store, dear to compile.
    let body = "(local.set 0 (i32.add (local.get 0) (i32.load (local.get 0))))".repeat(200_000);
    let bomb = format!("(module (memory 1) (func (param i32) {body}))");
    let bomb = kit.file("bomb.wasm", wat::parse_str(bomb).unwrap());
    let error = store.import(&bomb, "bad").await.unwrap_err().to_string();
    println!("{error}");
    let limit = error.contains("300 MiB of memory") || error.contains("3 seconds of CPU time");
    assert!(error.contains("bomb.wasm needs more than the ") && limit, "{error}");

    // More functions than a module may have: refused before any is compiled.
    let count = 1_000_001usize;
    let mut many = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0".to_vec();
    let leb = |mut value: usize| {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    };
    let mut section = leb(count);
    section.extend(std::iter::repeat_n(0u8, count));
    many.push(3);
    many.extend(leb(section.len()));
    many.extend(section);
    refused(&store, &kit.file("many.wasm", many), "1000000").await;
    assert_clean(&kit, store).await;
}

#[tokio::test]
async fn broken_layouts_are_told_apart() {
    let kit = Kit::new();
    let store = kit.store().await;
    let tar = layer(&[Entry::File("a.wasm", &module(1))]);
    let good = |name: &str| {
        let layout = kit.layout(name);
        let manifest = layout.classic(("wasi", "wasm"), &["/a.wasm"], std::slice::from_ref(&tar));
        (layout, manifest)
    };

    let layout = kit.layout("no-index");
    refused(&store, &layout.folder, "index.json is missing").await;
    std::fs::write(layout.folder.join("index.json"), "{").unwrap();
    refused(&store, &layout.folder, "index.json is not valid JSON").await;
    std::fs::write(layout.folder.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#)
        .unwrap();
    refused(&store, &layout.folder, "holds no image").await;

    let (layout, manifest) = good("missing-manifest");
    let digest_of = |value: &serde_json::Value| value["digest"].as_str().unwrap().to_owned();
    std::fs::remove_file(layout.blob_path(&digest_of(&manifest))).unwrap();
    refused(&store, &layout.of(manifest), "is missing").await;

    let (layout, manifest) = good("missing-layer");
    std::fs::remove_file(layout.blob_path(&digest(&tar))).unwrap();
    refused(&store, &layout.of(manifest), "is missing").await;

    let (layout, manifest) = good("damaged-layer");
    let mut damaged = tar.clone();
    damaged[600] ^= 1;
    std::fs::write(layout.blob_path(&digest(&tar)), damaged).unwrap();
    refused(&store, &layout.of(manifest), "is damaged").await;

    let (layout, manifest) = good("short-layer");
    std::fs::write(layout.blob_path(&digest(&tar)), &tar[..512]).unwrap();
    refused(&store, &layout.of(manifest), "is truncated").await;

    let (layout, manifest) = good("damaged-manifest");
    let path = layout.blob_path(&digest_of(&manifest));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("layers", "lAyers")).unwrap();
    refused(&store, &layout.of(manifest), "is damaged").await;

    let layout = kit.layout("bad-manifest");
    let manifest = layout.blob("application/vnd.oci.image.manifest.v1+json", b"[1]");
    refused(&store, &layout.of(manifest), "the manifest is not valid JSON").await;

    let (layout, mut manifest) = good("odd-digest");
    manifest["digest"] = json!("sha256:../../../../etc/passwd");
    refused(&store, &layout.of(manifest), "index.json is not valid").await;

    let layout = kit.layout("diff-id");
    let blob = layout.blob("application/vnd.oci.image.layer.v1.tar", &tar);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let manifest = layout.image(("wasi", "wasm"), &["/a.wasm"], (&[blob], &[wrong]));
    refused(&store, &layout.of(manifest), "the configuration says").await;

    let layout = kit.layout("unknown-layer");
    let blob = layout.blob("application/x-squashfs", &tar);
    let manifest = layout.image(("wasi", "wasm"), &["/a.wasm"], (&[blob], &[digest(&tar)]));
    refused(&store, &layout.of(manifest), "\"application/x-squashfs\"").await;

    let layout = kit.layout("gzip-garbage");
    let blob = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", b"not gzip at all");
    let manifest = layout.image(("wasi", "wasm"), &["/a.wasm"], (&[blob], &[digest(&tar)]));
    refused(&store, &layout.of(manifest), "gzip").await;

    let archive = pack(&good("whole").0.of(good("whole").1));
    refused(
        &store,
        &kit.file("cut.tar", &archive[..archive.len() - 3000]),
        "not a whole tar archive",
    )
    .await;
    assert_clean(&kit, store).await;
}

#[tokio::test]
async fn images_that_hold_no_wasm_program_say_what_they_hold() {
    let kit = Kit::new();
    let store = kit.store().await;
    let mut layout = kit.layout("linux");
    let amd = layout.classic(("linux", "amd64"), &["/bin/sh"], &[layer(&[])]);
    let arm = layout.classic(("linux", "arm64"), &["/bin/sh"], &[layer(&[])]);
    layout.manifests = vec![amd, arm];
    layout.write_index();
    let part = "a linux/amd64 image whose entrypoint is /bin/sh: not a wasm program";
    refused(&store, &layout.folder, part).await;

    let layout = kit.layout("absent-entry");
    let manifest = layout.classic(("wasi", "wasm"), &["/a.wasm"], &[layer(&[])]);
    refused(&store, &layout.of(manifest), "entrypoint /a.wasm is not in the image").await;

    let layout = kit.layout("text-entry");
    let tar = layer(&[Entry::File("a.wasm", b"#!/bin/sh\n")]);
    let manifest = layout.classic(("wasi", "wasm"), &["/a.wasm"], &[tar]);
    refused(&store, &layout.of(manifest), "it starts with \"#!/bin/sh\"").await;
    assert_clean(&kit, store).await;
}

#[tokio::test]
async fn layers_that_reach_out_of_the_root_are_refused() {
    let kit = Kit::new();
    let store = kit.store().await;
    let outside = kit.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let outside_text = outside.display().to_string();
    let up = "../".repeat(12) + outside_text.trim_start_matches('/');
    let wasm = module(1);
    let app = || Entry::File("a.wasm", &wasm);
    let cut = {
        let mut tar = layer(&[app(), Entry::File("big", &[7; 4096])]);
        tar.truncate(2048);
        tar
    };
    let deep = "d/".repeat(40) + "x";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("dotdot", layer(&[app(), Entry::File("../x", b"")]), "leads outside"),
        ("inner-dotdot", layer(&[app(), Entry::File("a/../../x", b"")]), "leads outside"),
        ("absolute", layer(&[app(), Entry::File("/tmp/x", b"")]), "absolute path"),
        (
            "absolute-link",
            layer(&[app(), Entry::Symlink("l", &outside_text), Entry::File("l/x", b"")]),
            "through a link",
        ),
        (
            "upward-link",
            layer(&[app(), Entry::Symlink("l", &up), Entry::File("l/x", b"")]),
            "through a link",
        ),
        ("hard-dotdot", layer(&[app(), Entry::HardLink("h", "../../etc/passwd")]), "hard link"),
        ("hard-absolute", layer(&[app(), Entry::HardLink("h", "/etc/passwd")]), "hard link"),
        (
            "hard-through-link",
            layer(&[app(), Entry::Symlink("l", "/etc"), Entry::HardLink("h", "l/passwd")]),
            "through a link",
        ),
        ("hard-missing", layer(&[app(), Entry::HardLink("h", "nothing")]), "is not there"),
        ("device", layer(&[app(), Entry::Other("dev/sda", tar::EntryType::Block)]), "device node"),
        ("char", layer(&[app(), Entry::Other("null", tar::EntryType::Char)]), "device node"),
        ("fifo", layer(&[app(), Entry::Other("pipe", tar::EntryType::Fifo)]), "FIFO"),
        ("below-file", layer(&[app(), Entry::File("a.wasm/x", b"")]), "not a folder"),
        ("odd-whiteout", layer(&[app(), Entry::File("a/.wh...", b"")]), "hides no name"),
        (
            "opaque-through-link",
            layer(&[app(), Entry::Symlink("l", &outside_text), Entry::File("l/.wh..wh..opq", b"")]),
            "through a link",
        ),
        ("unknown-type", layer(&[app(), Entry::Other("x", tar::EntryType::new(b'Z'))]), "'Z'"),
        ("cut", cut, "trunc"),
        ("no-tar", vec![1; 5000], "not a whole tar archive"),
    ];
    std::fs::write(outside.join("mine"), "mine").unwrap();
    for (name, tar, part) in cases {
        let layout = kit.layout(name);
        let manifest = layout.classic(("wasi", "wasm"), &["/a.wasm"], &[tar]);
        refused(&store, &layout.of(manifest), part).await;
    }
    assert_eq!(files(&outside), ["mine"]);

    // Deep is fine within reason.
    let layout = kit.layout("deep");
    let tar = layer(&[app(), Entry::File(&deep, b"x")]);
    let manifest = layout.classic(("wasi", "wasm"), &["/a.wasm"], &[tar]);
    store.import(&layout.of(manifest), "deep").await.unwrap();
    store.remove("deep", |_| false).await.unwrap();
    assert_clean(&kit, store).await;
}

#[tokio::test]
async fn a_layer_that_unpacks_to_far_more_than_it_is_is_a_bomb() {
    let kit = Kit::new();
    let store = kit.store().await;
    let wasm = module(1);
    let zeros = vec![0; 96 << 20];
    let tar = layer(&[Entry::File("a.wasm", &wasm), Entry::File("zeros", &zeros)]);
    let packed = [
        ("application/vnd.oci.image.layer.v1.tar+gzip", gzip(&tar)),
        ("application/vnd.oci.image.layer.v1.tar+zstd", zstd::encode_all(&*tar, 1).unwrap()),
    ];
    for (kind, bytes) in packed {
        let layout = kit.layout(&kind[kind.len() - 4..]);
        let layers = [layout.blob(kind, &bytes)];
        let manifest = layout.image(("wasi", "wasm"), &["/a.wasm"], (&layers, &[digest(&tar)]));
        let part = "more than 200 times its size, as a decompression bomb does";
        refused(&store, &layout.of(manifest), part).await;
    }
    assert_clean(&kit, store).await;
}

#[tokio::test]
async fn bad_names_are_refused_before_anything_is_read() {
    let kit = Kit::new();
    let store = kit.store().await;
    let file = kit.file("a.wasm", module(1));
    for name in ["", "App", "a:", "a:b c", "a@sha256:00", "../a", "a:-x", &"a".repeat(300)] {
        let error = store.import(&file, name).await.unwrap_err().to_string();
        println!("{error}");
        assert!(error.contains("image name") && !error.contains('\n'), "{error}");
    }
    assert_clean(&kit, store).await;
}
