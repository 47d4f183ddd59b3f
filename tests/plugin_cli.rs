//! `wasmpod plugin new` and `plugin check`, with real components.

use crate::support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::guest;

fn wasmpod(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmpod"));
    command.current_dir(folder).arg("plugin").args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn check(file: &Path) -> Output {
    wasmpod(Path::new("/"), &["check", file.to_str().unwrap()])
}

/// Standard output of a check that finds nothing wrong.
#[track_caller]
fn passed(file: &Path) -> String {
    let output = check(file);
    let told = stdout(&output);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    told
}

/// Standard error of a check that cannot be made.
#[track_caller]
fn refused(file: &Path) -> String {
    let output = check(file);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert_eq!(stdout(&output), "");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_line(told: &str, what: &str, text: &str) {
    let line = format!("{what:<19}  {text}\n");
    assert!(told.contains(&line), "{line:?} is not in:\n{told}");
}

/// Everywhere; lengths in the file stay right.
#[track_caller]
fn replace<const N: usize>(bytes: &mut [u8], old: &[u8; N], new: &[u8; N]) {
    let starts = bytes.windows(N).enumerate().filter(|(_, window)| window == old);
    let places: Vec<_> = starts.map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + N].copy_from_slice(new);
    }
}

#[test]
fn check_tells_what_the_example_plugins_ask_for() {
    let told = passed(&guest("exclusive-cpus"));
    assert_line(&told, "kind", "plugin");
    assert_line(&told, "interface", "wasmpod:lifecycle@0.1.0");
    assert_line(
        &told,
        "hooks",
        "pre-create-container, update-container, post-stop-container, container-exited",
    );
    assert_line(
        &told,
        "imports",
        "containers.list, cpu.allocate, cpu.allocations, cpu.release, cpu.shared-pool, cpu.topology, \
         pods.list",
    );
    assert_line(&told, "asks for fields", "resources.cpuset-cpus, updates");
    assert!(told.contains("[plugins.exclusive-cpus]\npath = \"/"), "{told}");
    assert!(told.contains("fields = [\"resources.cpuset-cpus\", \"updates\"]\n"), "{told}");
    assert!(!told.contains("problem") && !told.contains("remark"), "{told}");

    for name in ["audit", "env-inject", "image-allowlist", "numa-affinity"] {
        let told = passed(&guest(name));
        assert!(!told.contains("problem") && !told.contains("remark"), "{told}");
    }
}

#[test]
fn check_reads_a_plugin_in_c() {
    let file = support::guest_folder().join("c-plugin.wasm");
    if !file.exists() {
        support::skipped("no C compiler for wasm");
        return;
    }
    let told = passed(&file);
    assert_line(&told, "hooks", "told when it is configured");
    assert_line(&told, "imports", "cpu.topology");
    assert_line(&told, "asks for fields", "env");
}

#[test]
fn check_tells_as_json() {
    let file = guest("env-inject");
    let output = wasmpod(Path::new("/"), &["check", "-o", "json", file.to_str().unwrap()]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["hooks"], serde_json::json!(["pre-create-container"]));
    assert_eq!(told["manifest"]["fields"], serde_json::json!(["env"]));
    assert_eq!(told["imports"], serde_json::json!([]));
}

