//! What people do with the toolbox through exec: copy files by tar as `kubectl cp` does, serve,
//! fetch and talk.

use std::io::Read;

use bytes::Bytes;
use support::{Container, Daemon};

use super::kit::{PIPES, ended, exec, idle, until};
use crate::support;

async fn with_tools() -> (Daemon, Container) {
    let toolbox = support::guest("toolbox");
    let daemon = Daemon::start_with(&format!("[exec]\ntoolbox = {toolbox:?}\n")).await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    (daemon, main)
}

#[tokio::test]
async fn files_are_copied_in_and_out_by_tar_over_the_streams() {
    let (_daemon, main) = with_tools().await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|byte| (byte / 7) as u8).collect();
    let mut packed = tar::Builder::new(Vec::new());
    for (name, bytes) in [("in/large", content.as_slice()), ("in/empty", b"")] {
        let mut head = tar::Header::new_gnu();
        head.set_size(bytes.len() as u64);
        head.set_mode(0o640);
        packed.append_data(&mut head, name, bytes).unwrap();
    }
    let packed = packed.into_inner().unwrap();
    let mut ran = exec(&main, &["tar", "-xmf", "-", "-C", "/tmp"], PIPES).await;
    let mut stdin = ran.stdin.take().unwrap();
    for piece in packed.chunks(32 << 10) {
        stdin.send(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    stdin.finish().await;
    assert_eq!(ended(&mut ran).await, Ok(0));

    let mut ran = exec(&main, &["tar", "cf", "-", "/tmp/in"], PIPES).await;
    let (mut stdout, mut bytes) = (ran.stdout.take().unwrap(), Vec::new());
    while let Some(piece) = stdout.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(ended(&mut ran).await, Ok(0));
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        files.push((path, text));
    }
    files.sort();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["tmp/in/", "tmp/in/empty", "tmp/in/large"]);
    assert!(files[2].1 == content && files[1].1.is_empty());
}

#[tokio::test]
async fn a_folder_is_served_fetched_and_talked_to() {
    let (_daemon, main) = with_tools().await;
    let say = async |script: &str| {
        let ran = main.exec(&["sh", "-c", script], 30).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.exit_code, text(&ran.stdout), text(&ran.stderr))
    };
    say("mkdir /tmp/www; echo served > /tmp/www/file").await;
    let words = ["httpd", "-f", "-v", "-p", "127.0.0.1:8080", "-h", "/tmp/www"];
    let mut server = exec(&main, &words, PIPES).await;
    let mut log = server.stderr.take().unwrap();
    until(&mut log, "httpd: listening on 127.0.0.1:8080").await;
    let fetched = say("wget -q -O - http://127.0.0.1:8080/file").await;
    assert_eq!(fetched, (0, "served\n".to_owned(), String::new()));
    let (code, _, told) = say("wget -q -O - http://127.0.0.1:8080/none").await;
    assert!(code == 1 && told.contains("404"), "{code} {told}");
    until(&mut log, "GET /none 404 Not Found").await;

    let mut listener = exec(&main, &["nc", "-l", "-v", "-p", "9000"], PIPES).await;
    until(listener.stderr.as_mut().unwrap(), "listening on 0.0.0.0:9000").await;
    let mut caller = exec(&main, &["nc", "127.0.0.1", "9000"], PIPES).await;
    caller.stdin.as_mut().unwrap().send(Bytes::from("a question")).await.unwrap();
    until(listener.stdout.as_mut().unwrap(), "a question").await;
    listener.stdin.as_mut().unwrap().send(Bytes::from("an answer")).await.unwrap();
    until(caller.stdout.as_mut().unwrap(), "an answer").await;
    caller.stdin.take().unwrap().finish().await;
    assert_eq!(ended(&mut listener).await, Ok(0));
    assert_eq!(ended(&mut caller).await, Ok(0));
}

/// What a command shows on a terminal where this is typed, and its exit code.
fn on_terminal(command: &std::process::Command, typed: &str) -> (Option<i32>, String) {
    use std::io::Write;
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut script = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = script.stdin.take().unwrap();
    keyboard.write_all(typed.as_bytes()).unwrap();
    let output = script.wait_with_output().unwrap();
    drop(keyboard);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn crictl_gives_a_shell_on_a_terminal_over_both_transports() {
    let Some(program) = crate::crictl::program() else { return };
    let (daemon, main) = with_tools().await;
    let crictl = crate::crictl::Crictl { program, daemon: &daemon };
    for transport in ["spdy", "websocket"] {
        let words = ["exec", "-it", "--transport", transport, &main.id, "sh"];
        let command = crictl.command(&words);
        let typed = "echo $((6 * 7)) is the answer\nexit 3\n";
        let shown = tokio::task::spawn_blocking(move || on_terminal(&command, typed));
        let (code, shown) = shown.await.unwrap();
        assert!(shown.contains("42 is the answer"), "{transport}: {shown}");
        assert!(code != Some(0) && shown.contains("exit code 3"), "{transport}: {code:?} {shown}");
    }
}
