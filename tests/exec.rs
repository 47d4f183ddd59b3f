//! ExecSync: what argv[0] means, what comes back, and that nothing stays.

use crate::support;

use support::{Container, Daemon, container, env, guest, mount, sandbox};

async fn idle(daemon: &Daemon, image: &str) -> Container {
    let pod = daemon.run_pod(sandbox("exec")).await;
    let tools = daemon.path().join("tools");
    std::fs::create_dir_all(&tools).unwrap();
    std::fs::copy(guest("hello"), tools.join("greet.wasm")).unwrap();
    std::fs::write(tools.join("notes.txt"), "not a program").unwrap();
    let mut config = container("main", image);
    config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
    config.envs = vec![env("PATH", "/nowhere:/tools"), env("GREETING_FOR", "exec")];
    config.mounts = vec![mount(&tools, "/tools")];
    config.working_dir = "/tmp".to_owned();
    let container = pod.run(config).await;
    container.says("here").await;
    container
}

#[tokio::test]
async fn the_entrypoints_name_runs_it_anew_in_the_same_root() {
    let daemon = Daemon::start().await;
    for name in ["probe", "probe-p2"] {
        let image = daemon.import(name).await;
        let main = idle(&daemon, &image).await;
        let ran = main
            .exec(&[name, "write", "/tmp/made", "text", "--", "say-stderr", "told"], 0)
            .await
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "write /tmp/made: ok\n");
        assert_eq!(String::from_utf8_lossy(&ran.stderr), "told\n");
        let file = format!("{name}.wasm");
        let ran = main.exec(&[&file, "read", "made"], 0).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "read made: ok text\n", "{name}");
        let failed = main.exec(&[name, "exit", "1"], 0).await.unwrap();
        assert_eq!(failed.exit_code, 1);
    }
}

#[tokio::test]
async fn a_wasm_file_is_found_by_path_and_through_path() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    for program in ["/tools/greet.wasm", "greet", "greet.wasm"] {
        let ran = main.exec(&[program], 0).await.unwrap();
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(text.starts_with("hello, exec"), "{program}: {text}");
    }
}

#[tokio::test]
async fn what_is_not_there_lists_what_could_be_run() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    for program in ["sh", "/bin/sh", "notes.txt", "/tools/notes.txt", "/tools"] {
        let error = main.exec(&[program, "-c", "true"], 0).await.unwrap_err();
        assert_eq!(error.message().lines().count(), 1, "{error}");
        assert!(error.message().contains("probe"), "{program:?}: {}", error.message());
        assert!(error.message().contains("greet"), "{program:?}: {}", error.message());
    }
    assert_eq!(main.exec(&[""], 0).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    assert_eq!(main.exec(&[], 0).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn only_what_can_be_run_is_offered_and_a_fault_names_the_containers_file() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let tools = daemon.path().join("tools");
    std::fs::create_dir(tools.join("folder.wasm")).unwrap();
    std::os::unix::fs::symlink("nothing", tools.join("dangling.wasm")).unwrap();
    std::os::unix::fs::symlink("greet.wasm", tools.join("link.wasm")).unwrap();
    std::fs::write(tools.join("text.wasm"), "no program").unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let fifo = tools.join("fifo.wasm");
    rustix::fs::mknodat(rustix::fs::CWD, fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let error = main.exec(&["sh"], 0).await.unwrap_err();
    let offered = error.message().rsplit_once("it can run ").unwrap().1;
    assert_eq!(offered, "/probe.wasm, /tools/greet.wasm, /tools/link.wasm");

    let whole = std::fs::read(guest("hello")).unwrap();
    std::fs::write(tools.join("cut.wasm"), &whole[..whole.len() / 2]).unwrap();
    let error = main.exec(&["cut"], 0).await.unwrap_err();
    let expected = "/tools/cut.wasm in the container: it is truncated";
    assert!(error.message().starts_with(expected), "{}", error.message());
}

#[tokio::test]
async fn machine_code_of_a_containers_own_programs_goes_with_it() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let code = || {
        let engines = std::fs::read_dir(daemon.path().join("root/code")).unwrap();
        let files = engines.flat_map(|engine| std::fs::read_dir(engine.unwrap().path()).unwrap());
        files.filter(|file| file.as_ref().unwrap().path().extension().unwrap() == "cwasm").count()
    };
    assert_eq!(code(), 1);
    for _ in 0..2 {
        main.exec(&["greet"], 0).await.unwrap();
        assert_eq!(code(), 2);
    }
    main.stop(0).await;
    main.remove().await;
    assert_eq!(code(), 1);
}

#[tokio::test]
async fn a_timeout_is_deadline_exceeded_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let threads = || {
        let shim = daemon.shims()[0];
        std::fs::read_dir(format!("/proc/{shim}/task")).unwrap().count()
    };
    main.exec(&["probe", "exit", "0"], 0).await.unwrap();
    let before = support::eventually("the first exec's thread is gone", || {
        let now = threads();
        (now <= threads()).then_some(now)
    })
    .await;
    for what in ["spin", "idle"] {
        let error = main.exec(&["probe", what], 1).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{what}: {error}");
    }
    support::eventually("the execs' threads are gone", || (threads() <= before).then_some(()))
        .await;
    assert_eq!(main.exec(&["probe", "exit", "0"], 0).await.unwrap().exit_code, 0);
}

#[tokio::test]
async fn only_running_containers_take_an_exec() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let main = idle(&daemon, &image).await;
    let spinning = {
        let main = main.clone();
        tokio::spawn(async move { main.exec(&["probe", "say", "begun", "--", "spin"], 0).await })
    };
    main.stop(0).await;
    let ended = spinning.await.unwrap();
    assert!(ended.is_err() || ended.is_ok_and(|ran| ran.exit_code == 137));
    let error = main.exec(&["probe", "exit", "0"], 0).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
}
