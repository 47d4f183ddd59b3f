//! `wasmpod doctor` finds what is wrong with a store and says how to mend it; what a start can
//! mend by itself, it does.

use std::process::Command;

use serde_json::Value;
use wasmpod::image::{Findings, Image, ImageStore};
use wasmpod::model::finding::{Finding, Severity};

use super::super::support::Daemon;
use super::kit::*;

async fn two_layers(kit: &Kit, store: &ImageStore) -> std::sync::Arc<Image> {
    let layout = kit.layout("two");
    let tars = [layer(&[Entry::File("x", b"x")]), layer(&[Entry::File("b.wasm", &module(2))])];
    let manifest = layout.classic(("wasi", "wasm"), &["/b.wasm"], &tars);
    store.import(&layout.of(manifest), "two").await.unwrap()
}

fn errors(found: &Findings) -> Vec<&Finding> {
    let all = found.images.iter().chain(&found.code);
    all.filter(|finding| finding.severity == Severity::Error).collect()
}

fn replace(path: &std::path::Path, content: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, content).unwrap();
}

#[tokio::test]
async fn each_kind_of_damage_is_found_and_has_its_cure() {
    let kit = Kit::new();
    let store = kit.store().await;
    let image = two_layers(&kit, &store).await;
    assert!(errors(&store.check().await.unwrap()).is_empty());
    let root = &kit.config.root;
    let code = store.code(&image.programs[0].digest, &image.programs[0].file).await.unwrap();
    let whole = std::fs::read(&code.path).unwrap();

    replace(&code.path, b"x");
    let found = store.check().await.unwrap();
    let [damaged] = errors(&found)[..] else { panic!("{found:?}") };
    assert_eq!(damaged.mend, "wasmpod compile docker.io/library/two:latest");
    replace(&code.path, &whole);
    std::fs::remove_file(code.path.with_extension("json")).unwrap();
    std::fs::remove_file(&code.path).unwrap();
    let found = store.check().await.unwrap();
    assert!(errors(&found).is_empty() && found.code[0].what.contains("no machine code yet"));
    store.warm("two", |_, _| ()).await.unwrap();

    let blob = root.join("images/blobs/sha256").join(&image.id[7..]);
    let config = std::fs::read(&blob).unwrap();
    replace(&blob, b"{}");
    let found = store.check().await.unwrap();
    let [damaged] = errors(&found)[..] else { panic!("{found:?}") };
    assert!(damaged.what.contains("is damaged") && damaged.mend.contains("wasmpod rmi"));
    replace(&blob, &config);

    // One that images share goes with all of them.
    let layout = kit.layout("three");
    let tars = [layer(&[Entry::File("x", b"x")]), layer(&[Entry::File("c.wasm", &module(3))])];
    let manifest = layout.classic(("wasi", "wasm"), &["/c.wasm"], &tars);
    store.import(&layout.of(manifest), "three").await.unwrap();
    let blob = root.join("images/blobs/sha256").join(&digest(&tars[0])[7..]);
    replace(&blob, b"");
    let found = store.check().await.unwrap();
    let mend = &errors(&found)[0].mend;
    assert!(mend.contains("two:latest") && mend.contains("three:latest"), "{mend}");
    replace(&blob, &tars[0]);
    store.remove("three", |_| false).await.unwrap();

    std::fs::remove_file(&image.programs[0].file).unwrap();
    let found = store.check().await.unwrap();
    let [damaged] = errors(&found)[..] else { panic!("{found:?}") };
    assert!(damaged.what.contains("its program /b.wasm is missing"), "{damaged:?}");

    // As it says: the folder goes, and the next start unpacks it.
    std::fs::remove_dir_all(&image.layers[0]).unwrap();
    let found = store.check().await.unwrap();
    assert!(errors(&found)[0].mend.contains("restart the daemon"), "{found:?}");
    drop(store);
    let store = kit.store().await;
    assert_eq!(*store.get("two").unwrap(), *image);
    assert!(errors(&store.check().await.unwrap()).is_empty());
}

#[tokio::test]
async fn a_store_of_the_former_format_is_unpacked_anew_and_an_unknown_one_is_refused() {
    let kit = Kit::new();
    let store = kit.store().await;
    let image = two_layers(&kit, &store).await;
    drop(store);
    let path = kit.config.root.join("images/index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    index["version"] = 1.into();
    let record = index["images"][0].as_object_mut().unwrap();
    record.remove("layers");
    record.remove("origin");
    record.insert("root".to_owned(), "0".repeat(64).into());
    record["programs"][0]["file"] = "b.wasm".into();
    std::fs::write(&path, index.to_string()).unwrap();
    for layer in &image.layers {
        std::fs::remove_dir_all(layer).unwrap();
    }
    let store = kit.store().await;
    assert_eq!(*store.get("two").unwrap(), *image);
    drop(store);

    index["version"] = 99.into();
    std::fs::write(&path, index.to_string()).unwrap();
    let error = ImageStore::open(&kit.config).await.err().unwrap().to_string();
    assert!(error.contains("format 99") && error.contains("index.json"), "{error}");
    std::fs::write(&path, "{").unwrap();
    let error = ImageStore::open(&kit.config).await.err().unwrap().to_string();
    assert!(error.contains("damaged") && error.contains("move it away"), "{error}");
}

#[tokio::test]
async fn the_command_tells_what_it_found_by_its_exit_status() {
    let kit = Kit::new();
    let store = kit.store().await;
    let image = two_layers(&kit, &store).await;
    drop(store);
    let root = kit.config.root.display().to_string();
    let doctor = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasmpod"));
        command.arg("doctor").args(arguments).args(["--root", &root]).output().unwrap()
    };
    // Whatever network this machine has is not the test's.
    let errors = |output: &std::process::Output| -> Vec<Value> {
        let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let is_error = |item: &Value| item["severity"] == "error" && item["check"] != "network";
        found.into_iter().filter(is_error).collect()
    };
    assert_eq!(errors(&doctor(&["-o", "json"])), Vec::<Value>::new());
    let said = String::from_utf8_lossy(&doctor(&[]).stdout).into_owned();
    assert!(
        said.contains("network: ")
            && said.contains("images: ")
            && said.contains("kernel: ")
            && said.contains("disk: ")
    );

    replace(&image.programs[0].file, b"changed");
    let sick = doctor(&["-o", "json"]);
    assert!(!sick.status.success());
    let found = errors(&sick);
    let error = &found[0];
    assert_eq!(error["check"], "images");
    assert!(error["what"].as_str().unwrap().contains("was changed"), "{error}");
}

#[tokio::test]
async fn a_daemon_is_examined_through_its_socket() {
    let daemon = Daemon::start().await;
    let kit = Kit::new();
    let file = kit.file("a.wasm", module(1)).display().to_string();
    daemon.cli(&["import", &file, "a"]).await;
    let found: Vec<Value> =
        serde_json::from_slice(&daemon.cli(&["doctor", "-o", "json"]).await.stdout).unwrap();
    let of = |check: &str| found.iter().find(|item| item["check"] == check).unwrap().clone();
    for check in ["daemon", "images", "code"] {
        assert_eq!(of(check)["severity"], "fine", "{found:?}");
    }
    assert!(of("images")["what"].as_str().unwrap().starts_with("1 images, 3 blobs"), "{found:?}");
}
