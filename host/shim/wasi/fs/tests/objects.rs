//! What open gives and what can be done with it.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, mknodat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use super::super::{Device, Follow, Kind, SetTime, SetTimes, Timestamp};
use super::*;

fn file(node: Node) -> File {
    match node {
        Node::File(file) => file,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_files_folders_and_devices_of_ours_are_opened_and_at_once() {
    let house = House::new();
    mknodat(CWD, house.inside("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _listener = UnixListener::bind(house.inside("socket")).unwrap();
    let mut names = vec!["fifo", "socket"];
    // An ordinary user cannot make one.
    let device = FileType::CharacterDevice;
    if mknodat(CWD, house.inside("null"), device, Mode::RUSR, 0x103).is_ok() {
        names.push("null");
    }
    let begun = Instant::now();
    for name in names {
        for options in [OpenOptions::default(), writing(Create::Never), writing(Create::IfMissing)]
        {
            for truncate in [false, true] {
                let options = OpenOptions { truncate, ..options };
                let error = error(house.root.open(&house.top, name.as_bytes(), &options));
                let refused = [Errno::OPNOTSUPP, Errno::NXIO, Errno::ACCESS];
                assert!(refused.contains(&error), "{name}: {error}");
            }
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(house.ledger.descriptors.used(), 0);
    assert_eq!(house.root.stat(&house.top, b"fifo", Follow::Yes).unwrap().kind, Kind::Fifo);
}

#[test]
fn every_open_file_counts_and_the_limit_is_emfile() {
    let house = House::new();
    fs::write(house.inside("file"), "").unwrap();
    let open: Vec<Node> = (0..32).map(|_| house.open("file").unwrap()).collect();
    assert_eq!(error(house.open("file")), Errno::MFILE);
    assert!(house.root.stat(&house.top, b"file", Follow::Yes).is_ok());
    drop(open);
    assert_eq!(house.ledger.descriptors.used(), 0);
    assert_eq!(error(house.open("missing")), Errno::NOENT);
    assert_eq!(house.ledger.descriptors.used(), 0);
}

#[test]
fn files_are_read_written_cut_and_grown() {
    let house = House::new();
    let file = file(house.root.open(&house.top, b"new", &writing(Create::New)).unwrap());
    assert_eq!(file.write_at(b"hello", 2).unwrap(), 5);
    assert_eq!(file.append(b"!").unwrap(), 1);
    assert_eq!(text(&file), "\0\0hello!");
    file.set_len(4).unwrap();
    assert_eq!(file.append(b"?").unwrap(), 1);
    assert_eq!(text(&file), "\0\0he?");
    assert_eq!(error(file.set_len(u64::MAX)), Errno::FBIG);
    assert_eq!(error(file.read_at(&mut [0], u64::MAX)), Errno::INVAL);
    file.allocate(0, 100).unwrap();
    assert_eq!(file.stat().unwrap().size, 100);
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    let reading = house.open("new").unwrap();
    let Node::File(reading) = reading else { panic!() };
    assert_eq!(error(reading.write_at(b"x", 0)), Errno::BADF);
    let options = OpenOptions { truncate: true, ..writing(Create::Never) };
    house.root.open(&house.top, b"new", &options).unwrap();
    assert_eq!(reading.stat().unwrap().size, 0);
}

#[test]
fn a_folder_is_opened_as_one_and_never_written() {
    let house = House::new();
    fs::create_dir(house.inside("dir")).unwrap();
    fs::write(house.inside("file"), "").unwrap();
    let folder = OpenOptions { directory: true, ..OpenOptions::default() };
    assert_eq!(error(house.root.open(&house.top, b"file", &folder)), Errno::NOTDIR);
    assert_eq!(error(house.root.open(&house.top, b"dir", &writing(Create::Never))), Errno::ISDIR);
    assert!(matches!(house.root.open(&house.top, b"dir", &folder), Ok(Node::Dir(_))));
    let create = OpenOptions { directory: true, ..writing(Create::IfMissing) };
    assert_eq!(error(house.root.open(&house.top, b"x", &create)), Errno::INVAL);
    assert!(!house.inside("x").exists());
}

#[test]
fn times_are_set_and_kept() {
    let house = House::new();
    fs::write(house.inside("file"), "").unwrap();
    std::os::unix::fs::symlink("file", house.inside("link")).unwrap();
    let time = Timestamp { seconds: 1_000_000_000, nanoseconds: 5 };
    let times = SetTimes { accessed: SetTime::Keep, modified: SetTime::To(time) };
    let root = &house.root;
    let before = root.stat(&house.top, b"link", Follow::No).unwrap();
    root.set_times(&house.top, b"link", Follow::Yes, times).unwrap();
    assert_eq!(root.stat(&house.top, b"file", Follow::No).unwrap().modified, time);
    let after = root.stat(&house.top, b"link", Follow::No).unwrap();
    assert_eq!(after.modified, before.modified);
    root.set_times(&house.top, b"link", Follow::No, times).unwrap();
    assert_eq!(root.stat(&house.top, b"link", Follow::No).unwrap().modified, time);
    house.top.set_times(times).unwrap();
    assert_eq!(house.top.stat().unwrap().modified, time);
    let wrong = Timestamp { seconds: 0, nanoseconds: 1_000_000_000 };
    let times = SetTimes { accessed: SetTime::To(wrong), modified: SetTime::Keep };
    assert_eq!(error(house.top.set_times(times)), Errno::INVAL);
}

#[test]
fn a_long_folder_is_listed_from_any_cookie() {
    let house = House::new();
    for index in 0..500 {
        fs::write(house.inside(&format!("file-with-a-longer-name-{index}")), "").unwrap();
    }
    let mut entries = Vec::new();
    let mut cookie = 0;
    loop {
        let more = house.top.entries(cookie).unwrap();
        let Some(last) = more.last() else { break };
        cookie = last.cookie;
        entries.extend(more);
    }
    assert_eq!(entries.len(), 502);
    let again = house.top.entries(entries[250].cookie).unwrap();
    assert_eq!(again[0], entries[251]);
}

/// A house with devices at /dev.
fn house_with_devices() -> House {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("root/dev")).unwrap();
    let devices = Devices::make(&folder.path().join("root/dev")).unwrap();
    House::over(folder, devices)
}

#[test]
fn devices_are_known_by_any_name() {
    let house = house_with_devices();
    std::os::unix::fs::symlink("/dev/null", house.inside("void")).unwrap();
    for (path, device) in [
        ("dev/null", Device::Null),
        ("void", Device::Null),
        ("/dev/zero", Device::Zero),
        ("dev/full", Device::Full),
        ("dev/random", Device::Random),
        ("dev/urandom", Device::Random),
        ("dev/stdin", Device::Stdin),
        ("dev/stdout", Device::Stdout),
        ("dev/stderr", Device::Stderr),
    ] {
        let Node::Device(found) = house.open(path).unwrap() else { panic!("{path}") };
        assert_eq!(found, device);
        let stat = house.root.stat(&house.top, path.as_bytes(), Follow::Yes).unwrap();
        assert_eq!(stat.kind, Kind::CharacterDevice);
    }
    let mut bytes = [7; 64];
    assert_eq!(Device::Null.read(&mut bytes), Ok(0));
    assert_eq!(Device::Zero.read(&mut bytes), Ok(64));
    assert_eq!(bytes, [0; 64]);
    assert_eq!(Device::Random.read(&mut bytes), Ok(64));
    assert_ne!(bytes, [0; 64]);
    assert_eq!(Device::Full.write(1), Err(Errno::NOSPC));
    assert_eq!(Device::Null.write(9), Ok(9));
    let listed = house.dir("dev").entries(0).unwrap();
    let null = listed.iter().find(|entry| entry.name == b"null").unwrap();
    assert_eq!(null.kind, Kind::CharacterDevice);
    assert_eq!(house.ledger.descriptors.used(), 0);
}

/// Runs `test` on a thread in a mount namespace of its own, with `path` read-only; where the
/// user may not mount, not at all.
#[allow(unsafe_code)]
fn with_read_only(path: PathBuf, test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: the thread ends with this closure, and only its mounts are unshared.
            if unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.is_err() {
                eprintln!("not tested: no privilege to mount");
                return;
            }
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            rustix::mount::mount_bind(&path, &path).unwrap();
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV;
            rustix::mount::mount_remount(&path, flags, "").unwrap();
            test();
        });
    });
}

#[test]
fn a_read_only_mount_answers_erofs_and_its_devices_are_written() {
    let house = house_with_devices();
    with_read_only(house.inside("dev"), || {
        // The root has to be found anew in this namespace.
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = rustix::fs::open(house.inside(""), flags, Mode::empty()).unwrap();
        let root = Root::new(dir, house.ledger.clone(), house.root.devices.clone());
        let top = root.top().unwrap();
        let write = OpenOptions { truncate: true, ..writing(Create::IfMissing) };
        let null = root.open(&top, b"dev/null", &write);
        assert!(matches!(null, Ok(Node::Device(Device::Null))), "{null:?}");
        assert_eq!(error(root.open(&top, b"dev/new", &write)), Errno::ROFS);
        assert_eq!(error(root.unlink(&top, b"dev/null")), Errno::ROFS);
        assert_eq!(error(root.make_dir(&top, b"dev/x")), Errno::ROFS);
        assert_eq!(error(root.rename((&top, b"dev/null"), (&top, b"dev/x"))), Errno::ROFS);
        assert_eq!(error(root.rename((&top, b"dev/null"), (&top, b"x"))), Errno::XDEV);
    });
}
