//! Ways out of a root, tried while the host does its worst.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::{Follow, SetTime, SetTimes};
use super::*;

/// How often the host swaps at least, and how often the guest tries.
const SWAPS: usize = 3000;

#[test]
fn dots_above_the_root_stay_in_it() {
    let house = House::new();
    fs::write(house.inside("own"), "own").unwrap();
    fs::create_dir_all(house.inside("a/b")).unwrap();
    let deep = house.dir("a/b");
    for dir in [&house.top, &deep] {
        for path in ["../../../own", "../../../../../../own", "/own", "/../own"] {
            assert_eq!(house.read(dir, path).unwrap(), "own", "{path}");
        }
        for path in ["../outside/canary", "../../../../outside/canary", "/../../outside/canary"] {
            assert_eq!(error(house.read(dir, path)), Errno::NOENT, "{path}");
        }
    }
}

#[test]
fn links_resolve_inside_wherever_they_point() {
    let house = House::new();
    fs::create_dir_all(house.inside("sub/etc")).unwrap();
    fs::create_dir(house.inside("etc")).unwrap();
    fs::write(house.inside("etc/name"), "right").unwrap();
    fs::write(house.inside("sub/etc/name"), "wrong").unwrap();
    symlink("/etc/name", house.inside("sub/absolute")).unwrap();
    symlink("../etc/name", house.inside("sub/relative")).unwrap();
    symlink("../../../../../etc/name", house.inside("sub/far")).unwrap();
    symlink("/sub/absolute", house.inside("sub/chain")).unwrap();
    symlink("/etc", house.inside("sub/folder")).unwrap();
    let sub = house.dir("sub");
    for path in ["absolute", "relative", "far", "chain", "folder/name"] {
        assert_eq!(house.read(&sub, path).unwrap(), "right", "{path}");
        assert_eq!(house.read(&house.top, &format!("sub/{path}")).unwrap(), "right", "{path}");
    }
    let canary = house.outside("canary");
    symlink(&canary, house.inside("sub/out")).unwrap();
    symlink("../../outside/canary", house.inside("sub/up")).unwrap();
    symlink(house.outside(""), house.inside("sub/dir")).unwrap();
    for path in ["out", "up", "dir/canary"] {
        assert_eq!(error(house.read(&sub, path)), Errno::NOENT, "{path}");
    }
    // Creating through a dangling link makes its target, inside.
    symlink("/etc/made", house.inside("sub/dangling")).unwrap();
    house.root.open(&sub, b"dangling", &writing(Create::IfMissing)).unwrap();
    assert!(house.inside("etc/made").exists());
    house.assert_untouched();
}

#[test]
fn endless_links_are_a_loop() {
    let house = House::new();
    symlink("b", house.inside("a")).unwrap();
    symlink("a", house.inside("b")).unwrap();
    symlink("self/self/self", house.inside("self")).unwrap();
    for path in ["a", "b", "self", "self/self"] {
        assert_eq!(error(house.open(path)), Errno::LOOP, "{path}");
    }
}

#[test]
fn links_of_proc_are_no_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let dir = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
    let ledger = Arc::new(Ledger::new(Budget::new(0), 4, 4));
    let root = Root::new(dir, ledger, Arc::default());
    let top = root.top().unwrap();
    for path in ["proc/self/root/etc", "proc/self/cwd", "proc/self/fd/0/x"] {
        let opened = root.open(&top, path.as_bytes(), &OpenOptions::default());
        assert_eq!(error(opened), Errno::LOOP, "{path}");
    }
    drop(folder);
}

#[test]
fn a_folder_that_moved_is_followed_and_one_that_left_has_no_above() {
    let house = House::new();
    fs::create_dir_all(house.inside("a/b")).unwrap();
    fs::create_dir_all(house.inside("c")).unwrap();
    fs::write(house.inside("a/name"), "a").unwrap();
    fs::write(house.inside("c/name"), "c").unwrap();
    let dir = house.dir("a/b");
    assert_eq!(house.read(&dir, "../name").unwrap(), "a");
    fs::rename(house.inside("a/b"), house.inside("c/d")).unwrap();
    assert_eq!(house.read(&dir, "../name").unwrap(), "c");
    fs::rename(house.inside("c/d"), house.outside("d")).unwrap();
    assert_eq!(error(house.read(&dir, "../canary")), Errno::NOENT);
    fs::remove_dir(house.outside("d")).unwrap();
    assert_eq!(error(house.read(&dir, "../canary")), Errno::NOENT);
    assert_eq!(error(house.root.make_dir(&dir, b"x")), Errno::NOENT);
    // A name that looks like the kernel's word for a removed one.
    fs::create_dir(house.inside("e (deleted)")).unwrap();
    assert_eq!(house.read(&house.dir("e (deleted)"), "../c/name").unwrap(), "c");
    house.assert_untouched();
}

