//! What people do with images that are there: names, archives, machine code, sizes, removal of
//! what nobody uses; through a daemon and on the store itself.

use std::process::Output;

use serde_json::Value;
use wasmpod::image::{Prune, Readiness, Released};

use super::super::support::Daemon;
use super::kit::*;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn names_come_and_go_and_the_last_takes_the_image_with_it() {
    let kit = Kit::new();
    let store = kit.store().await;
    let image = store.import(&kit.file("a.wasm", module(1)), "app:1").await.unwrap();
    let other = store.import(&kit.file("b.wasm", module(2)), "app:2").await.unwrap();
    let tagged = store.tag("app:1", "ghcr.io/o/app").await.unwrap();
    assert_eq!(tagged.tags, ["docker.io/library/app:1", "ghcr.io/o/app:latest"]);
    // A name moves.
    assert_eq!(store.tag(&image.id[..20], "app:2").await.unwrap().tags.len(), 3);
    assert!(store.get(&other.id).unwrap().tags.is_empty());
    for (reference, name, part) in [
        ("none", "x", "not found"),
        ("app:1", "App", "lower case"),
        ("app:1", "a@sha256:00", "what follows @"),
    ] {
        let error = store.tag(reference, name).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    drop(store);

    let store = kit.store().await;
    let id = image.id.clone();
    let untagged = Released::Untagged { id: id.clone(), name: "docker.io/library/app:2".into() };
    // A name alone may go while a container runs.
    assert_eq!(store.release("app:2", |_| true).await.unwrap(), untagged);
    store.release("app:1", |_| false).await.unwrap();
    store.release("ghcr.io/o/app", |_| true).await.unwrap_err();
    let removed = store.release("ghcr.io/o/app", |_| false).await.unwrap();
    assert_eq!(removed, Released::Removed { id });
    assert!(store.release("app:1", |_| false).await.is_err());
    assert_eq!(store.list().len(), 1);
}

#[tokio::test]
async fn a_saved_archive_is_the_same_image_elsewhere_and_the_same_bytes_again() {
    let kit = Kit::new();
    let store = kit.store().await;
    let plain = store.import(&kit.file("a.wasm", module(1)), "app:1").await.unwrap();
    store.tag("app:1", "app:one").await.unwrap();
    let layout = kit.layout("classic");
    let tars = [layer(&[Entry::File("x", b"x")]), layer(&[Entry::File("b.wasm", &module(2))])];
    let manifest = layout.classic(("wasi", "wasm"), &["/b.wasm"], &tars);
    let classic = store.import(&layout.of(manifest), "ghcr.io/o/b:v1").await.unwrap();

    let save = async |references: &[&str], name: &str| {
        let path = kit.path(name);
        let file = std::fs::File::create(&path).unwrap();
        let references: Vec<String> = references.iter().map(|r| (*r).to_owned()).collect();
        store.save(&references, file).await.map(|()| path)
    };
    let archive = save(&[&plain.id, "ghcr.io/o/b:v1"], "all.tar").await.unwrap();
    let again = save(&[&plain.id, "ghcr.io/o/b:v1"], "again.tar").await.unwrap();
    assert_eq!(std::fs::read(&archive).unwrap(), std::fs::read(again).unwrap());
    let one = save(&["app:one"], "one.tar").await.unwrap();
    let error = save(&["none"], "none.tar").await.unwrap_err().to_string();
    assert!(error.contains("not found"), "{error}");

    let elsewhere = Kit::new();
    let there = elsewhere.store().await;
    let loaded = there.load(&one).await.unwrap();
    assert_eq!((loaded.len(), &loaded[0].id), (1, &plain.id));
    assert_eq!(loaded[0].tags, ["docker.io/library/app:one"]);
    there.load(&archive).await.unwrap();
    assert_eq!(there.list().len(), 2);
    assert_eq!(there.get("app:1").unwrap().digests, plain.digests);
    assert_eq!(there.get("ghcr.io/o/b:v1").unwrap().id, classic.id);

    // What names nothing is not guessed at.
    let nameless = kit.layout("nameless");
    let manifest = nameless.classic(("wasi", "wasm"), &["/b.wasm"], &tars);
    let error = there.load(&nameless.of(manifest)).await.unwrap_err().to_string();
    assert!(error.contains("wasmpod import"), "{error}");

    // A damaged blob does not get out.
    let blob = kit.config.root.join("images/blobs/sha256").join(&plain.id[7..]);
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, "{}").unwrap();
    let error = save(&["app:1"], "bad.tar").await.unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}

#[tokio::test]
async fn what_nobody_uses_is_pruned_and_what_is_pinned_only_when_told() {
    let kit = Kit::new();
    let store = kit.store().await;
    let old = store.import(&kit.file("a.wasm", module(1)), "app").await.unwrap();
    let new = store.import(&kit.file("b.wasm", module(2)), "app").await.unwrap();
    let used = store.import(&kit.file("c.wasm", module(3)), "used").await.unwrap();
    let in_use = move |id: &str| id == used.id;
    let (gone, freed) = store.prune(Prune::Unpinned, in_use.clone()).await.unwrap();
    assert_eq!((gone.len(), gone[0].id.as_str()), (1, old.id.as_str()));
    assert!(freed > 0);
    let (gone, _) = store.prune(Prune::All, in_use).await.unwrap();
    assert_eq!(gone[0].id, new.id);
    assert_eq!(store.list().len(), 1);
}

