//! A container's files: mounts of every sort, read-only ones, volumes as a kubelet makes them,
//! devices, and a guest that tries to get out.

use crate::support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{RenameFlags, renameat_with};
use rustix::mount::{MountFlags, UnmountFlags, mount as mount_fs, unmount};
use support::{Daemon, container, mount, mount_read_only, sandbox};
use wasmpod::proto::cri;

const KINDS: [&str; 2] = ["probe", "probe-p2"];

/// Runs the probe with these mounts and things to do; what it printed.
async fn probe(
    daemon: &Daemon,
    image: &str,
    mounts: Vec<cri::Mount>,
    things: &[&str],
) -> Vec<String> {
    let mut config = container("probe", image);
    config.mounts = mounts;
    config.args = things.iter().flat_map(|thing| thing.split(' ')).map(str::to_owned).collect();
    let pod = daemon.run_pod(sandbox("files")).await;
    let ran = pod.run(config).await;
    ran.exit().await;
    let text = ran.log().text("stdout");
    pod.remove().await;
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn files_and_folders_are_mounted_anywhere_nested_and_read_only() {
    let daemon = Daemon::start().await;
    let host = daemon.path().join("host");
    fs::create_dir_all(host.join("folder/below")).unwrap();
    fs::write(host.join("file"), "a file").unwrap();
    fs::write(host.join("folder/below/deep"), "deep").unwrap();
    for kind in KINDS {
        let image = daemon.import(kind).await;
        let mounts = vec![
            mount_read_only(&host.join("file"), "/var/lib/app/data/below/file"),
            mount(&host.join("folder"), "/var/lib/app/data"),
            mount_read_only(&host.join("folder"), "/ro"),
            mount(&host.join("file"), "/etc/app.conf"),
        ];
        let printed = probe(
            &daemon,
            &image,
            mounts,
            &[
                "read /var/lib/app/data/below/file --",
                "read /var/lib/app/data/below/deep --",
                "write /var/lib/app/data/new text --",
                "write /ro/new text --",
                "append /ro/below/deep text --",
                "unlink /ro/below/deep --",
                "mkdir /ro/folder --",
                "overwrite /var/lib/app/data/below/file text --",
                "rename /etc/app.conf /tmp/app.conf --",
                "rename /var/lib/app/data/new /tmp/new --",
                "overwrite /etc/app.conf changed",
            ],
        )
        .await;
        assert_eq!(
            printed,
            [
                "read /var/lib/app/data/below/file: ok a file",
                "read /var/lib/app/data/below/deep: ok deep",
                "write /var/lib/app/data/new: ok",
                "write /ro/new: ROFS",
                "append /ro/below/deep: ROFS",
                "unlink /ro/below/deep: ROFS",
                "mkdir /ro/folder: ROFS",
                "overwrite /var/lib/app/data/below/file: ROFS",
                "rename /etc/app.conf: BUSY",
                "rename /var/lib/app/data/new: XDEV",
                "overwrite /etc/app.conf: ok",
            ],
            "{kind}"
        );
        assert!(fs::read_to_string(host.join("file")).unwrap().starts_with("changed"));
        fs::write(host.join("file"), "a file").unwrap();
    }
}

#[tokio::test]
async fn a_read_only_root_answers_erofs_and_a_writable_one_vanishes() {
    let daemon = Daemon::start().await;
    for kind in KINDS {
        let image = daemon.import(kind).await;
        let pod = daemon.run_pod(sandbox("root")).await;
        let mut config = container("fixed", &image);
        config.linux = Some(cri::LinuxContainerConfig {
            security_context: Some(cri::LinuxContainerSecurityContext {
                readonly_rootfs: true,
                ..Default::default()
            }),
            ..Default::default()
        });
        config.args = ["write", "/file", "x", "--", "mkdir", "/tmp/x"].map(str::to_owned).to_vec();
        let fixed = pod.run(config).await;
        fixed.exit().await;
        assert_eq!(fixed.log().text("stdout"), "write /file: ROFS\nmkdir /tmp/x: ROFS\n", "{kind}");
        for attempt in ["first", "second"] {
            let printed = pod
                .output_of(attempt, &image, &["read", "/kept", "--", "write", "/kept", "x"])
                .await;
            assert_eq!(printed, "read /kept: NOENT\nwrite /kept: ok\n", "{kind}");
        }
    }
}

#[tokio::test]
async fn every_container_has_its_etc_tmp_and_devices() {
    let daemon = Daemon::start().await;
    for kind in KINDS {
        let image = daemon.import(kind).await;
        let printed = probe(
            &daemon,
            &image,
            Vec::new(),
            &[
                "read /etc/hostname --",
                "write /tmp/file x --",
                "read /dev/null --",
                "overwrite /dev/null x --",
                "head /dev/zero 4 --",
                "overwrite /dev/full x --",
                "overwrite /dev/stdout told --",
                "stat /etc/hosts --",
                "stat /etc/resolv.conf",
            ],
        )
        .await;
        assert_eq!(printed.first().unwrap(), "read /etc/hostname: ok files", "{kind}: {printed:?}");
        assert!(printed.contains(&"write /tmp/file: ok".to_owned()), "{printed:?}");
        assert!(printed.contains(&"read /dev/null: ok".to_owned()), "{printed:?}");
        assert!(printed.contains(&"overwrite /dev/null: ok".to_owned()), "{printed:?}");
        assert!(printed.contains(&"head /dev/zero: ok 00000000".to_owned()), "{printed:?}");
        // The C library of p2 guests knows no more of a failed stream than that it failed.
        let full = if kind == "probe" { "NOSPC" } else { "IO" };
        assert!(printed.contains(&format!("overwrite /dev/full: {full}")), "{printed:?}");
        assert!(printed.iter().any(|line| line.contains("told")), "{printed:?}");
        assert!(printed.last().unwrap().starts_with("stat /etc/resolv.conf: ok"), "{printed:?}");
    }
}

#[tokio::test]
async fn the_kubelets_own_hosts_file_wins() {
    let daemon = Daemon::start().await;
    let hosts = daemon.path().join("hosts");
    fs::write(&hosts, "10.0.0.1 kubelet").unwrap();
    let message = daemon.path().join("termination");
    fs::write(&message, "").unwrap();
    for kind in KINDS {
        let image = daemon.import(kind).await;
        let mounts = vec![mount(&hosts, "/etc/hosts"), mount(&message, "/dev/termination-log")];
        let printed = probe(
            &daemon,
            &image,
            mounts,
            &["read /etc/hosts -- overwrite /dev/termination-log bye"],
        )
        .await;
        assert_eq!(
            printed,
            ["read /etc/hosts: ok 10.0.0.1 kubelet", "overwrite /dev/termination-log: ok"]
        );
        assert_eq!(fs::read_to_string(&message).unwrap(), "bye");
    }
}

#[tokio::test]
async fn a_volume_swapped_by_the_kubelet_is_seen_at_the_next_open() {
    let daemon = Daemon::start().await;
    for kind in KINDS {
        let image = daemon.import(kind).await;
        let volume = daemon.path().join(format!("volume-{kind}"));
        let version = |name: &str, text: &str| {
            fs::create_dir_all(volume.join(name)).unwrap();
            fs::write(volume.join(name).join("key"), text).unwrap();
            symlink(name, volume.join("..data_tmp")).unwrap();
            fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        };
        version("..1", "one");
        symlink("..data/key", volume.join("key")).unwrap();
        let pod = daemon.run_pod(sandbox("volume")).await;
        let mut config = container("watch", &image);
        config.mounts =
            vec![mount_read_only(&volume, "/config"), mount(&volume.join("key"), "/sub/key")];
        config.args = ["watch", "/config/key", "three"].map(str::to_owned).to_vec();
        let watch = pod.run(config).await;
        for (name, text) in [("..2", "two"), ("..3", "three")] {
            watch.says(if text == "two" { "one" } else { "two" }).await;
            version(name, text);
        }
        assert_eq!(watch.exit().await.exit_code, 0);
        assert!(watch.log().contains("three"), "{kind}");
    }
}

#[tokio::test]
async fn a_guest_reaches_nothing_outside_its_root() {
    let daemon = Daemon::start().await;
    let secret = daemon.path().join("secret");
    fs::write(&secret, "the host's secret").unwrap();
    let volume = daemon.path().join("volume");
    fs::create_dir(&volume).unwrap();
    symlink(&secret, volume.join("absolute")).unwrap();
    symlink("../../../../../../../..", volume.join("up")).unwrap();
    let ways = [
        secret.display().to_string(),
        format!("/../../../../..{}", secret.display()),
        "/volume/absolute".to_owned(),
        format!("/volume/up{}", secret.display()),
        format!("/volume/../../..{}", secret.display()),
        "/proc/self/root".to_owned(),
        "/dev/fd/0".to_owned(),
    ];
    for kind in KINDS {
        let image = daemon.import(kind).await;
        let things: Vec<String> = ways.iter().map(|way| format!("read {way} --")).collect();
        let things: Vec<&str> = things.iter().map(String::as_str).collect();
        let printed = probe(&daemon, &image, vec![mount(&volume, "/volume")], &things).await;
        for line in printed.iter().filter(|line| line.starts_with("read")) {
            assert!(!line.contains("secret") || !line.contains(": ok"), "{kind}: {line}");
            assert!(!line.contains(": ok"), "{kind}: {line}");
        }
        // A link of the guest's own making that is absolute stays inside as well.
        let printed = probe(
            &daemon,
            &image,
            Vec::new(),
            &[
                "symlink /etc/hostname /tmp/inside -- read /tmp/inside --",
                "symlink ../../../../etc/hostname /tmp/far -- read /tmp/far",
            ],
        )
        .await;
        assert_eq!(printed[1], "read /tmp/inside: ok files", "{kind}");
        assert_eq!(printed[3], "read /tmp/far: ok files", "{kind}");
    }
}

#[tokio::test]
async fn swapping_a_folder_for_a_link_at_the_right_moment_gets_nothing_out() {
    let daemon = Daemon::start().await;
    let outside = daemon.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "SECRET").unwrap();
    for kind in KINDS {
        let image = daemon.import(kind).await;
        let volume = daemon.path().join(format!("race-{kind}"));
        fs::create_dir_all(volume.join("folder")).unwrap();
        fs::write(volume.join("folder/file"), "plain").unwrap();
        symlink(&outside, volume.join("link")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let swapper = {
            let (stop, volume) = (stop.clone(), fs::File::open(&volume).unwrap());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(&volume, "folder", &volume, "link", RenameFlags::EXCHANGE)
                        .unwrap();
                }
            })
        };
        let printed = probe(
            &daemon,
            &image,
            vec![mount(&volume, "/volume")],
            &["race /volume/folder/file 20000 SECRET"],
        )
        .await;
        stop.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
        assert!(printed[0].ends_with(" marked 0"), "{kind}: {printed:?}");
    }
}

