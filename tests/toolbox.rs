//! The toolbox in real containers: by exec beside another program, and as an image of its own.

use crate::support;

use support::{Container, Daemon, container, env, guest, mount, sandbox};

/// A container whose image is one module, on a daemon with the toolbox.
async fn beside(daemon: &Daemon, configure: impl FnOnce(&mut cri::ContainerConfig)) -> Container {
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("toolbox")).await;
    let mut config = container("main", &image);
    config.args = ["say", "here", "--", "idle"].map(str::to_owned).to_vec();
    config.envs = vec![env("HOME", "/root"), env("GREETING", "hello there")];
    configure(&mut config);
    let main = pod.run(config).await;
    main.says("here").await;
    main
}

use wasmpod::proto::cri;

async fn with_toolbox() -> Daemon {
    Daemon::start_with(&format!("[exec]\ntoolbox = {:?}\n", guest("toolbox"))).await
}

/// Exit code, standard output, standard error.
async fn run(main: &Container, argv: &[&str]) -> (i32, String, String) {
    let ran = main.exec(argv, 60).await.unwrap_or_else(|error| panic!("{argv:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ran.exit_code, text(&ran.stdout), text(&ran.stderr))
}

async fn gives(main: &Container, argv: &[&str], expected: &str) {
    let (code, out, err) = run(main, argv).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""), "{argv:?}");
}

async fn shell(main: &Container, script: &str, expected: &str) {
    gives(main, &["sh", "-c", script], expected).await;
}

#[tokio::test]
async fn exec_finds_its_programs_after_the_containers_own() {
    let daemon = with_toolbox().await;
    let tools = daemon.path().join("tools");
    std::fs::create_dir_all(&tools).unwrap();
    std::fs::copy(guest("hello"), tools.join("hostname.wasm")).unwrap();
    let main = beside(&daemon, |config| {
        config.mounts = vec![mount(&tools, "/tools")];
        config.envs.push(env("PATH", "/tools:/bin"));
        config.working_dir = "/tmp".to_owned();
    })
    .await;
    gives(&main, &["echo", "-n", "hello"], "hello").await;
    gives(&main, &["/bin/sh", "-c", "echo $0 $GREETING; pwd"], "/bin/sh hello there\n/tmp\n").await;
    gives(&main, &["true"], "").await;
    assert_eq!(run(&main, &["false"]).await.0, 1);
    // The container's own goes first.
    let (_, out, _) = run(&main, &["hostname"]).await;
    assert!(out.starts_with("hello"), "{out}");
    let error = main.exec(&["nosuch"], 0).await.unwrap_err();
    assert!(error.message().contains("no program \"nosuch\""), "{error}");
    let error = main.exec(&["/tools/ls"], 0).await.unwrap_err();
    assert!(error.message().contains("no program \"/tools/ls\""), "{error}");
}

#[tokio::test]
async fn without_it_exec_says_what_there_is() {
    let daemon = Daemon::start_with("[exec]\ntoolbox = \"\"\n").await;
    let main = beside(&daemon, |_| {}).await;
    let error = main.exec(&["sh"], 0).await.unwrap_err();
    assert!(error.message().contains("it can run /probe.wasm"), "{error}");
}

