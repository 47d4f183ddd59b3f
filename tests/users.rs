//! Containers of other users than root: whose files they open and make, and who they are told to
//! be.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tonic::Code;
use wasmpod::proto::cri;

use crate::support::{self, Daemon, container, mount, root_for, sandbox};

const KINDS: [&str; 2] = ["probe", "probe-p2"];

fn number(value: i64) -> Option<cri::Int64Value> {
    Some(cri::Int64Value { value })
}

fn with(
    mut config: cri::ContainerConfig,
    context: cri::LinuxContainerSecurityContext,
) -> cri::ContainerConfig {
    let linux = config.linux.take().unwrap_or_default();
    config.linux = Some(cri::LinuxContainerConfig { security_context: Some(context), ..linux });
    config
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn files_are_opened_and_made_with_the_container_s_ids() {
    if !root_for("other users") {
        return;
    }
    let daemon = Daemon::start().await;
    let host = daemon.path().join("host");
    for kind in KINDS {
        let image = daemon.import(kind).await;
        let volume = host.join(kind);
        fs::create_dir_all(volume.join("group")).unwrap();
        let rights = |path: &str, mode: u32| {
            fs::set_permissions(volume.join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        rights("", 0o777);
        fs::write(volume.join("secret"), "secret").unwrap();
        rights("secret", 0o600);
        // Open to the supplemental group alone.
        std::os::unix::fs::chown(volume.join("group"), None, Some(3000)).unwrap();
        rights("group", 0o070);
        let mut config = container("main", &image);
        config.mounts = vec![mount(&volume, "/data")];
        config.args = words(
            "write /data/new text -- read /data/secret -- write /data/group/new text -- \
             write /etc/new text -- write /dev/null text -- write /tmp/new text -- say settled -- idle",
        );
        config.working_dir = "/made/for/me".to_owned();
        let config = with(
            config,
            cri::LinuxContainerSecurityContext {
                run_as_user: number(1000),
                run_as_group: number(2000),
                supplemental_groups: vec![3000],
                ..Default::default()
            },
        );
        let pod = daemon.run_pod(sandbox("users")).await;
        let running = pod.run(config).await;
        let printed = running.says("settled").await.text("stdout");
        assert_eq!(
            printed.lines().collect::<Vec<_>>(),
            [
                "write /data/new: ok",
                "read /data/secret: ACCES",
                "write /data/group/new: ok",
                "write /etc/new: ACCES",
                "write /dev/null: ok",
                "write /tmp/new: ok",
                "settled"
            ]
        );
        let owner = |path: &str| {
            let found = fs::metadata(volume.join(path)).unwrap();
            (found.uid(), found.gid())
        };
        assert_eq!(owner("new"), (1000, 2000));
        assert_eq!(owner("group/new"), (1000, 2000));
        // The log is the shim's.
        assert_eq!(fs::metadata(running.log_path()).unwrap().uid(), 0);
        let user = running.status().await.unwrap().user.unwrap().linux.unwrap();
        assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 2000, vec![2000, 3000]));
        let things: Vec<String> = [format!("{kind}.wasm")]
            .into_iter()
            .chain(words("write /data/exec text -- read /data/secret"))
            .collect();
        let things: Vec<&str> = things.iter().map(String::as_str).collect();
        let ran = running.exec(&things, 20).await.unwrap();
        let told = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(told, "write /data/exec: ok\nread /data/secret: ACCES\n");
        assert_eq!(owner("exec"), (1000, 2000));
        // What root alone may take down goes all the same.
        running.stop(0).await;
        pod.remove().await;
    }
}

#[tokio::test]
async fn what_makes_no_user_is_refused_by_name() {
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let pod = daemon.run_pod(sandbox("users")).await;
    type Context = cri::LinuxContainerSecurityContext;
    for (context, says) in [
        (
            Context { run_as_group: number(7), ..Default::default() },
            "run_as_group = 7 is given without run_as_user",
        ),
        (Context { run_as_user: number(-1), ..Default::default() }, "run_as_user = -1 is no id"),
        (
            Context { run_as_username: "nobody-there".to_owned(), ..Default::default() },
            "the image's /etc/passwd has no user \"nobody-there\"",
        ),
    ] {
        let refused = pod.try_create(with(container("main", &image), context)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(says), "{refused:?}");
    }
    // Without root there is nobody but root.
    if !rustix::process::geteuid().is_root() {
        let context = Context { run_as_user: number(7), ..Default::default() };
        let refused = pod.try_create(with(container("main", &image), context)).await.unwrap_err();
        assert!(refused.message().contains("does not run as root"), "{refused:?}");
    }
    let ran = pod.run(with(container("main", &image), Context::default())).await;
    let user = ran.status().await.unwrap().user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (0, 0, vec![0]));
}