#[tokio::test]
async fn every_program_of_an_image_is_compiled_at_import_and_told_of_when_asked() {
    let kit = Kit::new();
    let store = kit.store().await;
    let layout = kit.layout("tools");
    let bad = wat::parse_str("(module (func (result i32) i64.const 1))").unwrap();
    let tar = layer(&[
        Entry::File("a.wasm", &module(1)),
        Entry::File("b.wasm", &module(2)),
        Entry::File("bad.wasm", &bad),
        Entry::HardLink("same.wasm", "a.wasm"),
    ]);
    let manifest = layout.classic(("wasi", "wasm"), &["/a.wasm"], &[tar]);
    let folder = layout.of(manifest);
    let steps = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = steps.clone();
    let progress = std::sync::Arc::new(move |step| heard.lock().unwrap().push(step));
    let image = store.import_with(&folder, "tools", progress).await.unwrap();
    use wasmpod::image::progress::Step;
    let steps = steps.lock().unwrap().clone();
    assert_eq!(steps[0], Step::Unpacking { layer: 1, of: 1 });
    assert_eq!(steps.last(), Some(&Step::Compiling { done: 3, of: 3 }));
    assert!(store.code_size(&image) > 0);

    let mut told = 0;
    let warmed = store.warm("tools", |_, of| told += of).await.unwrap();
    assert_eq!((warmed.len(), told), (3, 9));
    for program in &warmed {
        match program.path.as_str() {
            "/bad.wasm" => {
                let error = program.outcome.as_ref().unwrap_err();
                assert!(error.starts_with("/bad.wasm: it is not valid"), "{error}");
            }
            _ => assert_eq!(program.outcome.as_ref().unwrap().1, Readiness::Kept),
        }
    }

    // What was damaged on disk is made anew.
    let digest = image.programs[0].digest.trim_start_matches("sha256:").to_owned();
    let engine = std::fs::read_dir(kit.config.root.join("code")).unwrap().next().unwrap().unwrap();
    let place = engine.path().join(format!("{digest}.cwasm"));
    std::fs::remove_file(&place).unwrap();
    std::fs::write(&place, "x").unwrap();
    let warmed = store.warm("tools", |_, _| ()).await.unwrap();
    let made = |outcome: &Result<(u64, Readiness), String>| matches!(outcome, Ok((size, Readiness::Made)) if *size > 1);
    assert_eq!(warmed.iter().filter(|program| made(&program.outcome)).count(), 1);
}

#[tokio::test]
async fn people_use_all_of_it_through_the_daemon() {
    let daemon = Daemon::start().await;
    let kit = Kit::new();
    let wit = wat::parse_str(
        r#"(component (import "wasi:cli/environment@0.2.0" (instance $e))
            (export "wasi:cli/run@0.2.0" (instance $e)))"#,
    )
    .unwrap();
    let file = kit.file("app.wasm", wit).display().to_string();
    let imported = text(&daemon.cli(&["import", &file, "app:1"]).await);
    let id = imported.split(' ').next().unwrap().to_owned();

    let listed = &json(&daemon.cli(&["images", "-o", "json"]).await)[0];
    assert!(listed["codeSize"].as_u64().unwrap() > 0, "{listed}");
    let shown = json(&daemon.cli(&["inspect", "app:1"]).await);
    assert_eq!(shown["id"], id.as_str());
    assert_eq!((&shown["os"], &shown["architecture"]), (&"wasip2".into(), &"wasm".into()));
    let program = &shown["programs"][0];
    assert_eq!(program["form"], "component");
    assert_eq!(program["imports"], serde_json::json!(["wasi:cli/environment@0.2.0"]));
    assert_eq!(program["exports"], serde_json::json!(["wasi:cli/run@0.2.0"]));
    assert_eq!(shown["annotations"], Value::Null);
    let nothing = daemon.command(&["inspect", "nothing"]).output().unwrap();
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("nothing"));

    assert_eq!(
        text(&daemon.cli(&["tag", "app:1", "app:2"]).await),
        format!("{id} docker.io/library/app:2\n")
    );
    let archive = kit.path("app.tar").display().to_string();
    daemon.cli(&["save", "app:2", "--output", &archive]).await;
    let compiled = text(&daemon.cli(&["compile", "app:1"]).await);
    assert!(compiled.starts_with("[1/1] app:1 /app.wasm: ") && compiled.contains("was there"));
    let rmi = text(&daemon.cli(&["rmi", "app:1"]).await);
    assert_eq!(rmi, "untagged docker.io/library/app:1\n");
    assert_eq!(text(&daemon.cli(&["rmi", "app:2"]).await), format!("{id}\n"));
    let loaded = text(&daemon.cli(&["load", &archive]).await);
    assert_eq!(loaded, format!("{id} docker.io/library/app:2\n"));

    let kept = text(&daemon.cli(&["images", "prune"]).await);
    assert_eq!(kept, "freed 0B\n");
    let pruned = json(&daemon.cli(&["images", "prune", "--all", "-o", "json"]).await);
    assert_eq!(pruned["removed"][0]["id"], id.as_str());
    let missing = daemon.command(&["save", "gone"]).output().unwrap();
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("image \"gone\" not found"));
}