#[tokio::test]
async fn the_shell_and_the_tools_do_what_people_type() {
    let daemon = with_toolbox().await;
    let shared = daemon.path().join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    std::fs::write(shared.join("frozen"), "ice").unwrap();
    let main = beside(&daemon, |config| {
        let mut frozen = mount(&shared, "/frozen");
        frozen.readonly = true;
        config.mounts = vec![frozen];
    })
    .await;
    for (script, expected) in [
        ("echo a b | tr a-z A-Z | sed 's/ /-/'", "A-B\n"),
        ("echo $(id -u >/dev/null 2>&1; echo in) `echo back`", "in back\n"),
        ("touch test.go && [ -f test.go ] && echo 'Found'", "Found\n"),
        ("for i in 1 2 3; do echo -n $i; done; echo", "123\n"),
        ("i=0; while [ $i -lt 3 ]; do i=$((i+1)); done; echo $i", "3\n"),
        ("f() { echo \"$1-$#\"; return 3; }; f 'a b' c || echo $?", "a b-2\n3\n"),
        ("cd /tmp && echo one > f && echo two >> f && cat < f && wc -l < f", "one\ntwo\n2\n"),
        ("cat <<E\n$((6*7)) ${X:-unset}\nE", "42 unset\n"),
        ("cat <<E\na\\\nE\nb\nE", "aE\nb\n"),
        ("touch /frozen/x 2>&1 | grep -q \"Read-only file system\" && echo told", "told\n"),
        ("cat /nothing 2>&1 || true", "cat: /nothing: No such file or directory\n"),
        ("nosuch 2>/dev/null; echo $?; /frozen 2>/dev/null; echo $?", "127\n126\n"),
        ("ls /bin 2>&1 || true", "ls: /bin: No such file or directory\n"),
        ("ls /frozen; ls -A /frozen/frozen", "frozen\n/frozen/frozen\n"),
        ("cd /tmp; ls / | grep -c probe.wasm", "1\n"),
        ("seq 5 | sort -rn | head -2 | xargs echo", "5 4\n"),
        (
            "mkdir -p /tmp/d/e && cp /frozen/frozen /tmp/d/e && find /tmp/d -type f",
            "/tmp/d/e/frozen\n",
        ),
        ("mv /tmp/d/e/frozen /tmp/d/m && ln -s m /tmp/d/l && cat /tmp/d/l && rm -r /tmp/d", "ice"),
        ("printf '%s:%02d\\n' a 7; date -d @0 +%F; expr 2 + 3", "a:07\n1970-01-01\n5\n"),
        (
            "echo hello | sha256sum | cut -c1-8; echo hi | base64; echo aGk= | base64 -d",
            "5891b5b5\naGkK\nhi",
        ),
        ("dd if=/dev/zero of=/dev/null bs=1M count=3 2>&1 | head -1", "3+0 records in\n"),
        ("yes 2>/dev/null | head -1", "y\n"),
        ("trap 'echo bye' EXIT; set -e; false; echo never", ""),
        (
            "cd /tmp; mkdir -p s/t; echo deep > s/t/f; ln -s t/f s/l; dd if=/dev/zero of=s/z bs=1k count=300 \
             2>/dev/null; tar cf - s | tar xmf - -C /tmp/home 2>&1; mkdir -p home; tar cf - s/t s/l s/z | \
             tar xmf - -C /tmp/home && cat home/s/l && tar cf - -C home s | tar tf -",
            "tar: can't change directory to '/tmp/home': No such file or directory\ndeep\ns/\ns/l\ns/t/\ns/t/f\ns/z\n",
        ),
        ("exec echo gone; echo never", "gone\n"),
        ("cat /etc/resolv.conf > /dev/null && hostname", "toolbox-host\n"),
        ("env | grep GREETING; which cat", "GREETING=hello there\ncat\n"),
    ] {
        let (code, out, err) = run(&main, &["sh", "-c", script]).await;
        if script.starts_with("trap") {
            assert_eq!((code, out.as_str()), (1, "bye\n"), "{script}: {err}");
        } else if script.contains("hostname") {
            assert_eq!(code, 0, "{err}");
        } else {
            assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""), "{script}");
        }
    }
    assert_eq!(run(&main, &["sh", "-c", "exit 42"]).await.0, 42);
    let (code, _, err) = run(&main, &["sh", "-c", "if"]).await;
    assert_eq!((code, err.as_str()), (2, "sh: unexpected end of file\n"));
    // What nests is refused in words, far before the stack ends.
    let (code, _, err) = run(&main, &["sh", "-c", "f() { f; }; f"]).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("nested deeper"), "{err}");
    for (open, within, close, levels) in [
        ("{ ", "echo x", "; }", 150),
        ("if ", "echo x", "; then :; fi", 150),
        ("echo $(", "echo x", ")", 40),
        ("(", "echo x", ")", 150),
    ] {
        let deep = format!("{}{within}{}", open.repeat(levels), close.repeat(levels));
        gives(&main, &["sh", "-c", &deep], "x\n").await;
    }
    let (code, _, err) = run(&main, &["sh", "-c", "f() { echo $(f | cat); }; f"]).await;
    assert!(code == 0 && err.contains("nested deeper"), "{code} {err}");
    // A timeout ends it like any program.
    let error = main.exec(&["sleep", "4321"], 1).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
}

