//! cri-tools' own conformance suite against a daemon of ours: its specs one after the other, those
//! of streaming over WebSockets as well, and all of them eight at once. Every image that it asks for comes
//! from a real registry on loopback, through the mirror configuration: the toolbox under the
//! names that the suite has for busybox, nginx and its test images.
//! tests/conformance/expected.txt names every spec that does not pass, and why; any difference
//! fails. What the suite said is left at $WASMPOD_CONFORMANCE_REPORT, where that is set.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::registry::server::{Guard, Server, folder, is_there};
use crate::support::{self, Daemon, root_for};

/// Images by their names without the registries' hosts, and what each has beside the toolbox's
/// programs (words of scripts/toolbox-image.sh).
const IMAGES: [(&str, &[&str]); 19] = [
    ("e2e-test-images/busybox:1.29-2", &[]),
    ("e2e-test-images/nginx:1.14-2", &["--cmd=httpd -f -v -p 80 -h /www", "/www/index.html"]),
    (
        "k8s-staging-cri-tools/hostnet-nginx-amd64:latest",
        &["--cmd=httpd -f -v -p 12003 -h /www", "/www/index.html"],
    ),
    ("k8s-staging-cri-tools/test-image-user-uid:latest", &["--user=1002"]),
    ("k8s-staging-cri-tools/test-image-user-username:latest", &["--user=www-data"]),
    ("k8s-staging-cri-tools/test-image-user-uid-group:latest", &["--user=1003:users"]),
    ("k8s-staging-cri-tools/test-image-user-username-group:latest", &["--user=www-data:100"]),
    ("k8s-staging-cri-tools/test-image-predefined-group:latest", &["--user=1000"]),
    ("k8s-staging-cri-tools/test-image-latest:latest", &["IMAGE=latest"]),
    ("k8s-staging-cri-tools/test-image-tag:test", &["IMAGE=tag"]),
    ("k8s-staging-cri-tools/test-image-tag:all", &["IMAGE=all"]),
    ("k8s-staging-cri-tools/test-image-1:latest", &["IMAGE=1"]),
    ("k8s-staging-cri-tools/test-image-2:latest", &["IMAGE=2"]),
    ("k8s-staging-cri-tools/test-image-3:latest", &["IMAGE=3"]),
    ("k8s-staging-cri-tools/test-image-tags:1", &["IMAGE=tags"]),
    ("k8s-staging-cri-tools/test-image-tags:2", &["IMAGE=tags"]),
    ("k8s-staging-cri-tools/test-image-tags:3", &["IMAGE=tags"]),
    (
        "e2e-test-images/httpd:2.4.39-4",
        &["--cmd=httpd -f -v -p 80 -h /www", "/www/index.html", "IMAGE=httpd"],
    ),
    ("pause:3.9", &["IMAGE=pause"]),
];

/// What the suite says of one spec.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    failure: Failure,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Failure {
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Vec<Spec>,
}

impl Spec {
    fn name(&self) -> String {
        let mut texts = self.container_hierarchy_texts.clone().unwrap_or_default();
        // Ginkgo's own prefix of every container.
        texts.iter_mut().for_each(|text| *text = text.trim_start_matches("[k8s.io] ").to_owned());
        texts.push(self.leaf_node_text.clone());
        texts.join(" > ")
    }
}

/// A way to run the suite.
struct Mode {
    name: &'static str,
    words: &'static [&'static str],
    /// What the names of the specs begin with that are run.
    prefix: &'static str,
}

const MODES: [Mode; 3] = [
    Mode { name: "one by one", words: &[], prefix: "" },
    Mode {
        name: "over WebSockets",
        words: &[
            "--websocket-exec",
            "--websocket-attach",
            "--websocket-portforward",
            "--ginkgo.focus=Streaming",
        ],
        prefix: "Streaming > ",
    },
    Mode { name: "eight at once", words: &["--parallel=8"], prefix: "" },
];

/// The folder of critest and ginkgo, built once per machine; `None`, loudly, where that is not
/// possible.
fn programs() -> Option<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/build-cri-tools.sh");
    let built = Command::new(script).args(["critest", "ginkgo"]).output().unwrap();
    if !built.status.success() {
        support::skipped(&format!("critest: {}", String::from_utf8_lossy(&built.stderr)));
        return None;
    }
    Some(PathBuf::from(String::from_utf8(built.stdout).unwrap().trim()))
}

