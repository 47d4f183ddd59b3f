//! Files, folders and devices through the ABI.

use super::*;

/// Opens the file named at 0 (5 bytes), with flags and rights given; its descriptor at 500.
fn open(flags: u32, rights: u64) -> String {
    format!(
        "(call $check (call $path_open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 5)
            (i32.const {flags}) (i64.const {rights}) (i64.const 0) (i32.const 0)
            (i32.const 500)))"
    )
}

#[test]
fn files_are_written_sought_and_read() {
    let guest = Guest::new();
    fs::create_dir(guest.path().join("d")).unwrap();
    let open = open(1, 2 | 64);
    let text = module(&format!(
        r#"(data (i32.const 0) "d/new") (data (i32.const 100) "content")
        (func (export "_start")
        {open}
        (i32.store (i32.const 200) (i32.const 100)) (i32.store (i32.const 204) (i32.const 7))
        (call $check (call $fd_write (i32.load (i32.const 500)) (i32.const 200) (i32.const 1)
            (i32.const 300)))
        (call $check (call $fd_seek (i32.load (i32.const 500)) (i64.const 3) (i32.const 0)
            (i32.const 400)))
        (i32.store (i32.const 200) (i32.const 1000)) (i32.store (i32.const 204) (i32.const 99))
        (call $check (call $fd_read (i32.load (i32.const 500)) (i32.const 200) (i32.const 1)
            (i32.const 300)))
        (call $say (i32.const 1000) (i32.load (i32.const 300)))
        (call $check (call $fd_pread (i32.load (i32.const 500)) (i32.const 200) (i32.const 1)
            (i64.const 1) (i32.const 300)))
        (call $say (i32.const 1000) (i32.load (i32.const 300)))
        (call $check (call $fd_filestat_get (i32.load (i32.const 500)) (i32.const 600)))
        (call $check (i32.sub (i32.load (i32.const 632)) (i32.const 7)))
        (call $check (call $fd_close (i32.load (i32.const 500))))
        (call $proc_exit (call $fd_close (i32.load (i32.const 500)))))"#
    ));
    let outcome = guest.run(&text);
    assert_eq!((exited(&outcome), outcome.stdout.as_str()), (8, "tentontent"));
    assert_eq!(outcome.ledger.descriptors.used(), 0);
}

#[test]
fn devices_are_the_guests_own() {
    let text = module(
        r#"(data (i32.const 0) "dev/stdout") (data (i32.const 20) "dev/full")
        (data (i32.const 40) "through")
        (func (export "_start")
        (i32.store (i32.const 200) (i32.const 40)) (i32.store (i32.const 204) (i32.const 7))
        (call $check (call $path_open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 10)
            (i32.const 8) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 500)))
        (call $check (call $fd_write (i32.load (i32.const 500)) (i32.const 200) (i32.const 1)
            (i32.const 300)))
        (call $check (call $path_open (i32.const 3) (i32.const 1) (i32.const 20) (i32.const 8)
            (i32.const 0) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 500)))
        (call $proc_exit (call $fd_write (i32.load (i32.const 500)) (i32.const 200)
            (i32.const 1) (i32.const 300))))"#,
    );
    let out = Guest::new().run(&text);
    assert_eq!((exited(&out), out.stdout.as_str()), (51, "through"));
}

#[test]
fn descriptors_end_at_the_containers_limit() {
    let open = open(0, 2).replace("call $check", "local.set 0");
    let text = module(&format!(
        r#"(data (i32.const 0) "file0")
        (func (export "_start") (local i32 i32)
        (loop {open}
            (local.set 1 (i32.add (local.get 1) (i32.const 1)))
            (br_if 0 (i32.eqz (local.get 0))))
        (call $check (i32.sub (local.get 0) (i32.const 33)))
        (call $proc_exit (local.get 1)))"#
    ));
    for name in ["file0", "dev/stdout"] {
        let mut guest = Guest::new();
        guest.descriptors = 9;
        fs::write(guest.path().join("file0"), "").unwrap();
        let text = text.replace("file0", name).replace("(i32.const 5)", "(i32.const NN)");
        let out = guest.run(&text.replace("NN", &name.len().to_string()));
        assert_eq!(exited(&out), 10, "{name}");
    }
}

