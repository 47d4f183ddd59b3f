//! What operations on names answer, held against what Linux answers.

use std::os::unix::fs::symlink;

use super::super::{Follow, Kind};
use super::*;

fn house() -> House {
    let house = House::new();
    fs::create_dir_all(house.inside("dir/full")).unwrap();
    fs::write(house.inside("dir/file"), "text").unwrap();
    symlink("file", house.inside("dir/link")).unwrap();
    symlink("full", house.inside("dir/way")).unwrap();
    symlink("nowhere", house.inside("dir/broken")).unwrap();
    house
}

#[test]
fn no_path_that_linux_refuses_is_taken() {
    let house = house();
    let long = "n".repeat(256);
    let deep = "d/".repeat(2100);
    let root = &house.root;
    for dir in [&house.top, &house.dir("dir")] {
        for (path, errno) in [
            ("", Errno::NOENT),
            ("a\0b", Errno::INVAL),
            (long.as_str(), Errno::NAMETOOLONG),
            (deep.as_str(), Errno::NAMETOOLONG),
        ] {
            let path = path.as_bytes();
            let create = writing(Create::IfMissing);
            assert_eq!(error(root.open(dir, path, &create)), errno);
            assert_eq!(error(root.stat(dir, path, Follow::No)), errno);
            assert_eq!(error(root.make_dir(dir, path)), errno);
            assert_eq!(error(root.remove_dir(dir, path)), errno);
            assert_eq!(error(root.unlink(dir, path)), errno);
            assert_eq!(error(root.symlink(b"x", dir, path)), errno);
            assert_eq!(error(root.read_link(dir, path)), errno);
            assert_eq!(error(root.rename((dir, path), (dir, b"x"))), errno);
            assert_eq!(error(root.rename((&house.top, b"dir"), (dir, path))), errno);
            assert_eq!(error(root.link((dir, path), Follow::No, (dir, b"x"))), errno);
        }
    }
    assert_eq!(error(root.symlink(b"", &house.top, b"x")), Errno::NOENT);
    root.make_dir(&house.top, "n".repeat(255).as_bytes()).unwrap();
}

#[test]
fn dots_and_slashes_alone_are_never_made_moved_or_removed() {
    let house = house();
    let (root, dir) = (&house.root, &house.dir("dir"));
    for path in [".", "..", "/", "full/..", "full/.", "//"] {
        let path = path.as_bytes();
        assert_eq!(error(root.make_dir(dir, path)), Errno::EXIST);
        assert_eq!(error(root.symlink(b"x", dir, path)), Errno::EXIST);
        assert_eq!(error(root.unlink(dir, path)), Errno::ISDIR);
        assert_eq!(error(root.rename((dir, path), (dir, b"new"))), Errno::BUSY);
        assert_eq!(error(root.rename((dir, b"full"), (dir, path))), Errno::BUSY);
        assert_eq!(error(root.link((dir, b"file"), Follow::No, (dir, path))), Errno::EXIST);
    }
    assert_eq!(error(root.remove_dir(dir, b".")), Errno::INVAL);
    assert_eq!(error(root.remove_dir(dir, b"full/..")), Errno::NOTEMPTY);
    assert_eq!(error(root.remove_dir(dir, b"/")), Errno::BUSY);
}

#[test]
fn a_slash_at_the_end_asks_for_a_folder() {
    let house = house();
    let (root, dir) = (&house.root, &house.dir("dir"));
    assert_eq!(error(root.open(dir, b"file/", &OpenOptions::default())), Errno::NOTDIR);
    assert_eq!(error(root.stat(dir, b"file/", Follow::No)), Errno::NOTDIR);
    assert_eq!(error(root.open(dir, b"new/", &writing(Create::IfMissing))), Errno::ISDIR);
    assert_eq!(error(root.unlink(dir, b"file/")), Errno::NOTDIR);
    assert_eq!(error(root.unlink(dir, b"full/")), Errno::ISDIR);
    assert_eq!(error(root.unlink(dir, b"way/")), Errno::NOTDIR);
    assert_eq!(error(root.rename((dir, b"file/"), (dir, b"new"))), Errno::NOTDIR);
    assert_eq!(error(root.symlink(b"x", dir, b"new/")), Errno::NOENT);
    assert_eq!(root.stat(dir, b"way/", Follow::No).unwrap().kind, Kind::Dir);
    assert_eq!(root.stat(dir, b"way", Follow::No).unwrap().kind, Kind::Symlink);
    root.make_dir(dir, b"made//").unwrap();
    root.rename((dir, b"made/"), (dir, b"moved/")).unwrap();
    root.remove_dir(dir, b"moved/").unwrap();
}