/// Fills the registry through a daemon that only pushes.
async fn fill(registry: &Server, scratch: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/toolbox-image.sh");
    let page = scratch.join("index.html");
    std::fs::write(&page, "<html>toolbox</html>\n").unwrap();
    let pusher = Daemon::start().await;
    for (name, words) in IMAGES {
        let tar = scratch.join("image.tar");
        let words = words.iter().map(|word| match *word {
            "/www/index.html" => format!("/www/index.html={}", page.display()),
            word => word.to_owned(),
        });
        let made = Command::new(script).arg(&tar).args(words).output().unwrap();
        assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
        let image = format!("{}/{name}", registry.host);
        pusher.cli(&["import", &tar.display().to_string(), &image]).await;
        pusher.cli(&["push", &image]).await;
    }
}

/// Runs the suite and gives every spec that did not pass, with why.
fn failing(programs: &Path, daemon: &Daemon, mode: &Mode) -> BTreeMap<String, String> {
    let socket = format!("unix://{}", daemon.listen().display());
    let own = folder();
    let path = std::env::var("PATH").unwrap_or_default();
    let added = std::env::var("WASMPOD_CRITEST").unwrap_or_default();
    let output = Command::new(programs.join("critest"))
        .arg(format!("--runtime-endpoint={socket}"))
        .arg(format!("--image-endpoint={socket}"))
        .arg("--ginkgo.json-report=report.json")
        .args(["--ginkgo.no-color", "--ginkgo.silence-skips", "--config=/nonexistent"])
        .args(mode.words)
        .args(added.split_whitespace())
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("TMPDIR", own.path())
        .current_dir(own.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if let Some(kept) = std::env::var_os("WASMPOD_CONFORMANCE_REPORT") {
        let mut kept = std::fs::OpenOptions::new().create(true).append(true).open(kept).unwrap();
        writeln!(kept, "=== {}\n{said}", mode.name).unwrap();
    }
    let report = report(own.path()).unwrap_or_else(|| panic!("critest made no report: {said}"));
    let suites: Vec<Suite> = serde_json::from_str(&report).unwrap();
    let specs = suites.into_iter().flat_map(|suite| suite.spec_reports);
    let specs: Vec<Spec> = specs.filter(|spec| spec.leaf_node_type == "It").collect();
    assert!(specs.len() > 100, "critest knows {} specs only", specs.len());
    let is_asked_for = |spec: &&Spec| spec.name().starts_with(mode.prefix);
    let others = specs.iter().filter(is_asked_for).filter(|spec| spec.state != "passed");
    others
        .map(|spec| {
            let why = spec.failure.message.lines().next().unwrap_or_default();
            (spec.name(), format!("{}: {why}", spec.state))
        })
        .collect()
}

/// In the folder, or in one that critest makes there for ginkgo.
fn report(folder: &Path) -> Option<String> {
    let inner = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut places = inner.chain([folder.to_owned()]).map(|place| place.join("report.json"));
    places.find_map(|place| std::fs::read_to_string(place).ok())
}

/// The specs that are known not to pass: "STATE | SPEC | WHY".
fn expected() -> BTreeMap<String, String> {
    let text = include_str!("conformance/expected.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.split(" | ");
            let (state, spec) = (parts.next().unwrap(), parts.next().unwrap());
            assert!(parts.next().is_some_and(|why| !why.is_empty()), "{spec}: why not?");
            (spec.to_owned(), state.to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn critest_passes_but_for_what_is_expected() {
    if !is_there() || !crate::network::kit::possible() || !root_for("critest") {
        return;
    }
    let Some(programs) = programs() else { return };
    let scratch = folder();
    let registry = Server::start(scratch.path(), Guard::Nothing).await;
    fill(&registry, scratch.path()).await;
    let net = crate::network::kit::Net::new();
    net.write(&[
        net.bridge_plugin(),
        serde_json::json!({
            "type": "portmap", "capabilities": { "portMappings": true }
        }),
    ]);
    let configuration = format!(
        "{}\n[registry.hosts._default]\nmirrors = [{{ url = \"http://{}\" }}]\n",
        net.configuration(),
        registry.host
    );
    let expected = expected();
    let mut differences = Vec::new();
    for mode in MODES {
        let daemon = Daemon::start_with(&configuration).await;
        let begun = std::time::Instant::now();
        let found = tokio::task::block_in_place(|| failing(&programs, &daemon, &mode));
        eprintln!("critest {}: {:?}", mode.name, begun.elapsed());
        for (spec, told) in &found {
            match expected.get(spec) {
                Some(state) if told.starts_with(state.as_str()) => {}
                _ => differences.push(format!("{}: {spec}\n    {told}", mode.name)),
            }
        }
        let asked_for = expected.keys().filter(|spec| spec.starts_with(mode.prefix));
        differences.extend(
            asked_for
                .filter(|spec| !found.contains_key(*spec))
                .map(|spec| format!("{}: {spec}\n    passes, although not expected to", mode.name)),
        );
    }
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
