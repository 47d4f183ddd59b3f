//! Drives the daemon with the real crictl (tests/conformance/build-cri-tools.sh builds it).
use crate::support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};
use support::Daemon;

/// The crictl program, built once per machine; `None`, loudly, where that is not possible.
pub fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let script =
                concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/build-cri-tools.sh");
            let built = Command::new(script).output().unwrap();
            if !built.status.success() {
                support::skipped(&format!("crictl: {}", String::from_utf8_lossy(&built.stderr)));
                return None;
            }
            Some(Path::new(String::from_utf8(built.stdout).unwrap().trim()).join("crictl"))
        })
        .as_deref()
}

/// crictl against one daemon.
pub struct Crictl<'a> {
    pub program: &'static Path,
    pub daemon: &'a Daemon,
}

impl Crictl<'_> {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let config = self.file("crictl.yaml", "");
        let mut command = Command::new(self.program);
        command
            .args(["--config", &config, "--timeout", "60s", "--runtime-endpoint"])
            .arg(format!("unix://{}", self.daemon.listen().display()))
            .args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it prints when it succeeds.
    pub fn prints(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "crictl {arguments:?}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.daemon.own_log()
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn reads(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.prints(arguments)).unwrap()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.daemon.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_whole_life_by_crictl() {
    let Some(program) = program() else { return };
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let crictl = Crictl { program, daemon: &daemon };

    assert!(crictl.prints(&["version"]).contains("wasmpod"));
    let info = crictl.reads(&["info"]);
    assert_eq!(info["status"]["conditions"][0]["status"], true, "{info}");

    let logs = daemon.logs().display().to_string();
    let sandbox = crictl.file(
        "pod.json",
        &json!({
            "metadata": { "name": "crictl", "namespace": "tests", "uid": "u1", "attempt": 0 },
            "hostname": "crictl",
            "log_directory": logs,
            "labels": { "app": "crictl" },
            "linux": { "security_context": { "namespace_options": { "network": 2 } } },
        })
        .to_string(),
    );
    let container = crictl.file(
        "container.json",
        &json!({
            "metadata": { "name": "main", "attempt": 0 },
            "image": { "image": image },
            "args": ["say", "hello", "--", "idle"],
            "log_path": "main.log",
            "linux": {},
        })
        .to_string(),
    );
    let pod = crictl.prints(&["runp", &sandbox]);
    let id = crictl.prints(&["create", &pod, &container, &sandbox]);
    assert_eq!(crictl.prints(&["ps", "-a", "-q", "--state", "created", "--pod", &pod]), id);
    crictl.prints(&["start", &id]);
    assert_eq!(crictl.prints(&["ps", "-q", "--label", "none=such"]), "");
    assert_eq!(crictl.prints(&["ps", "-q", "--id", &id[..8]]), id);

    support::eventually("the guest's line is in crictl logs", || {
        (crictl.prints(&["logs", &id]) == "hello").then_some(())
    })
    .await;
    let status = crictl.reads(&["inspect", &id]);
    assert_eq!(status["status"]["state"], "CONTAINER_RUNNING", "{status}");
    assert_eq!(status["status"]["image"]["image"], image.as_str());
    assert_eq!(status["status"]["logPath"], format!("{logs}/main.log"));
    assert_eq!(crictl.reads(&["inspectp", &pod])["status"]["state"], "SANDBOX_READY");
    let stats = crictl.reads(&["stats", "-o", "json", &id]);
    assert_eq!(stats["stats"][0]["attributes"]["id"], id.as_str(), "{stats}");
    assert!(stats["stats"][0]["memory"]["workingSetBytes"]["value"] != "0", "{stats}");

    let program = status["info"]["argv"][0].as_str().unwrap().to_owned();
    assert_eq!(crictl.prints(&["exec", "-s", &id, &program, "say", "again"]), "again");
    let exec = crictl.run(&["exec", "-s", &id, "no-such-program"]);
    let refusal = String::from_utf8_lossy(&exec.stderr).into_owned();
    assert!(!exec.status.success() && refusal.contains("no-such-program"), "{refusal}");

    crictl.prints(&["stop", &id]);
    let status = crictl.reads(&["inspect", &id]);
    assert_eq!(status["status"]["state"], "CONTAINER_EXITED", "{status}");
    crictl.prints(&["stopp", &pod]);
    assert_eq!(crictl.prints(&["pods", "-q", "--state", "ready"]), "");
    crictl.prints(&["rmp", &pod]);
    assert_eq!(crictl.prints(&["pods", "-q"]), "");
    assert_eq!(crictl.prints(&["ps", "-a", "-q"]), "");

    let images = crictl.prints(&["images"]);
    assert!(images.contains("tests/probe"), "{images}");
    crictl.prints(&["pull", &image]);
    let refused = crictl.run(&["pull", "registry.example/none:1"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("RegistryUnavailable: "));
    let inspected = crictl.reads(&["inspecti", &image]);
    assert_eq!(inspected["status"]["pinned"], true, "{inspected}");
    crictl.prints(&["rmi", &image]);
    assert_eq!(crictl.prints(&["images", "-q"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_a_registry_by_crictl() {
    use crate::registry::kit::artifact;
    use crate::registry::server::{Guard, Server, folder, is_there};
    let Some(program) = program() else { return };
    if !is_there() {
        return;
    }
    let folder = folder();
    let server = Server::start(folder.path(), Guard::TlsAndPassword).await;
    server.push(&artifact(std::fs::read(support::guest("probe")).unwrap()), "team/probe", "1");
    let daemon = Daemon::start_with(&format!(
        "[registry.hosts.\"{host}\"]\nserver = \"https://{host}\"\nca = [{ca:?}]\n",
        host = server.host,
        ca = folder.path().join("ca.pem"),
    ))
    .await;
    let crictl = Crictl { program, daemon: &daemon };
    let name = format!("{}/team/probe:1", server.host);
    let refused = crictl.run(&["pull", &name]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("denies access to"), "{said}");

    let pulled = crictl.prints(&["pull", "--creds", "u:p", &name]);
    assert!(pulled.contains("sha256:"), "{pulled}");
    let images = crictl.reads(&["images", "-o", "json"]);
    let image = &images["images"][0];
    assert_eq!(image["repoTags"], json!([name]));
    let inspected = crictl.reads(&["inspecti", &name]);
    assert_eq!(inspected["status"]["id"], image["id"]);
    assert_eq!(inspected["status"]["pinned"], false);
    let digest = image["repoDigests"][0].as_str().unwrap();
    crictl.prints(&["pull", "--creds", "u:p", digest]);
    assert_eq!(crictl.reads(&["inspecti", digest])["status"]["repoTags"], json!([name]));
    let absent = crictl.run(&["pull", "--creds", "u:p", &name.replace("probe", "none")]);
    assert!(String::from_utf8_lossy(&absent.stderr).contains("NotFound"));
    crictl.prints(&["rmi", &name]);
    assert_eq!(crictl.prints(&["images", "-q"]), "");
}