#[test]
fn folders_are_listed_whole_through_small_buffers() {
    let guest = Guest::new();
    for index in 0..300 {
        fs::write(guest.path().join(format!("f{index:03}")), "").unwrap();
    }
    let out = guest.run(&module(
        r#"(func (export "_start") (local $at i32) (local $used i32) (local $name i32)
        (loop $list
            (call $check (call $fd_readdir (i32.const 3) (i32.const 1000) (i32.const 100)
                (i64.load (i32.const 0)) (i32.const 8)))
            (local.set $used (i32.load (i32.const 8)))
            (local.set $at (i32.const 0))
            (loop $entry
                (if (i32.le_u (i32.add (local.get $at) (i32.const 24)) (local.get $used))
                (then
                    (local.set $name (i32.load offset=1016 (local.get $at)))
                    (if (i32.le_u (i32.add (local.get $at)
                            (i32.add (i32.const 24) (local.get $name))) (local.get $used))
                    (then
                        (i64.store (i32.const 0) (i64.load offset=1000 (local.get $at)))
                        (call $say (i32.add (i32.const 1024) (local.get $at))
                            (local.get $name))
                        (call $say (i32.const 900) (i32.const 1))
                        (local.set $at (i32.add (local.get $at)
                            (i32.add (i32.const 24) (local.get $name))))
                        (br $entry))))))
            (br_if $list (i32.eq (local.get $used) (i32.const 100)))))
        (data (i32.const 900) "\n")"#,
    ));
    let mut names: Vec<&str> = out.stdout.lines().collect();
    names.sort_unstable();
    assert_eq!(exited(&out), 0);
    assert_eq!(names.len(), 303);
    assert!(names.contains(&"f000") && names.contains(&"f299") && names.contains(&"."));
}

#[test]
fn a_working_directory_is_the_second_preopen() {
    let mut guest = Guest::new();
    guest.working_dir = "/app".to_owned();
    fs::create_dir_all(guest.path().join("app/sub")).unwrap();
    fs::create_dir_all(guest.path().join("etc")).unwrap();
    fs::write(guest.path().join("app/here"), "").unwrap();
    fs::write(guest.path().join("etc/host"), "").unwrap();
    let stat = |at: u32, length: u32| {
        format!(
            "(call $check (call $path_filestat_get (i32.const 4) (i32.const 1) (i32.const {at})
                (i32.const {length}) (i32.const 900)))"
        )
    };
    let (here, host, up) = (stat(0, 4), stat(20, 8), stat(40, 11));
    let text = module(&format!(
        r#"(data (i32.const 0) "here") (data (i32.const 20) "etc/host")
        (data (i32.const 40) "../etc/host") (data (i32.const 60) "fresh")
        (data (i32.const 80) "etc/fresh")
        (func (export "_start")
        (call $check (call $fd_prestat_get (i32.const 4) (i32.const 800)))
        (call $check (call $fd_prestat_dir_name (i32.const 4) (i32.const 800) (i32.const 1)))
        (call $say (i32.const 800) (i32.const 1))
        {here} {host} {up}
        (call $check (call $path_create_directory (i32.const 4) (i32.const 60) (i32.const 5)))
        (call $check (call $path_create_directory (i32.const 4) (i32.const 80) (i32.const 9)))
        (call $check (call $environ_get (i32.const 100) (i32.const 300)))
        (call $say (i32.const 300) (i32.const 8))
        (call $check (i32.sub (call $fd_prestat_get (i32.const 5) (i32.const 800))
            (i32.const 8))))"#
    ));
    let out = guest.run(&text);
    assert_eq!((exited(&out), out.stdout.as_str()), (0, ".PWD=/app"));
    assert!(out.root.path().join("app/fresh").is_dir());
    assert!(out.root.path().join("etc/fresh").is_dir());
}

#[test]
fn an_absolute_path_is_the_root_s_and_a_relative_one_the_working_directory_s() {
    let mut guest = Guest::new();
    guest.working_dir = "/work".to_owned();
    for dir in ["both", "top", "work/both", "work/dir"] {
        fs::create_dir_all(guest.path().join(dir)).unwrap();
    }
    // What the guest wrote, and where its library points: behind the slash that it strips.
    let paths = [
        ("/new1", 1, "new1"),
        ("//new2", 2, "new2"),
        ("new3", 0, "work/new3"),
        ("/both/new4", 1, "both/new4"),
        ("both/new5", 0, "work/both/new5"),
        ("/top/new6", 1, "top/new6"),
        // Existing folders are found either way.
        ("top/new7", 0, "top/new7"),
        ("/dir/new8", 1, "work/dir/new8"),
        // The last part of a longer path, opened by itself.
        ("some/new9", 5, "work/new9"),
        ("--out=/new10", 7, "new10"),
        ("/./new11", 1, "new11"),
        ("./new12", 0, "work/new12"),
    ];
    let (mut data, mut calls) = (String::new(), String::new());
    for (number, (written, skip, _)) in paths.iter().enumerate() {
        let at = number * 32;
        let (from, length) = (at + skip, written.len() - skip);
        data += &format!("(data (i32.const {at}) \"{written}\")");
        calls += &format!(
            "(call $check (call $path_create_directory (i32.const 4) (i32.const {from})
                (i32.const {length})))"
        );
    }
    let out = guest.run(&module(&format!(r#"{data} (func (export "_start") {calls})"#)));
    assert_eq!(exited(&out), 0);
    for (written, _, place) in paths {
        assert!(out.root.path().join(place).is_dir(), "{written}");
    }
}