/// Swaps two names of the root until dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<usize>>,
}

impl Swapper {
    fn start(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            while !told.load(Ordering::Relaxed) || swaps < SWAPS {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().unwrap() >= SWAPS);
        }
    }
}

/// Everything that a guest can do through `path`, a folder that may be a link to the outside.
fn assail(house: &House, dir: &Dir, path: &str) {
    let of = |name: &str| format!("{path}/{name}").into_bytes();
    let root = &house.root;
    if let Ok(Node::File(file)) = root.open(dir, &of("canary"), &OpenOptions::default()) {
        assert_eq!(text(&file), "inside");
    }
    let truncate = OpenOptions { truncate: true, ..writing(Create::IfMissing) };
    if let Ok(Node::File(file)) = root.open(dir, &of("victim"), &truncate) {
        file.append(b"x").unwrap();
    }
    if let Ok(stat) = root.stat(dir, &of("canary"), Follow::Yes) {
        assert_eq!(stat.size, 6);
    }
    let epoch = SetTimes { accessed: SetTime::Now, modified: SetTime::Now };
    let _ = root.set_times(dir, &of("canary"), Follow::Yes, epoch);
    let _ = root.make_dir(dir, &of("folder"));
    let _ = root.symlink(b"/x", dir, &of("link"));
    let _ = root.link((dir, &of("victim")), Follow::Yes, (dir, &of("second")));
    let _ = root.rename((dir, &of("second")), (dir, &of("third")));
    let _ = root.read_link(dir, &of("link"));
    for name in ["victim", "link", "second", "third"] {
        let _ = root.unlink(dir, &of(name));
    }
    let _ = root.remove_dir(dir, &of("folder"));
}

#[test]
fn no_race_between_a_folder_and_a_link_leads_out() {
    for target in ["/", "../../../../outside", "/../outside"] {
        let house = House::new();
        fs::create_dir_all(house.inside("a/real")).unwrap();
        fs::write(house.inside("a/real/canary"), "inside").unwrap();
        let target = match target {
            "/" => house.outside("").to_str().unwrap().to_owned(),
            relative => relative.to_owned(),
        };
        symlink(target, house.inside("a/swapped")).unwrap();
        let dir = house.dir("a");
        let before = fs::metadata(house.outside("canary")).unwrap().modified().unwrap();
        let swapper = Swapper::start(house.inside("a/real"), house.inside("a/swapped"));
        for _ in 0..SWAPS / 30 {
            for path in ["real", "swapped"] {
                assail(&house, &dir, path);
                assail(&house, &house.top, &format!("a/{path}"));
                assail(&house, &house.top, &format!("a/{path}/../{path}"));
                assail(&house, &dir, &format!("../a/{path}"));
            }
        }
        drop(swapper);
        house.assert_untouched();
        assert_eq!(fs::metadata(house.outside("canary")).unwrap().modified().unwrap(), before);
    }
}

#[test]
fn no_race_on_a_folder_that_leaves_the_root_leads_out() {
    let house = House::new();
    fs::create_dir_all(house.inside("a/b")).unwrap();
    fs::create_dir(house.folder.path().join("elsewhere")).unwrap();
    let dir = house.dir("a/b");
    let (here, there) = (house.inside("a/b"), house.folder.path().join("elsewhere"));
    let swapper = Swapper::start(here, there);
    for _ in 0..SWAPS {
        for path in ["../outside/canary", "../../outside/canary", "../../../outside/canary"] {
            let error = error(house.read(&dir, path));
            assert!(matches!(error, Errno::NOENT | Errno::AGAIN), "{error}");
        }
        let _ = house.root.unlink(&dir, b"../outside/canary");
        let _ = house.root.make_dir(&dir, b"../outside/made");
    }
    drop(swapper);
    house.assert_untouched();
}