#[tokio::test]
async fn pipes_sockets_and_devices_on_a_mount_never_block() {
    let daemon = Daemon::start().await;
    let odd = daemon.path().join("odd");
    fs::create_dir(&odd).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        odd.join("pipe"),
        rustix::fs::FileType::Fifo,
        0o666.into(),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(odd.join("socket")).unwrap();
    if support::root_for("making a device") {
        let zero = rustix::fs::makedev(1, 5);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            odd.join("device"),
            rustix::fs::FileType::CharacterDevice,
            0o666.into(),
            zero,
        )
        .unwrap();
    }
    for kind in KINDS {
        let image = daemon.import(kind).await;
        for name in ["pipe", "socket", "device"] {
            let things = [
                format!("read /odd/{name} --"),
                format!("overwrite /odd/{name} x --"),
                "say done".to_owned(),
            ];
            let things: Vec<&str> = things.iter().map(String::as_str).collect();
            let printed = probe(&daemon, &image, vec![mount(&odd, "/odd")], &things).await;
            assert_eq!(printed.len(), 3, "{kind} {name}: {printed:?}");
            assert!(
                printed.iter().all(|line| !line.contains(": ok")),
                "{kind} {name}: {printed:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_volume_can_be_unmounted_right_after_the_stop() {
    if !support::root_for("mounting a volume") {
        return;
    }
    let daemon = Daemon::start().await;
    for kind in KINDS {
        let image = daemon.import(kind).await;
        let volume = daemon.path().join(format!("tmpfs-{kind}"));
        fs::create_dir(&volume).unwrap();
        for stop in ["container", "sandbox"] {
            mount_fs("test", &volume, "tmpfs", MountFlags::empty(), None).unwrap();
            fs::write(volume.join("file"), "x").unwrap();
            let pod = daemon.run_pod(sandbox("volume")).await;
            let mut config = container("holder", &image);
            config.mounts = vec![mount(&volume, "/volume")];
            config.args = ["hold", "/volume/file", "--", "say", "held", "--", "idle"]
                .map(str::to_owned)
                .to_vec();
            let holder = pod.run(config).await;
            holder.says("held").await;
            if stop == "container" {
                holder.stop(0).await
            } else {
                pod.stop().await
            }
            unmount(&volume, UnmountFlags::empty())
                .unwrap_or_else(|errno| panic!("{kind}, {stop} stopped: {errno}"));
            assert_not_mounted(&daemon, &volume);
        }
    }
}

/// The daemon's shims have nothing mounted at `path` any more.
fn assert_not_mounted(daemon: &Daemon, path: &Path) {
    for shim in daemon.shims() {
        let table = fs::read_to_string(format!("/proc/{shim}/mountinfo")).unwrap_or_default();
        assert!(!table.contains(&path.display().to_string()), "{table}");
    }
}

#[tokio::test]
async fn volumes_mounted_later_appear_where_propagation_says_so() {
    if !support::root_for("mounting a volume") {
        return;
    }
    let daemon = Daemon::start().await;
    let image = daemon.import("probe").await;
    let volume = daemon.path().join("volume");
    fs::create_dir_all(volume.join("later")).unwrap();
    mount_fs("test", &volume, "tmpfs", MountFlags::empty(), None).unwrap();
    rustix::mount::mount_change(&volume, rustix::mount::MountPropagationFlags::SHARED).unwrap();
    fs::create_dir_all(volume.join("later")).unwrap();
    let pod = daemon.run_pod(sandbox("later")).await;
    let mut config = container("waits", &image);
    let mut follows = mount(&volume, "/volume");
    follows.set_propagation(cri::MountPropagation::PropagationHostToContainer);
    config.mounts = vec![follows];
    config.args = ["say", "here", "--", "await", "/volume/later/file", "--", "say", "seen"]
        .map(str::to_owned)
        .to_vec();
    let waits = pod.run(config).await;
    waits.says("here").await;
    mount_fs("test", volume.join("later"), "tmpfs", MountFlags::empty(), None).unwrap();
    fs::write(volume.join("later/file"), "x").unwrap();
    waits.says("seen").await;
    pod.remove().await;
    unmount(volume.join("later"), UnmountFlags::empty()).unwrap();
    unmount(&volume, UnmountFlags::empty()).unwrap();
}