#[tokio::test]
async fn as_an_image_it_is_a_containers_main_program() {
    let daemon = with_toolbox().await;
    let file = daemon.path().join("toolbox.tar");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/toolbox-image.sh");
    let hello = format!("/opt/hello.wasm={}", guest("hello").display());
    let made =
        std::process::Command::new(script).arg(&file).args(["WHO=image", &hello]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let image = daemon.import_file(&file, "toolbox").await;
    let pod = daemon.run_pod(sandbox("image")).await;
    let run_main = async |name: &str, command: &[&str]| {
        let mut config = container(name, &image);
        config.command = command.iter().map(|word| (*word).to_owned()).collect();
        pod.run(config).await
    };
    for (number, command) in [
        vec!["sh", "-c", "echo $WHO; sleep 4321"],
        vec!["/bin/sh", "-c", "echo $WHO; sleep infinity"],
        vec!["busybox", "sh", "-c", "echo $WHO; while true; do sleep 1; done"],
    ]
    .into_iter()
    .enumerate()
    {
        let main = run_main(&format!("main-{number}"), &command).await;
        main.says("image").await;
    }
    let main = run_main("top", &["top"]).await;
    main.says("COMMAND").await;
    let (_, out, _) = run(&main, &["ls", "/bin"]).await;
    for name in ["sh", "[", "toolbox.wasm", "top"] {
        assert!(out.lines().any(|line| line == name), "{name}: {out}");
    }
    shell(
        &main,
        "ls /bin/sh && /bin/ls /etc",
        "/bin/sh\ngroup\nhostname\nhosts\npasswd\nresolv.conf\n",
    )
    .await;
    // A program of the image, as a process with pipes.
    let script = "cd /tmp; GREETING_FOR=x /opt/hello.wasm | tr a-z A-Z > f; head -1 f | cut -c1-5; \
                  PATH=/opt:/bin; hello > g && head -1 g | cut -c1-5; cp /opt/hello.wasm own; ./own | wc -l";
    shell(&main, script, "HELLO\nhello\n2\n").await;
    let (code, _, err) = run(&main, &["sh", "-c", "printf '\\0asm' > /tmp/x; /tmp/x"]).await;
    assert_eq!(code, 126);
    assert!(err.contains("none of the image's programs"), "{err}");
    let main = run_main("echo", &["echo", "hello World"]).await;
    main.exit().await;
    assert_eq!(main.log().text("stdout"), "hello World\n");
}

#[tokio::test]
async fn programs_run_side_by_side_as_processes_of_the_pod() {
    let daemon = with_toolbox().await;
    let main = beside(&daemon, |_| {}).await;
    for (script, expected) in [
        // Stages that wait for each other, and an end that is heard of.
        ("yes | head -1", "y\n"),
        ("while true; do echo again; done | head -2", "again\nagain\n"),
        ("seq 100000 | tail -1", "100000\n"),
        ("dd if=/dev/zero bs=1M count=20 2>/dev/null | wc -c", "20971520\n"),
        ("f() { echo \"$x-$1\"; }; x=own; f a | cat", "own-a\n"),
        ("set -- 'a b' c; for w in \"$@\"; do echo $w; done | sed 's/^/>/'", ">a b\n>c\n"),
        ("cat <<E | tr a-z A-Z\n$((1+1)) low\nE", "2 LOW\n"),
        ("x=$(echo in | cat); echo $x", "in\n"),
        ("{ echo out | cat; echo err | cat >&2; } 2>/dev/null", "out\n"),
        ("{ { echo one; echo two >&2; } | cat; } 2>/tmp/e; cat /tmp/e", "one\ntwo\n"),
        ("set -o pipefail; (exit 3) | cat; echo $?", "3\n"),
        ("sleep 0.2 & wait $!; echo $?", "0\n"),
        ("echo early > /tmp/f & wait; cat /tmp/f", "early\n"),
        ("sleep 100 & kill $!; wait $!; echo $?", "137\n"),
    ] {
        shell(&main, script, expected).await;
    }
    // What is started ends with who started it.
    let script = "sleep 4321 & sleep 4322 | cat & until [ $(pgrep sleep | wc -l) = 2 ]; do \
                  :; done; echo both";
    shell(&main, script, "both\n").await;
    support::eventually_async("the processes are gone", || async {
        let (_, out, _) = run(&main, &["sh", "-c", "pgrep -f sleep.4321 || true"]).await;
        out.is_empty().then_some(())
    })
    .await;
    let (_, out, _) = run(&main, &["ps"]).await;
    assert!(out.lines().any(|line| line.contains("idle")), "{out}");
    assert!(out.lines().any(|line| line.ends_with(" ps")), "{out}");
    let (code, _, err) = run(&main, &["sh", "-c", "for i in $(seq 70); do sleep 900 & done"]).await;
    assert!(err.contains("may have 64 processes at once"), "{code} {err}");
}

#[tokio::test]
async fn without_processes_stages_run_one_after_the_other() {
    let configuration =
        format!("[exec]\ntoolbox = {:?}\n[guests]\nprocesses = \"deny\"\n", guest("toolbox"));
    let daemon = Daemon::start_with(&configuration).await;
    let main = beside(&daemon, |_| {}).await;
    shell(&main, "seq 5 | sort -rn | head -2", "5\n4\n").await;
    let (code, out, err) = run(&main, &["sh", "-c", "yes | head -1"]).await;
    assert_eq!((code, out.as_str()), (0, "y\n"));
    assert!(err.contains("the pipe holds 8 MiB"), "{err}");
    let (_, _, err) = run(&main, &["sh", "-c", "sleep 1 &"]).await;
    assert_eq!(err, "sh: &: processes are not allowed here\n");
    assert_eq!(run(&main, &["ps"]).await.0, 1);
}

#[tokio::test]
async fn id_tells_whom_the_container_runs_as_and_so_do_its_processes() {
    if !support::root_for("containers of other users") {
        return;
    }
    let daemon = with_toolbox().await;
    let main = beside(&daemon, |config| {
        config.linux = Some(cri::LinuxContainerConfig {
            security_context: Some(cri::LinuxContainerSecurityContext {
                run_as_user: Some(cri::Int64Value { value: 1000 }),
                run_as_group: Some(cri::Int64Value { value: 2000 }),
                supplemental_groups: vec![3000],
                ..Default::default()
            }),
            ..Default::default()
        });
    })
    .await;
    gives(&main, &["id", "-u"], "1000\n").await;
    gives(&main, &["id", "-G"], "2000 3000\n").await;
    shell(&main, "echo $(id -u):$(id -g)", "1000:2000\n").await;
    // A process has the same user, and no more rights than that one.
    shell(&main, "id -u | cat; { touch /tmp/own & wait; } ; ls /tmp/own", "1000\n/tmp/own\n").await;
    let (code, _, err) = run(&main, &["sh", "-c", "sh -c 'touch /etc/not' 2>&1 | cat >&2"]).await;
    assert_eq!((code, err.as_str()), (0, "touch: /etc/not: Permission denied\n"));
}