#[test]
fn links_at_the_end_are_followed_only_where_asked() {
    let house = house();
    let (root, dir) = (&house.root, &house.dir("dir"));
    let nofollow = OpenOptions { follow: Follow::No, ..OpenOptions::default() };
    assert_eq!(error(root.open(dir, b"link", &nofollow)), Errno::LOOP);
    assert_eq!(root.stat(dir, b"link", Follow::Yes).unwrap().kind, Kind::File);
    assert_eq!(root.read_link(dir, b"link").unwrap(), b"file");
    assert_eq!(error(root.read_link(dir, b"file")), Errno::INVAL);
    assert_eq!(error(root.read_link(dir, b"full")), Errno::INVAL);
    root.link((dir, b"link"), Follow::Yes, (dir, b"hard")).unwrap();
    assert_eq!(root.stat(dir, b"hard", Follow::No).unwrap().links, 2);
    root.link((dir, b"link"), Follow::No, (dir, b"copy")).unwrap();
    assert_eq!(root.stat(dir, b"copy", Follow::No).unwrap().kind, Kind::Symlink);
    assert_eq!(error(root.link((dir, b"broken"), Follow::Yes, (dir, b"x"))), Errno::NOENT);
    assert_eq!(error(root.link((dir, b"full"), Follow::No, (dir, b"x"))), Errno::PERM);
    root.unlink(dir, b"link").unwrap();
    assert_eq!(house.read(dir, "file").unwrap(), "text");
    assert_eq!(error(root.open(dir, b"broken", &writing(Create::New))), Errno::EXIST);
}

#[test]
fn names_are_made_moved_and_removed() {
    let house = house();
    let (root, top, dir) = (&house.root, &house.top, &house.dir("dir"));
    assert_eq!(error(root.make_dir(top, b"dir")), Errno::EXIST);
    assert_eq!(error(root.make_dir(top, b"no/way")), Errno::NOENT);
    assert_eq!(error(root.make_dir(dir, b"file/x")), Errno::NOTDIR);
    assert_eq!(error(root.remove_dir(top, b"dir")), Errno::NOTEMPTY);
    assert_eq!(error(root.remove_dir(dir, b"file")), Errno::NOTDIR);
    assert_eq!(error(root.unlink(dir, b"full")), Errno::ISDIR);
    assert_eq!(error(root.rename((top, b"dir"), (dir, b"below"))), Errno::INVAL);
    root.rename((dir, b"file"), (top, b"/moved")).unwrap();
    assert_eq!(house.read(dir, "../moved").unwrap(), "text");
    root.rename((dir, b"../moved"), (dir, b"full/again")).unwrap();
    assert_eq!(error(root.rename((dir, b"full/again"), (dir, b"full"))), Errno::NOTEMPTY);
    root.unlink(dir, b"way/again").unwrap();
    root.remove_dir(dir, b"full").unwrap();
    assert_eq!(error(root.stat(dir, b"full", Follow::No)), Errno::NOENT);
    assert_eq!(error(root.open(dir, b"broken", &OpenOptions::default())), Errno::NOENT);
}

#[test]
fn names_of_any_bytes_are_listed_and_opened() {
    let house = House::new();
    let name = b"\xff\xfe";
    house.root.open(&house.top, name, &writing(Create::New)).unwrap();
    let entries = house.top.entries(0).unwrap();
    assert!(entries.iter().any(|entry| entry.name == name));
    house.root.unlink(&house.top, name).unwrap();
}

#[test]
fn missing_folders_are_made_one_after_the_other() {
    let house = house();
    let (root, top) = (&house.root, &house.top);
    root.make_dirs(top, b"/dir/way/new/er/").unwrap();
    assert!(house.inside("dir/full/new/er").is_dir());
    root.make_dirs(top, b"dir/full").unwrap();
    root.make_dirs(top, b"/").unwrap();
    assert_eq!(error(root.make_dirs(top, b"dir/file/x")), Errno::NOTDIR);
    assert_eq!(error(root.make_dirs(top, b"dir/file")), Errno::NOTDIR);
    assert_eq!(error(root.make_dirs(top, b"dir/broken/x")), Errno::NOENT);
}
