//! Start errors, stale machine code, execs and what their names mean.

use std::time::{Duration, Instant};

use tonic::Code;

use super::bench::{Bench, with_shim};
use super::guests;
use crate::proto::shim::resolve_program_response::Program;
use crate::proto::shim::{self as wire};

#[test]
fn a_missing_import_is_a_start_error_that_names_it() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let request = shim.request(&sandbox, guests::MISSING_IMPORT);
        let id = request.id.clone();
        shim.client.create_container(request).await.expect("creates");
        let error = shim.start(&id).await.expect_err("cannot start");
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(error.message().contains("nowhere"), "{}", error.message());
        let exit = shim.exit_of(&id).await;
        assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"));
        assert_eq!(exit.message, error.message());
        let state =
            shim.client.state(wire::StateRequest::default()).await.expect("tells").into_inner();
        assert_eq!(state.containers[0].started_at, 0);
    });
}

#[test]
fn corrupt_machine_code_is_never_run_and_can_be_made_anew() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let mut request = shim.request(&sandbox, guests::HELLO);
        let code = request.code.clone().expect("code");
        let good = std::fs::read(&code.path).expect("reads");
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        std::fs::write(&code.path, bad).expect("writes");
        let error = shim.client.create_container(request.clone()).await.expect_err("corrupt");
        assert_eq!(error.code(), Code::DataLoss);
        assert_eq!(shim.mounted_roots(), Vec::<String>::new());

        std::fs::write(&code.path, good).expect("writes");
        request.code = Some(code);
        let id = request.id.clone();
        shim.client.create_container(request).await.expect("creates");
        shim.start(&id).await.expect("starts");
        assert_eq!(shim.exit_of(&id).await.code, 0);
    });
}

#[test]
fn a_missing_working_directory_is_made_and_one_that_cannot_be_is_a_failed_start() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        for readonly in [false, true] {
            let mut request = shim.request(&sandbox, guests::HELLO);
            request.working_dir = "/var/app/data".to_owned();
            request.root.as_mut().expect("a root").readonly = readonly;
            let id = request.id.clone();
            shim.client.create_container(request).await.expect("creates");
            let started = shim.start(&id).await;
            let exit = shim.exit_of(&id).await;
            if !readonly {
                started.expect("starts");
                assert_eq!((exit.code, exit.reason.as_str()), (0, "Completed"), "{}", exit.message);
                continue;
            }
            let error = started.expect_err("it cannot be made");
            assert_eq!(error.code(), Code::FailedPrecondition);
            assert_eq!((exit.code, exit.reason.as_str()), (128, "StartError"), "{}", exit.message);
            assert_eq!(exit.message, error.message());
            assert!(
                exit.message.starts_with("working directory /var/app/data"),
                "{}",
                exit.message
            );
        }
    });
}

fn exec(id: &str, argv: &[&str]) -> wire::ExecRequest {
    wire::ExecRequest {
        container_id: id.to_owned(),
        argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
        max_output: 1 << 20,
        ..Default::default()
    }
}

#[test]
fn an_exec_runs_the_entry_module_anew_or_another_one() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let id = shim.run(&sandbox, guests::WAIT).await;
        let answer = shim.client.exec(exec(&id, &["app", "hi"])).await.expect("runs").into_inner();
        assert_eq!(answer.exit.map(|exit| exit.code), Some(0));
        assert_eq!(&answer.stdout[..], b"hi\n");

        let mut other = exec(&id, &["args", "one", "two"]);
        other.code = Some(shim.code(guests::ARGUMENTS));
        let answer = shim.client.exec(other).await.expect("runs").into_inner();
        assert_eq!(&answer.stdout[..], b"args\0one\0two\0");

        let mut trap = exec(&id, &["trap"]);
        trap.code = Some(shim.code(guests::TRAP));
        let answer = shim.client.exec(trap).await.expect("runs").into_inner();
        assert_eq!(answer.exit.map(|exit| exit.code), Some(134));
        assert!(String::from_utf8_lossy(&answer.stderr).contains("unreachable"));
    });
}