#[tokio::test]
async fn a_service_s_threads_are_its_user_s() {
    if !root_for("other users") {
        return;
    }
    let daemon = Daemon::start().await;
    let image = daemon.import("web").await;
    let port = support::Port::new();
    let mut sandbox = sandbox("users");
    let context = sandbox.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options = Some(support::host_network());
    sandbox.annotations = [("wasmpod.dev/http".to_owned(), port.number.to_string())].into();
    let pod = daemon.run_pod(sandbox).await;
    let context =
        cri::LinuxContainerSecurityContext { run_as_user: number(1000), ..Default::default() };
    let web = pod.run(with(container("web", &image), context)).await;
    let clients: Vec<_> =
        (0..8).map(|_| std::net::TcpStream::connect(port.at()).unwrap()).collect();
    let uids = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.shims()[0])).unwrap();
        let mut uids: Vec<String> = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
            .filter(|status| status.starts_with("Name:\th-") || status.starts_with("Name:\tc-"))
            .filter_map(|status| {
                let line = status.lines().find_map(|line| line.strip_prefix("Uid:\t"))?.to_owned();
                line.split('\t').nth(1).map(str::to_owned)
            })
            .collect();
        uids.sort();
        uids
    };
    let wanted = std::thread::available_parallelism().unwrap().get().min(4);
    support::eventually("all threads are there", || (uids().len() == wanted).then_some(())).await;
    assert_eq!(uids(), vec!["1000"; wanted]);
    drop(clients);
    web.stop(20).await;
    pod.remove().await;
}

#[tokio::test]
async fn masked_paths_are_empty_and_read_only_ones_are() {
    let daemon = Daemon::start().await;
    let host = daemon.path().join("host");
    fs::create_dir_all(host.join("secrets")).unwrap();
    fs::write(host.join("secrets/key"), "secret").unwrap();
    fs::write(host.join("conf"), "secret").unwrap();
    for kind in KINDS {
        let image = daemon.import(kind).await;
        let pod = daemon.run_pod(sandbox("covered")).await;
        let mut config = container("main", &image);
        config.mounts = vec![mount(&host, "/data")];
        config.args = words(
            "ls /data/secrets -- write /data/secrets/new x -- read /data/conf -- \
             write /tmp/new x -- write /data/new x",
        );
        let text = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let context = cri::LinuxContainerSecurityContext {
            masked_paths: text(&["/data/secrets", "/data/conf", "/proc/kcore"]),
            readonly_paths: text(&["/tmp", "/proc/sys"]),
            ..Default::default()
        };
        let ran = pod.run(with(config, context)).await;
        ran.exit().await;
        let printed = ran.log().text("stdout");
        assert_eq!(
            printed.lines().collect::<Vec<_>>(),
            [
                "ls /data/secrets: ok",
                "write /data/secrets/new: ROFS",
                "read /data/conf: ok",
                "write /tmp/new: ROFS",
                "write /data/new: ok",
            ]
        );
        assert_eq!(fs::read(host.join("conf")).unwrap(), b"secret");
        pod.remove().await;
    }
}