#[test]
fn check_refuses_what_is_no_plugin() {
    let error = refused(&guest("hello"));
    assert!(error.contains("it is a core module, no component: build it for wasm32-wasip2"));
    let error = refused(&guest("hello-p2"));
    assert!(error.contains("it is no plugin: it exports neither"), "{error}");
    let error = refused(Path::new("/nowhere.wasm"));
    assert!(error.contains("reading /nowhere.wasm"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let half = folder.path().join("half.wasm");
    let whole = fs::read(guest("env-inject")).unwrap();
    fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    let error = refused(&half);
    assert!(error.contains("half.wasm: it is damaged, or only a part of a component"), "{error}");
}

/// The interface's version is in names of the same length, so that it can be another one.
#[test]
fn check_says_what_to_do_about_another_version() {
    let mut bytes = fs::read(guest("env-inject")).unwrap();
    let (ours, later) =
        (b"wasmpod:lifecycle/node-hooks@0.1.0", b"wasmpod:lifecycle/node-hooks@0.9.0");
    replace(&mut bytes, ours, later);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("later.wasm");
    fs::write(&file, bytes).unwrap();
    let error = refused(&file);
    assert!(
        error.contains(
            "it speaks wasmpod:lifecycle@0.9.0, this wasmpod 0.1.0: build it with the guest SDK"
        ),
        "{error}"
    );
}

#[test]
fn check_fails_where_the_manifest_hides_an_import() {
    let mut bytes = fs::read(guest("audit")).unwrap();
    let (asked, other) = (b"\"kv.get\"", b"\"kv.got\"");
    replace(&mut bytes, asked, other);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.wasm");
    fs::write(&file, bytes).unwrap();
    let output = check(&file);
    assert_eq!(output.status.code(), Some(1));
    let told = stdout(&output);
    assert_line(
        &told,
        "problem",
        "it imports kv.get, which its manifest does not ask for: add it to the manifest's functions",
    );
    assert_line(
        &told,
        "remark",
        "its manifest asks for kv.got, of which it imports nothing: leave it out",
    );
}

/// Cargo in a new project, with the versions that examples/ have, so that nothing is fetched.
#[track_caller]
fn cargo(project: &Path, arguments: &[&str], environment: &[(&str, &str)]) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    fs::copy(examples.join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let mut command = Command::new("cargo");
    for flags in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"] {
        command.env_remove(flags);
    }
    let output = command
        .args(arguments)
        .args(["--offline", "--target-dir"])
        .arg(examples.join("target/new-plugin"))
        .envs(environment.iter().copied())
        .current_dir(project)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?} failed: {told}{}", stdout(&output));
}

fn wasm_rustc() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/wasm-rust.sh");
    let output = Command::new("bash")
        .args(["-c", "eval \"$(\"$0\")\" && printf %s \"$WASM_RUSTC\""])
        .arg(script)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    stdout(&output)
}

fn built(project: &Path, name: &str) -> PathBuf {
    cargo(
        project,
        &["build", "--release", "--target", "wasm32-wasip2"],
        &[("RUSTC", &wasm_rustc())],
    );
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    examples.join("target/new-plugin/wasm32-wasip2/release").join(name)
}

#[test]
fn a_new_plugin_passes_its_tests_and_builds() {
    // What it depends on is there once the guests are built.
    support::guest_folder();
    let folder = tempfile::tempdir().unwrap();
    let output = wasmpod(folder.path(), &["new", "image-signer"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = stdout(&output);
    assert!(told.contains("guest SDK is in image-signer/wasmpod-guest"), "{told}");

    let project = folder.path().join("image-signer");
    cargo(&project, &["test"], &[]);
    let file = built(&project, "image_signer.wasm");
    let tried = ["run", file.to_str().unwrap(), "--event", "fixture.json"];
    let told = stdout(&wasmpod(&project, &tried));
    assert!(told.ends_with("\n+ env.GREETING = \"hello, web\"\n"), "{told}");
    let told = passed(&file);
    assert_line(&told, "hooks", "pre-create-container");
    assert_line(&told, "asks for fields", "env");
    assert!(told.contains("[plugins.image-signer]"), "{told}");
    assert!(!told.contains("problem") && !told.contains("remark"), "{told}");

    let error = wasmpod(folder.path(), &["new", "image-signer"]);
    let error = String::from_utf8_lossy(&error.stderr).into_owned();
    assert!(error.contains("making folder image-signer: "), "{error}");
}

#[test]
fn a_new_plugin_may_use_another_sdk() {
    let folder = tempfile::tempdir().unwrap();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-sdk");
    let output = wasmpod(folder.path(), &["new", "with-sdk", "--sdk", sdk.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = fs::read_to_string(folder.path().join("with-sdk/Cargo.toml")).unwrap();
    let line = format!("wasmpod-guest = {{ path = {:?} }}", fs::canonicalize(&sdk).unwrap());
    assert!(manifest.contains(&line), "{manifest}");
    assert!(!folder.path().join("with-sdk/wasmpod-guest").exists());

    for (name, sdk, reason) in [
        ("other", "/", "/ is not the guest SDK"),
        ("Other", ".", "no plugin's name"),
        ("../other", ".", "no plugin's name"),
    ] {
        let output = wasmpod(folder.path(), &["new", name, "--sdk", sdk]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains(reason), "{error}");
        assert!(!folder.path().join(name).exists());
    }
}
