//! `wasmpod plugin run`, with real plugins.

use crate::support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::guest;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `wasmpod plugin run ARGUMENTS` with this on its standard input.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmpod"));
    command.args(["plugin", "run"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses its arguments reads none of it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn tried(plugin: &str, fixture: &Value, more: &[&str]) -> Output {
    let file = guest(plugin).display().to_string();
    run(&[&[file.as_str(), "--event", "-"], more].concat(), &fixture.to_string())
}

/// Standard output of one that comes through.
#[track_caller]
fn passed(plugin: &str, fixture: &Value) -> String {
    let output = tried(plugin, fixture, &[]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    stdout(&output)
}

/// Standard error of one that does not.
#[track_caller]
fn failed(plugin: &str, fixture: &Value, more: &[&str]) -> String {
    let output = tried(plugin, fixture, more);
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(&output), stderr(&output));
    stderr(&output)
}

/// A probe that does this in pre-create-container.
fn does(what: &str) -> Value {
    let settings = json!({ "do": { "pre-create-container": what } });
    json!({ "hook": "pre-create-container", "settings": settings })
}

/// What stands in the page between these two lines.
fn block<'a>(page: &'a str, first: &str) -> &'a str {
    let (_, rest) = page.split_once(first).unwrap();
    rest.split_once("```\n").unwrap().0
}

#[test]
fn the_page_shows_what_is_printed() {
    let page = fs::read_to_string(root().join("docs/plugins/run.md")).unwrap();
    let fixture = root().join("examples/env-inject/fixture.json");
    assert_eq!(block(&page, "```json\n"), fs::read_to_string(&fixture).unwrap());
    let command = "$ wasmpod plugin run env-inject.wasm --event fixture.json\n";
    let (plugin, event) = (guest("env-inject"), fixture.display().to_string());
    let output = run(&[&plugin.display().to_string(), "--event", &event], "");
    assert_eq!(stderr(&output), "");
    assert_eq!(stdout(&output), block(&page, command));
    assert!(output.status.success());
}

