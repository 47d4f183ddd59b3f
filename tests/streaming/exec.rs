//! Exec: streams, exit codes, terminals, and that nothing stays.

use std::os::unix::fs::FileTypeExt;

use bytes::Bytes;
use support::{Container, Daemon, eventually};
use wasmpod::cri::streaming::client::Client;
use wasmpod::runtime::Wanted;

use super::kit::{PIPES, TERMINAL, all, ended, exec, exec_threads, exec_url, idle, until};
use crate::support;

#[tokio::test]
async fn the_streams_are_apart_and_the_exit_code_is_told() {
    let daemon = Daemon::start().await;
    for kind in ["probe", "probe-p2"] {
        let image = daemon.import(kind).await;
        let main = idle(&daemon, &image).await;
        let words = [kind, "say", "one", "--", "say-stderr", "two", "--", "exit", "3"];
        let mut ran = exec(&main, &words, Wanted { stdin: false, ..PIPES }).await;
        let (out, err) = (ran.stdout.take(), ran.stderr.take());
        assert_eq!(all(&mut out.unwrap()).await, "one\n", "{kind}");
        assert_eq!(all(&mut err.unwrap()).await, "two\n", "{kind}");
        // A component's exit codes come as they are only where its kind has them.
        let code = ended(&mut ran).await.unwrap();
        assert!(code == 3 || (kind == "probe-p2" && code == 1), "{kind}: {code}");
    }
}

#[tokio::test]
async fn input_reaches_the_program_and_its_end_is_the_inputs_end() {
    let daemon = Daemon::start().await;
    for kind in ["probe", "probe-p2"] {
        let image = daemon.import(kind).await;
        let main = idle(&daemon, &image).await;
        let mut ran = exec(&main, &[kind, "echo", "--", "say", "over"], PIPES).await;
        let mut stdin = ran.stdin.take().unwrap();
        let mut stdout = ran.stdout.take().unwrap();
        stdin.send(Bytes::from_static(b"first\n")).await.unwrap();
        until(&mut stdout, "first\n").await;
        let long = "x".repeat(3 << 20);
        let typing = tokio::spawn({
            let long = Bytes::from(long.clone());
            async move {
                stdin.send(long).await.unwrap();
                stdin.finish().await;
            }
        });
        assert_eq!(all(&mut stdout).await, format!("{long}over\n"), "{kind}");
        typing.await.unwrap();
        assert_eq!(ended(&mut ran).await, Ok(0), "{kind}");
    }
}

#[tokio::test]
async fn a_program_that_reads_no_more_ends_all_the_same() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let mut ran = exec(&main, &["probe", "say", "done"], PIPES).await;
    let mut stdin = ran.stdin.take().unwrap();
    let typing = tokio::spawn(async move {
        while stdin.send(Bytes::from(vec![b'x'; 64 << 10])).await.is_ok() {}
    });
    assert_eq!(all(ran.stdout.as_mut().unwrap()).await, "done\n");
    assert_eq!(ended(&mut ran).await, Ok(0));
    drop(ran);
    typing.abort();
}

#[tokio::test]
async fn what_cannot_be_run_is_told_in_the_status() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let mut ran = exec(&main, &["/no/such"], PIPES).await;
    let told = ended(&mut ran).await.unwrap_err();
    assert!(told.contains("no program \"/no/such\""), "{told}");
}

#[tokio::test]
async fn a_terminal_echoes_edits_and_ends_its_lines() {
    let daemon = Daemon::start().await;
    for kind in ["probe", "probe-p2"] {
        let image = daemon.import(kind).await;
        let main = idle(&daemon, &image).await;
        let mut ran = exec(&main, &[kind, "echo", "--", "say", "over"], TERMINAL).await;
        let (mut stdin, mut stdout) = (ran.stdin.take().unwrap(), ran.stdout.take().unwrap());
        stdin.send(Bytes::from_static(b"heX\x7fllo\r")).await.unwrap();
        until(&mut stdout, "hello\r\n").await;
        // End of input, as a terminal has it.
        stdin.send(Bytes::from_static(b"\x04")).await.unwrap();
        assert!(all(&mut stdout).await.ends_with("over\r\n"), "{kind}");
        assert_eq!(ended(&mut ran).await, Ok(0), "{kind}");
    }
}

