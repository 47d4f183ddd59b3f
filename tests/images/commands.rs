//! `wasmpod import`, `images` and `rmi`: through a daemon and without one.

use std::process::{Command, Output};

use super::super::support::Daemon;
use super::kit::*;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn images_come_are_listed_and_go_through_the_daemon() {
    let daemon = Daemon::start().await;
    let kit = Kit::new();
    let file = kit.file("hello.wasm", module(1));
    let path = file.display().to_string();
    let imported = text(&daemon.cli(&["import", &path, "hello:1"]).await);
    let (id, name) = imported.trim().split_once(' ').unwrap();
    assert_eq!(name, "docker.io/library/hello:1");

    let listed = daemon.cli(&["images"]).await;
    let short = id.trim_start_matches("sha256:")[..12].to_owned();
    let mut lines = text(&listed).lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let words: Vec<_> = lines.remove(1).split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[..3], ["hello", "1", &short]);
    let items = json(&daemon.cli(&["images", "-o", "json"]).await);
    assert_eq!((&items[0]["id"], &items[0]["pinned"]), (&id.into(), &true.into()));

    // What the daemon refuses is one line that names the file.
    let bad = kit.file("hello.txt", "hello");
    let output = daemon.command(&["import", &bad.display().to_string(), "x"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.lines().count() == 1, "{said}");
    assert!(said.contains("hello.txt is not a WebAssembly file"), "{said}");

    assert_eq!(text(&daemon.cli(&["rmi", &short]).await).trim(), id);
    assert_eq!(json(&daemon.cli(&["images", "-o", "json"]).await), serde_json::json!([]));
    let gone = daemon.command(&["rmi", "hello:1"]).output().unwrap();
    assert!(!gone.status.success());
    assert!(String::from_utf8_lossy(&gone.stderr).contains("image \"hello:1\" not found"));
}

#[tokio::test]
async fn the_same_commands_work_on_the_store_itself() {
    let kit = Kit::new();
    let file = kit.file("hello.wasm", module(1)).display().to_string();
    let root = kit.config.root.display().to_string();
    let run = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--root", &root]);
        let output = Command::new(env!("CARGO_BIN_EXE_wasmpod")).args(&all).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    };
    let imported = text(&run(&["import", &file, "a:1"]));
    run(&["import", &file, "b:1"]);
    let items = json(&run(&["images", "-o", "json"]));
    let tags = serde_json::json!(["docker.io/library/a:1", "docker.io/library/b:1"]);
    assert_eq!(items[0]["tags"], tags);
    assert_eq!(text(&run(&["images"])).lines().count(), 3);
    assert_eq!(text(&run(&["rmi", "b:1"])), "untagged docker.io/library/b:1\n");
    let removed = text(&run(&["rmi", "a:1"]));
    assert!(imported.starts_with(removed.trim()));
    assert_eq!(json(&run(&["images", "-o", "json"])), serde_json::json!([]));
}
