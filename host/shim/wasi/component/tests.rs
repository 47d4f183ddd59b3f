//! Files as components see them, below either version's interface.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

use super::testing::World;
use super::*;
use crate::shim::wasi::fs::{Durability, Follow, Kind};

const READ: Access =
    Access { read: true, write: false, mutate_directory: false, durability: Durability::Cached };
const WRITE: Access = Access { read: false, write: true, ..READ };

fn opening(access: Access) -> Opening {
    Opening {
        follow: Follow::Yes,
        create: access.write,
        exclusive: false,
        truncate: false,
        directory: false,
        access,
    }
}

/// A Store's data whose working directory is /tmp.
fn state(world: &World) -> State {
    let context = world.context(&["guest"]);
    let shared = Shared::open(&context).unwrap();
    State::new(context, shared).unwrap()
}

fn errno<T>(result: Result<T, Fault>) -> Option<Errno> {
    match result {
        Err(Fault::Errno(errno)) => Some(errno),
        Ok(_) | Err(Fault::Trap(_)) => None,
    }
}

#[test]
fn devices_behave_as_their_names_say() {
    let world = World::new();
    let mut state = state(&world);
    let files = state.files().files;
    let (top, _) = files.given().next().unwrap();
    let open = |name: &str, access| files.open(&top, name, opening(access)).unwrap();

    let null = open("dev/null", Access { write: true, ..READ });
    assert_eq!(null.kind(), Kind::CharacterDevice);
    assert_eq!(files.write(&null, b"gone", 0).unwrap(), 4);
    assert_eq!(files.read(&null, 8, 0).unwrap(), (Vec::new(), true));
    assert_eq!(files.read(&open("dev/zero", READ), 3, 0).unwrap(), (vec![0; 3], false));
    assert_eq!(errno(files.write(&open("dev/full", WRITE), b"x", 0)), Some(Errno::NOSPC));
    let (random, _) = files.read(&open("dev/urandom", READ), 32, 0).unwrap();
    assert_ne!(random, vec![0; 32]);
    assert_eq!(files.read(&open("dev/stdin", READ), 8, 0).unwrap(), (Vec::new(), true));
    files.write(&open("dev/stdout", WRITE), b"to standard output", 0).unwrap();
    assert_eq!(world.stdout(), "to standard output");
}

#[test]
fn a_descriptor_does_what_it_was_opened_for() {
    let world = World::new();
    std::fs::write(world.path("tmp/file"), "0123456789").unwrap();
    let mut state = state(&world);
    let files = state.files().files;
    let (top, _) = files.given().next().unwrap();
    let reads = files.open(&top, "tmp/file", opening(READ)).unwrap();
    assert_eq!(files.read(&reads, 4, 3).unwrap(), (b"3456".to_vec(), false));
    assert_eq!(files.read(&reads, 4, 10).unwrap(), (Vec::new(), true));
    assert_eq!(errno(files.write(&reads, b"x", 0)), Some(Errno::BADF));
    let writes = files.open(&top, "tmp/file", opening(WRITE)).unwrap();
    assert_eq!(errno(files.read(&writes, 1, 0)), Some(Errno::BADF));
    assert_eq!(errno(files.read(&top, 1, 0)), Some(Errno::ISDIR));
    assert_eq!(errno(files.open(&reads, "x", opening(READ))), Some(Errno::NOTDIR));
    assert!(files.is_same(&reads, &writes).unwrap());
    assert!(!files.is_same(&reads, &top).unwrap());
    let by_name = files.hash_at(&top, "tmp/file", Follow::Yes).unwrap();
    assert_eq!(files.hash(&reads).unwrap(), by_name);
    let Ok(mut end) = files.writer(&writes, None) else { panic!("no writer") };
    end.write(b"end").unwrap();
    assert_eq!(std::fs::read(world.path("tmp/file")).unwrap(), b"0123456789end");
}

#[test]
fn a_listing_has_every_entry_once_and_goes_on_after_a_bad_name() {
    let world = World::new();
    std::fs::create_dir(world.path("tmp/many")).unwrap();
    for number in 0..300 {
        std::fs::write(world.path(&format!("tmp/many/{number:03}")), "").unwrap();
    }
    let bad = world.path("tmp/many").join(OsStr::from_bytes(b"\xff"));
    std::fs::write(bad, "").unwrap();
    let mut state = state(&world);
    let files = state.files().files;
    let (top, _) = files.given().next().unwrap();
    let many = files.open(&top, "tmp/many", opening(READ)).unwrap();
    let mut listing = files.listing(&many).unwrap();
    let (mut names, mut bad) = (Vec::new(), 0);
    loop {
        match files.next_entry(&mut listing) {
            Ok(None) => break,
            Ok(Some((name, kind))) => {
                assert_eq!(kind, Kind::File);
                names.push(name);
            }
            Err(Fault::Errno(Errno::ILSEQ)) => bad += 1,
            Err(fault) => panic!("{fault:?}"),
        }
    }
    names.sort();
    assert_eq!(names, (0..300).map(|number| format!("{number:03}")).collect::<Vec<_>>());
    assert_eq!(bad, 1);
}

#[test]
fn relative_names_are_the_working_directory_s_and_absolute_ones_the_root_s() {
    let world = World::new();
    std::fs::write(world.path("top"), "").unwrap();
    std::fs::write(world.path("tmp/here"), "").unwrap();
    let mut state = state(&world);
    let files = state.files().files;
    let given: Vec<_> = files.given().collect();
    assert_eq!(given.iter().map(|(_, name)| *name).collect::<Vec<_>>(), ["/", "."]);
    let dir = &given[1].0;
    for path in ["here", "./here", "/tmp/here", "tmp/here", "top", "../top"] {
        assert!(files.stat_at(dir, path, Follow::Yes).is_ok(), "{path}");
    }
    files.open(dir, "new", opening(WRITE)).unwrap();
    assert!(world.path("tmp/new").exists());
}