#[tokio::test]
async fn the_interrupt_key_ends_what_runs_in_a_terminal() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    for words in [["probe", "spin"], ["probe", "idle"], ["probe", "echo"]] {
        let mut ran = exec(&main, &words, TERMINAL).await;
        let mut stdin = ran.stdin.take().unwrap();
        eventually("the program runs", || (exec_threads(&main) == 1).then_some(())).await;
        stdin.send(Bytes::from_static(b"\x03")).await.unwrap();
        assert_eq!(ended(&mut ran).await, Ok(130), "{words:?}");
        eventually("its thread is gone", || (exec_threads(&main) == 0).then_some(())).await;
    }
}

/// An idle container in which exec finds the toolbox.
async fn with_toolbox() -> (Daemon, Container) {
    let configuration = format!("[exec]\ntoolbox = {:?}\n", support::guest("toolbox"));
    let daemon = Daemon::start_with(&configuration).await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    (daemon, main)
}

#[tokio::test]
async fn the_interrupt_key_at_a_shells_prompt_drops_the_line_and_not_the_shell() {
    let (_daemon, main) = with_toolbox().await;
    let mut ran = exec(&main, &["sh"], TERMINAL).await;
    let (mut stdin, mut screen) = (ran.stdin.take().unwrap(), ran.stdout.take().unwrap());
    let mut type_in = async |text: &'static str| stdin.send(text.into()).await.unwrap();
    until(&mut screen, "$ ").await;
    type_in("echo never-$((1+1))\x03").await;
    until(&mut screen, "$ ").await;
    type_in("echo status-$?\r").await;
    let shown = until(&mut screen, "status-130").await;
    assert!(!shown.contains("never-2"), "{shown}");
    // As in the middle of a command of several lines.
    type_in("for i in 1 2; do\r").await;
    until(&mut screen, "> ").await;
    type_in("\x03").await;
    until(&mut screen, "$ ").await;
    type_in("exit 7\r").await;
    assert_eq!(ended(&mut ran).await, Ok(7));
}

#[tokio::test]
async fn the_interrupt_key_ends_what_a_shell_waits_for_and_not_the_shell() {
    let (_daemon, main) = with_toolbox().await;
    let mut ran = exec(&main, &["sh"], TERMINAL).await;
    let (mut stdin, mut screen) = (ran.stdin.take().unwrap(), ran.stdout.take().unwrap());
    let mut type_in = async |text: &'static str| stdin.send(text.into()).await.unwrap();
    let processes = async |wanted: &str| {
        let asked = format!("pgrep -f '{wanted}' | wc -l");
        let told = main.exec(&["sh", "-c", &asked], 10).await.unwrap();
        String::from_utf8_lossy(&told.stdout).trim().parse::<usize>().unwrap()
    };
    for (typed, wanted, count) in [
        ("sleep 4321\r", "^sleep 4321", 1),
        ("sleep 4322 | cat | sleep 4322; echo never-$((1+1))\r", "^sleep 4322", 2),
        ("while true; do sleep 4323; done\r", "^sleep 4323", 1),
    ] {
        type_in(typed).await;
        support::eventually_async("it runs", || async {
            (processes(wanted).await == count).then_some(())
        })
        .await;
        type_in("\x03").await;
        support::eventually_async("it is gone", || async {
            (processes(wanted).await == 0).then_some(())
        })
        .await;
        type_in("echo status-$?\r").await;
        let shown = until(&mut screen, "status-130").await;
        assert!(!shown.contains("never-2"), "{shown}");
    }
    // What runs in the background goes on.
    type_in("sleep 4324 & sleep 4325\r").await;
    support::eventually_async("both run", || async {
        (processes("^sleep 432[45]").await == 2).then_some(())
    })
    .await;
    type_in("\x03").await;
    support::eventually_async("one is gone", || async {
        (processes("^sleep 4325").await == 0).then_some(())
    })
    .await;
    assert_eq!(processes("^sleep 4324").await, 1);
    type_in("exit 7\r").await;
    assert_eq!(ended(&mut ran).await, Ok(7));
}

