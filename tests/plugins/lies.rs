//! Plugins that name what is not there or not theirs, and want what cannot be. Each is refused in
//! one short line with the plugin's name, or passed over, as its fail policy says; nothing is left.

use support::{Daemon, Pod};
use wasmpod::proto::cri;

use super::kit::{Plugin, answers, asks, configuration, pod, said, shows, start};
use crate::support::{self, env, sandbox};

const HOOK: &str = "pre-create-container";

/// What no request may leave: a container, a writable root, CPUs that nobody has.
async fn nothing_is_left(daemon: &Daemon, pod: &Pod, image: &str) {
    let list = cri::ListContainersRequest::default();
    let left = daemon.runtime().list_containers(list).await.unwrap().into_inner().containers;
    assert!(left.is_empty(), "{left:?}");
    let roots = std::fs::read_dir(daemon.root().join("roots")).into_iter().flatten();
    assert_eq!(roots.count(), 0);
    assert_eq!(said(daemon, pod, image, "cpu.allocations").await, [""]);
}

/// One short line that begins so.
fn is_said_of(error: &tonic::Status, begin: &str) -> bool {
    let text = error.message();
    text.starts_with(begin) && !text.contains(char::is_control) && text.len() < 1400
}

#[tokio::test]
async fn ids_and_lists_that_are_none_are_refused() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let long = "f".repeat(64 << 10);
    let ids = ["nobody", "", "a\u{0}b", "a\nb", &pod.id, "../../x", "%s%n", &long];
    let lists =
        ["", " x", "0-", "1-0", "0-4294967295", "0\u{0}", "0\nx", "-1", "\u{ff10}", &long, "8000"];
    let of_ids = ids.iter().flat_map(|id| {
        [
            format!("cpu.allocate {id} 0"),
            format!("cpu.pin {id} 0"),
            format!("cpu.ran-on {id}"),
            format!("memory.set-mems {id} 0"),
            format!("containers.stats {id}"),
            format!("containers.update {id} memory-limit 1048576"),
        ]
    });
    let of_lists = lists.iter().flat_map(|list| [format!("cpu.allocate $own {list}")]);
    let events = ["two words", "line\nbreak", "", "caf\u{e9}", &long];
    let of_events = events.iter().map(|reason| format!("events.emit {} {reason}", pod.id));
    for (at, call) in of_ids.chain(of_lists).chain(of_events).enumerate() {
        if call.contains("emit") && call.ends_with("words") {
            // That is a reason and a message.
            continue;
        }
        let config = asks(&format!("c{at}"), &image, (HOOK, &format!("needs {call}")));
        let error = pod.try_create(config).await.unwrap_err();
        let begin = "plugin probe: pre-create-container: ";
        assert!(is_said_of(&error, begin), "{call:.60}: {error}");
    }
    nothing_is_left(&daemon, &pod, &image).await;
}

