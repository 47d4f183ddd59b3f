//! What people see on a terminal while an image comes.

use std::process::Command;
use std::time::Duration;

use super::fake::{Fake, Reply};
use super::kit::*;
use crate::support::{Daemon, guest};

/// What a terminal gets of `wasmpod ARGUMENTS`; util-linux' script is one.
async fn shown(daemon: &Daemon, arguments: &str) -> String {
    let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_wasmpod"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("WASMPOD_ENDPOINT", daemon.agent_socket());
    let run = move || command.stdin(std::process::Stdio::null()).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn pull_and_run_show_how_far_an_image_is() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no script (util-linux)");
        return;
    }
    let daemon = Daemon::start().await;
    let fake = Fake::start();
    let made = artifact(std::fs::read(guest("hello")).unwrap());
    let layer = made.layer().digest.clone();
    for repository in ["pulled", "run"] {
        made.put(&fake, repository, "1");
    }
    // Long enough for a look.
    fake.rule(move |seen, _| {
        if seen.path.contains(&layer) {
            std::thread::sleep(Duration::from_millis(400));
        }
        None::<Reply>
    });
    let name = format!("{}/pulled:1", fake.host());
    let text = shown(&daemon, &format!("pull {name}")).await;
    assert!(text.contains("0B of ") && text.contains("  0%"), "{text:?}");
    let last = text.rsplit("\x1b[J").next().unwrap();
    assert!(last.starts_with("sha256:") && last.trim_end().ends_with(&name), "{text:?}");

    daemon.cli(&["rmi", &name]).await;
    let pod = daemon.path().join("pod.yaml");
    let image = format!("{}/run:1", fake.host());
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: shown}}\nspec:\n  restartPolicy: Never\n  \
         containers: [{{name: a, image: \"{image}\"}}]\n"
    );
    std::fs::write(&pod, manifest).unwrap();
    let text = shown(&daemon, &format!("run {}", pod.display())).await;
    assert!(text.contains("0B of ") && text.contains("\x1b[J"), "{text:?}");
    assert!(text.contains("hello, world"), "{text:?}");
}