#[test]
fn an_exec_over_its_time_leaves_no_thread() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let id = shim.run(&sandbox, guests::WAIT).await;
        for guest in [guests::SPIN, guests::WAIT] {
            let mut late = exec(&id, &["app"]);
            late.code = Some(shim.code(guest));
            late.timeout_ms = 20;
            let asked = Instant::now();
            let answer = shim.client.exec(late).await.expect("answers").into_inner();
            assert_eq!(answer.exit, None);
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
            let request =
                wire::StatsRequest { container_ids: vec![id.clone()], ..Default::default() };
            let stats = shim.client.stats(request).await.expect("tells").into_inner();
            assert_eq!(stats.containers[0].threads, 1, "the container's own");
        }
    });
}

#[test]
fn stopping_a_container_ends_its_execs() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let id = shim.run(&sandbox, guests::WAIT).await;
        let mut client = shim.client.clone();
        let endless = exec(&id, &["app"]);
        let waits = tokio::spawn(async move { client.exec(endless).await });
        let container = shim.registry.containers()[0].clone();
        while container.control.threads.count() < 2 {
            tokio::task::yield_now().await;
        }
        shim.stop(&id, 9, 0).await;
        let answer = waits.await.expect("ends well").expect("answers").into_inner();
        assert_eq!(answer.exit.map(|exit| exit.code), Some(137));
        assert_eq!(container.control.threads.count(), 0);
    });
}

#[test]
fn a_name_means_the_entry_module_a_file_or_what_could_be_run_instead() {
    with_shim(async |mut shim: Bench| {
        let sandbox = shim.sandbox().await;
        let wasm = wat::parse_str(guests::ARGUMENTS).expect("parses");
        let mut request = shim.request(&sandbox, guests::WAIT);
        let id = request.id.clone();
        let layer = request.root.as_ref().expect("a root").layers[0].clone();
        std::fs::create_dir_all(format!("{layer}/tools")).expect("a folder");
        std::fs::write(format!("{layer}/tools/args.wasm"), &wasm).expect("writes");
        std::fs::write(format!("{layer}/tools/fake.wasm"), "no wasm").expect("writes");
        std::os::unix::fs::symlink("/etc/passwd", format!("{layer}/tools/out")).expect("a link");
        request.env = vec!["PATH=/bin:/tools".to_owned()];
        shim.client.create_container(request).await.expect("creates");
        shim.start(&id).await.expect("starts");

        let ask = |program: &str, to: &str| wire::ResolveProgramRequest {
            container_id: id.clone(),
            program: program.to_owned(),
            copy_to: shim.file(to).display().to_string(),
        };
        let asked = [
            ask("app", "a"),
            ask("args", "b"),
            ask("/tools/args.wasm", "c"),
            ask("out", "d"),
            ask("fake.wasm", "e"),
            ask("ls", "f"),
        ];
        let mut found = Vec::new();
        for request in asked {
            let answer = shim.client.resolve_program(request).await.expect("answers");
            found.push(answer.into_inner().program.expect("something"));
        }
        assert_eq!(found[0], Program::Entrypoint(wire::Empty {}));
        for (at, copy) in [(1, "b"), (2, "c")] {
            let Program::File(file) = &found[at] else { panic!("{:?}", found[at]) };
            assert_eq!(file.path, "/tools/args.wasm");
            assert_eq!(std::fs::read(shim.file(copy)).expect("is copied"), wasm);
        }
        for nothing in &found[3..] {
            let Program::Nothing(list) = nothing else { panic!("{nothing:?}") };
            assert_eq!(list.paths, ["/app.wasm", "/tools/args.wasm"]);
        }
        assert!(!shim.file("d").exists());
    });
}