#[tokio::test]
async fn a_terminal_has_the_size_that_its_client_tells() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let mut ran = exec(&main, &["probe", "idle"], TERMINAL).await;
    let mut sizes = ran.sizes.take().unwrap();
    for (width, height) in [(93, 37), (131, 41)] {
        let size = format!("{{\"Width\":{width},\"Height\":{height}}}");
        sizes.send(size.into()).await.unwrap();
        eventually("a terminal has that size", || {
            terminals().any(|size| size == (width, height)).then_some(())
        })
        .await;
    }
}

/// The sizes of this machine's pseudo-terminals.
fn terminals() -> impl Iterator<Item = (u16, u16)> {
    let entries = std::fs::read_dir("/dev/pts").unwrap().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_char_device()))
        .filter(|entry| entry.file_name() != "ptmx")
        .filter_map(|entry| {
            let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::RDONLY;
            let mode = rustix::fs::Mode::empty();
            let terminal = rustix::fs::open(entry.path(), flags, mode).ok()?;
            let size = rustix::termios::tcgetwinsize(terminal).ok()?;
            Some((size.ws_col, size.ws_row))
        })
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_running() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let blind = Wanted { stdin: false, ..PIPES };
    for (wanted, things) in
        [(PIPES, &["spin", "echo", "idle"][..]), (TERMINAL, &["spin", "echo"]), (blind, &["idle"])]
    {
        for &thing in things {
            let ran = exec(&main, &["probe", thing], wanted).await;
            eventually("the program runs", || (exec_threads(&main) == 1).then_some(())).await;
            drop(ran);
            eventually("it has gone", || (exec_threads(&main) == 0).then_some(())).await;
        }
    }
}

#[tokio::test]
async fn an_exec_ends_with_its_daemon_and_the_container_does_not() {
    let mut daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let ran = exec(&main, &["probe", "spin"], PIPES).await;
    let terminal = exec(&main, &["probe", "echo"], TERMINAL).await;
    eventually("both run", || (exec_threads(&main) == 2).then_some(())).await;
    daemon.restart().await;
    eventually("both have gone", || (exec_threads(&main) == 0).then_some(())).await;
    drop((ran, terminal));
    let mut again = exec(&main, &["probe", "say", "still here"], PIPES).await;
    assert_eq!(all(again.stdout.as_mut().unwrap()).await, "still here\n");
}

#[tokio::test]
async fn an_exec_ends_with_its_container_and_its_client_is_told() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let mut ran = exec(&main, &["probe", "idle"], PIPES).await;
    eventually("it runs", || (exec_threads(&main) == 1).then_some(())).await;
    main.stop(0).await;
    assert_eq!(ended(&mut ran).await, Ok(137));
}

#[tokio::test]
async fn a_slow_client_holds_its_program_up_and_loses_nothing() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let mut ran = exec(&main, &["probe", "flood", "24"], PIPES).await;
    let (mut out, mut err) = (ran.stdout.take().unwrap(), ran.stderr.take().unwrap());
    // Nothing is taken yet; what can be held for the client is far less than the flood.
    let other = main.exec(&["probe", "say", "meanwhile"], 10).await.unwrap();
    assert_eq!(other.stdout, b"meanwhile\n");
    eventually("it alone still runs", || (exec_threads(&main) == 1).then_some(())).await;
    let (out, err) = futures::join!(all(&mut out), all(&mut err));
    for text in [out, err] {
        let line = text.find('\n').unwrap() + 1;
        assert_eq!(text.len(), (24 << 20) / line * line);
        assert!(text.lines().all(|text| text.len() + 1 == line));
    }
    assert_eq!(ended(&mut ran).await, Ok(0));
}

#[tokio::test]
async fn a_url_works_once_and_bad_requests_are_refused_at_once() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let url = exec_url(&main, &["probe", "say", "once"], PIPES).await.unwrap();
    let mut ran = Client::remote(&url, PIPES).await.unwrap();
    assert_eq!(all(ran.stdout.as_mut().unwrap()).await, "once\n");
    let Err(again) = Client::remote(&url, PIPES).await else { panic!("it worked twice") };
    assert!(again.to_string().contains("404"), "{again}");
    for wanted in [Wanted::default(), Wanted { terminal: true, ..PIPES }] {
        let refused = exec_url(&main, &["probe"], wanted).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    }
    let refused = exec_url(&main, &[], PIPES).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    main.stop(0).await;
    let refused = exec_url(&main, &["probe"], PIPES).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
}