/// Adjustments that cannot be, and words of the error.
fn impossible() -> Vec<(&'static str, &'static str)> {
    vec![
        (r#"{"set-env": [["A=B", "x"]]}"#, "is no name for an environment variable"),
        (r#"{"set-env": [["", "x"]]}"#, "is no name for an environment variable"),
        (r#"{"set-env": [["A\u0000", "x"]]}"#, "is no name for an environment variable"),
        (r#"{"set-env": [["A", "x\u0000y"]]}"#, "the value of env A holds a NUL byte"),
        (r#"{"args": []}"#, "args must name the program first"),
        (r#"{"args": ["", "x"]}"#, "args must name the program first"),
        (r#"{"args": ["probe", "x\u0000"]}"#, "a word of args holds a NUL byte"),
        (r#"{"set-annotations": [["io.kubernetes.x", "1"]]}"#, "is the kubelet's"),
        (r#"{"remove-annotations": ["io.kubernetes.pod"]}"#, "is the kubelet's"),
        (r#"{"set-annotations": [["", "1"]]}"#, "is no annotation's key"),
        (r#"{"set-annotations": [["a\nb", "1"]]}"#, "is no annotation's key"),
        (r#"{"resources": {"memory-limit": -5}}"#, "memory limit -5 is negative"),
        (r#"{"resources": {"cpu-quota": -7}}"#, "cpu quota -7"),
        (r#"{"resources": {"cpu-quota": 999}}"#, "cpu quota 999"),
        (r#"{"resources": {"cpu-period": 10}}"#, "cpu period 10"),
        (r#"{"resources": {"cpu-shares": 1}}"#, "cpu shares 1"),
        (r#"{"resources": {"cpuset-cpus": ""}}"#, "cpu list \"\""),
        (
            r#"{"other": [{"field": "linux.seccomp", "value": "x"}]}"#,
            "linux.seccomp has no meaning",
        ),
        (r#"{"other": [{"field": "a\nb", "value": "\u0000"}]}"#, "has no meaning"),
    ]
}

/// The same of a mount: container path, host path, words of the error.
fn impossible_mounts() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("data", "/tmp", "\"data\" of a mount is not absolute"),
        ("", "/tmp", "is not absolute"),
        ("/data", "tmp", "\"tmp\" of a mount is not absolute"),
        ("/data", "", "is not absolute"),
        ("/", "/tmp", "\"/\" is no place for a mount"),
        ("/./", "/tmp", "\"/\" is no place for a mount"),
        ("/a/../..", "/tmp", "is no place for a mount"),
        ("/a\u{0}", "/tmp", "holds a NUL byte"),
        ("/data", "/tmp\u{0}", "holds a NUL byte"),
    ]
}

#[tokio::test]
async fn adjustments_that_cannot_be_are_refused_or_passed_over() {
    let mounts = impossible_mounts().into_iter().map(|(inside, host, words)| {
        let mount = serde_json::json!({
            "add-mounts": [{"container-path": inside, "host-path": host, "access": "read-write"}]
        });
        (mount.to_string(), words)
    });
    let others = impossible().into_iter().map(|(json, words)| (json.to_owned(), words));
    let mut cases: Vec<_> = others.chain(mounts).collect();
    cases.iter_mut().for_each(|(json, _)| *json = format!("adjust {json}"));
    // Four megabytes of words, two of names.
    cases.push(("many-env 40000 100".to_owned(), "command, args and env together"));
    for more in ["", "fail = \"open\""] {
        let daemon = start(&[Plugin { more, ..Plugin::default() }]).await;
        let image = daemon.import("probe").await;
        let pod = pod(&daemon).await;
        for (at, (what, words)) in cases.iter().enumerate() {
            let mut config = asks(&format!("c{at}"), &image, (HOOK, what));
            config.envs = vec![env("KEPT", "yes")];
            match pod.try_create(config).await {
                Ok(created) if !more.is_empty() => created.remove().await,
                Err(error) if more.is_empty() => {
                    assert!(is_said_of(&error, "plugin probe: container "), "{what}: {error}");
                    assert!(error.message().contains(words), "{what}: {error}");
                }
                outcome => panic!("{more}: {what}: {outcome:?}"),
            }
        }
        nothing_is_left(&daemon, &pod, &image).await;
    }
}

#[tokio::test]
async fn what_the_node_lacks_is_refused_with_the_names_of_those_who_wanted_it() {
    let daemon = start(&[Plugin::default()]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let in_the_way = tempfile::NamedTempFile::new().unwrap();
    let below = serde_json::json!({"add-mounts": [{
        "container-path": "/data", "host-path": in_the_way.path().join("x"), "access": "read-only",
    }]});
    for (at, (json, words)) in [
        (r#"{"args": ["nothing"]}"#, "no program \"nothing\" in the image"),
        (r#"{"resources": {"cpuset-cpus": "8000"}}"#, "names CPU 8000"),
        (r#"{"resources": {"cpuset-mems": "77"}}"#, "names memory node 77"),
        (below.to_string().as_str(), "the host path"),
    ]
    .into_iter()
    .enumerate()
    {
        let config = asks(&format!("c{at}"), &image, (HOOK, &format!("adjust {json}")));
        let error = pod.try_create(config).await.unwrap_err();
        assert!(is_said_of(&error, "as adjusted by plugins probe: "), "{json}: {error}");
        assert!(error.message().contains(words), "{json}: {error}");
    }
    nothing_is_left(&daemon, &pod, &image).await;
}

#[tokio::test]
async fn a_huge_list_of_wishes_ends_with_an_error_within_the_deadline() {
    let plugin = Plugin { more: "memory = 268435456", ..Plugin::default() };
    let daemon = start(&[plugin]).await;
    let image = daemon.import("probe").await;
    let pod = pod(&daemon).await;
    let told = said(&daemon, &pod, &image, "containers.updates 100000 nobody").await;
    assert_eq!(told, ["error 100000 updates at once: at most 10000 are taken"]);
    // The plugin is well, and so is the node.
    shows(&pod, &image, &["say", "here"]).await.says("here").await;
    assert_eq!(answers(&daemon).len(), 1);
}

#[tokio::test]
async fn an_update_that_cannot_be_is_refused_or_passed_over_and_changes_nothing() {
    for more in ["", "fail = \"open\""] {
        let daemon = start(&[Plugin { more, ..Plugin::default() }]).await;
        let image = daemon.import("probe").await;
        let pod = pod(&daemon).await;
        for (at, json) in [
            r#"{"resources": {"cpu-quota": -7}}"#,
            r#"{"resources": {"memory-limit": -5}}"#,
            r#"{"resources": {"cpuset-cpus": ""}}"#,
        ]
        .into_iter()
        .enumerate()
        {
            let what = format!("adjust {json}");
            let main =
                pod.create(asks(&format!("c{at}"), &image, ("update-container", &what))).await;
            let wanted = cri::LinuxContainerResources { cpu_shares: 512, ..Default::default() };
            let updated = crate::pinning::kit::update(&main, wanted).await;
            let shares = crate::pinning::kit::applied(&main).await.cpu_shares;
            match updated {
                Ok(()) => assert_eq!((more, shares), ("fail = \"open\"", 512)),
                Err(error) => {
                    assert!(is_said_of(&error, "plugin probe: container c"), "{json}: {error}");
                    assert_eq!((more, shares), ("", 0));
                }
            }
        }
    }
}

#[tokio::test]
async fn what_another_version_of_the_interface_was_made_for_is_told_what_to_do() {
    let whole = std::fs::read(support::guest("plugin-probe")).unwrap();
    for version in ["0.2.0", "0.0.9"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugin.wasm");
        std::fs::write(&file, spoken(&whole, version)).unwrap();
        let config = configuration(&[Plugin::default()]);
        let guest = support::guest("plugin-probe").display().to_string();
        let daemon = Daemon::start_with(&config.replace(&guest, &file.display().to_string())).await;
        let error = daemon.try_run_pod(sandbox("bad"), "").await.err().unwrap();
        let wanted = format!(
            "plugin probe is not there: it speaks wasmpod:lifecycle@{version}, this wasmpod 0.1.0: \
             build it with the guest SDK of this wasmpod"
        );
        assert!(is_said_of(&error, &wanted), "{error}");
        let checked = daemon.try_cli(&["plugin", "check", &file.display().to_string()]).await;
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(!checked.status.success() && said.contains(version), "{said}");
    }
}

/// A component whose interfaces of the package have another version. As long a text, so that
/// nothing else of it changes.
fn spoken(component: &[u8], version: &str) -> Vec<u8> {
    let mut made = component.to_vec();
    let (package, own) = (b"wasmpod:lifecycle/".as_slice(), b"@0.1.0".as_slice());
    let mut at = 0;
    while let Some(found) = made[at..].windows(package.len()).position(|part| part == package) {
        at += found + package.len();
        let name = made[at..].iter().position(|byte| !byte.is_ascii_lowercase() && *byte != b'-');
        let end = at + name.unwrap();
        if made[end..].starts_with(own) {
            made[end + 1..end + own.len()].copy_from_slice(version.as_bytes());
        }
    }
    made
}

#[tokio::test]
async fn a_plugin_is_no_containers_program() {
    let daemon = Daemon::start().await;
    let image = daemon.import("env-inject").await;
    let pod = daemon.run_pod(support::sandbox("p")).await;
    let container = pod.try_create(support::container("main", &image)).await.unwrap();
    let error = container.start().await.unwrap_err();
    let text =
        "the component does not export wasi:cli/run; it exports wasmpod:lifecycle/node-hooks";
    assert!(is_said_of(&error, text), "{error}");
}