#[test]
fn a_refusal_is_the_plugins_words_and_a_failure() {
    let fixture = json!({
        "hook": "validate-container",
        "settings": { "prefixes": ["registry.example/"] },
        "container": { "name": "app", "image": "elsewhere.example/app:1" },
    });
    let output = tried("image-allowlist", &fixture, &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = "image-allowlist refuses container app of pod default/pod (validate-container)\n";
    assert_eq!(stdout(&output), told);
    assert_eq!(
        stderr(&output),
        "wasmpod: plugin image-allowlist: validate-container: image \"elsewhere.example/app:1\" is \
         not allowed: it begins with none of [\"registry.example/\"]\n"
    );

    let mut fixture = fixture;
    fixture["container"]["image"] = json!("registry.example/app:1");
    let told = "image-allowlist passes container app of pod default/pod (validate-container)\n";
    assert_eq!(passed("image-allowlist", &fixture), told);
    let settings = tempfile::tempdir().unwrap();
    let settings = settings.path().join("none.toml");
    let error = failed("image-allowlist", &fixture, &["--settings", settings.to_str().unwrap()]);
    assert!(error.contains("none.toml: No such file"), "{error}");
}

#[test]
fn what_breaks_down_is_told_within_its_time() {
    let error = failed("plugin-probe", &does("trap"), &[]);
    assert!(error.contains("error: ") && error.contains("as asked in pre-create"), "{error}");
    assert!(error.contains("wasmpod: plugin plugin-probe broke down: "), "{error}");
    for what in ["spin", "sleep"] {
        let begun = Instant::now();
        let error = failed("plugin-probe", &does(what), &["--deadline-ms", "300"]);
        let words = "plugin plugin-probe gave no answer within 300 ms (pre-create-container)";
        assert!(error.contains(words), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

#[test]
fn what_it_calls_and_changes_is_shown() {
    let mut fixture = does("take 1");
    fixture["settings"]["kv"] = json!(true);
    fixture["machine"] = json!({ "coresOfANode": 4 });
    fixture["kv"] = json!({ "calls/configure": "4", "other": "x" });
    let output = tried("plugin-probe", &fixture, &[]);
    assert_eq!(
        stdout(&output),
        "plugin-probe changes container main of pod default/pod (pre-create-container):\n\
         - resources.cpusetCpus = \"\"\n\
         + resources.cpusetCpus = \"1\"\n\
         allocated CPUs:\n\
         + main = \"1\"\n\
         kept state:\n\
         - calls/configure = \"4\"\n\
         + calls/configure = \"5\"\n\
         + calls/pre-create-container = \"1\"\n\
         + calls/shutdown = \"1\"\n\
         + calls/synchronize = \"1\"\n",
        "{}",
        stderr(&output)
    );
    let log = stderr(&output);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines[..2],
        ["info: probe configure", "info: probe synchronize 0 pods, 0 containers"]
    );
    assert!(lines[2].starts_with("info: probe pre-create-container "), "{log}");

    let tells = json!({
        "hook": "post-start-container",
        "settings": { "do": { "post-start-container": "tell Warmed" } },
    });
    let told = passed("plugin-probe", &tells);
    let line = "event: Warning Warmed of container main of pod default/pod: as asked\n";
    assert!(told.ends_with(line), "{told}");
}

#[test]
fn others_on_the_node_are_seen_and_changed() {
    let fixture = json!({
        "hook": "pre-create-container",
        "machine": { "coresOfANode": 4 },
        "pod": { "name": "own", "annotations": { "exclusive-cpus.example/count": "2" } },
        "container": { "name": "app" },
        "pods": [{ "name": "shared" }, { "name": "old" }],
        "containers": [
            { "name": "main", "pod": "shared" },
            { "name": "holder", "pod": "default/old", "resources": { "cpusetCpus": "3" } },
        ],
        "allocations": { "holder": { "cpus": "3" } },
    });
    let output = tried("exclusive-cpus", &fixture, &["-o", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["verdict"], "passed");
    assert_eq!(told["changes"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told["changes"][0]["field"], "resources.cpusetCpus");
    let taken = told["container"]["after"]["resources"]["cpusetCpus"].as_str().unwrap();
    assert_eq!(told["allocations"]["after"], json!({ "app": taken, "holder": "3" }));
    let last = told["updates"].as_array().unwrap().last().unwrap();
    assert_eq!(last["subject"], "container main of pod default/shared", "{told}");
    assert_eq!(last["after"]["cpusetCpus"].as_str().unwrap().len(), 1, "{told}");

    let mut greedy = fixture;
    greedy["pod"]["annotations"]["exclusive-cpus.example/count"] = json!("4");
    let output = tried("exclusive-cpus", &greedy, &["-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["verdict"], &told["container"]), (&json!("refused"), &Value::Null));
    assert!(told["why"].as_str().unwrap().contains("no 4 exclusive CPUs"), "{told}");
}

#[test]
fn an_update_is_what_was_asked_against_what_would_be() {
    let fixture = json!({
        "hook": "update-container",
        "settings": { "do": { "update-container": "memory 33554432" } },
        "container": { "resources": { "memoryLimit": 1 << 20, "cpuShares": 7 } },
        "wanted": { "memoryLimit": 64 << 20 },
    });
    let told = passed("plugin-probe", &fixture);
    let lines = "- resources.memoryLimit = 67108864\n+ resources.memoryLimit = 33554432\n";
    assert!(told.ends_with(lines), "{told}");
}

#[test]
fn a_hook_that_it_does_not_want_is_not_asked() {
    let told = passed("env-inject", &json!({ "hook": "image-pulled" }));
    let line = "env-inject is not asked: it does not ask for image-pulled, only for \
                pre-create-container\n";
    assert_eq!(told, line);
    let output = tried("plugin-probe", &does("trap"), &["--namespaces", "a,b,*"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_is_not_granted_or_was_set_by_another_is_told() {
    let hook = json!({ "hook": "pre-create-container" });
    let error = failed("exclusive-cpus", &hook, &["--functions", "containers"]);
    assert!(error.contains("plugin exclusive-cpus cannot be used: it needs cpu."), "{error}");
    let error = failed("env-inject", &hook, &["--fields", "args,mounts"]);
    assert!(error.contains("it needs to change env, which is not granted"), "{error}");
    let mut fixture = does("env A 1");
    fixture["container"] = json!({ "name": "app", "setBy": { "env A": "other" } });
    let error = failed("plugin-probe", &fixture, &[]);
    let words = "plugins other and plugin-probe both set env A of container app";
    assert!(error.contains(words), "{error}");
}

/// Its errors are one line, and nothing is on standard output.
#[track_caller]
fn refused(file: &Path, fixture: &str, reason: &str) {
    let output = run(&[file.to_str().unwrap(), "--event", "-"], fixture);
    let error = stderr(&output);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{error}");
    assert!(error.contains(reason), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn bad_input_is_one_line_that_says_what_is_wrong() {
    let good = "{\"hook\": \"pre-create-container\"}";
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| -> PathBuf {
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        file
    };
    refused(Path::new("/nowhere.wasm"), good, "reading /nowhere.wasm: No such file");
    refused(&file("text.wasm", b"hello"), good, "text.wasm: it is no WebAssembly");
    refused(&guest("hello"), good, "it is a core module, no component");
    refused(&guest("hello-p2"), good, "it is no plugin: it exports neither");
    let whole = fs::read(guest("env-inject")).unwrap();
    refused(&file("half.wasm", &whole[..whole.len() / 2]), good, "it is damaged, or only a part");

    let plugin = guest("env-inject");
    refused(&plugin, "{\n\"hook\":, }", "reading stdin: hook: expected value at line 2 column 8");
    refused(&plugin, "", "reading stdin: EOF while parsing a value at line 1 column 0");
    refused(
        &plugin,
        "{\"hook\": \"create\"}",
        "there is no hook \"create\"; there are configure, ",
    );
    let unknown = "{\"hook\": \"pre-create-container\", \"container\": {\"environment\": {}}}";
    refused(&plugin, unknown, "unknown field `environment`, expected one of `id`, `pod`, `name`");
    let alone = "{\"hook\": \"pre-create-container\", \"containers\": [{\"name\": \"a\"}]}";
    refused(&plugin, alone, "containers[0]: it has no pod");
    let settings = "{\"hook\": \"pre-create-container\", \"settings\": {\"env\": [\"A\"]}}";
    refused(&plugin, settings, "plugin env-inject cannot be used: configure: settings.env: ");

    let output = run(&[plugin.to_str().unwrap(), "--event", "/nowhere.json"], "");
    assert!(stderr(&output).contains("reading /nowhere.json: No such file"));
}

#[test]
fn a_pods_own_hooks_are_tried_too() {
    let fixture = |does: &str| {
        json!({
            "hook": "pre-create-container",
            "settings": { "pre-create-container": does },
            "kv": { "count": "4" },
        })
    };
    let told = passed("hooks-probe", &fixture("count"));
    let lines = "\n+ env.COUNT = \"5\"\nkept state:\n- count = \"4\"\n+ count = \"5\"\n";
    assert!(told.ends_with(lines), "{told}");
    let told = passed("hooks-probe", &fixture("see nobody"));
    assert!(told.contains("+ env.SEES = \"pod 0 false\"\n"), "{told}");
    let error = failed("hooks-probe", &fixture("refuse no more"), &[]);
    let words = "wasmpod: hooks of pod default/pod: pre-create-container: no more\n";
    assert!(error.ends_with(words), "{error}");
    for (does, wanted) in [("trap", " broke down: "), ("spin", " gave no answer in time")] {
        let error = failed("hooks-probe", &fixture(does), &["--deadline-ms", "500"]);
        let words = format!("wasmpod: pre-create-container of the pod's own hooks{wanted}");
        assert!(error.contains(&words), "{error}");
    }
    let error = failed("hooks-probe", &fixture(""), &["--functions", "kv"]);
    assert!(error.contains("plugin hooks-probe cannot be used: it needs to call "), "{error}");
    let told = passed("hooks-probe", &json!({ "hook": "image-pulled" }));
    assert!(told.contains("a pod's own hooks have no image-pulled, only pre-create-"), "{told}");
}

#[test]
fn examples_run_as_they_are() {
    for hook in ["configure", "remove-pod-sandbox", "container-exited", "image-pulled"] {
        let example = run(&["--example", hook], "");
        assert!(example.status.success(), "{}", stderr(&example));
        let file = guest("plugin-probe").display().to_string();
        let output = run(&[&file, "--event", "-"], &stdout(&example));
        assert!(output.status.success(), "{hook}: {}", stderr(&output));
        assert!(stderr(&output).contains(&format!("info: probe {hook}")), "{}", stderr(&output));
    }
    let error = stderr(&run(&["--example", "nothing"], ""));
    assert!(error.starts_with("wasmpod: there is no hook \"nothing\"; there are "), "{error}");
}
