//! The rest of the ABI, and what no guest may do to it.

use super::*;

#[test]
fn standard_input_is_read_and_polled() {
    let (reading, writing) = rustix::pipe::pipe().unwrap();
    fs::File::from(writing).write_all(b"line").unwrap();
    let mut guest = Guest::new();
    guest.stdin = Stdin::Descriptor(reading);
    let out = guest.run(&module(
        r#"(func (export "_start")
        (i32.store8 (i32.const 8) (i32.const 1))
        (call $check (call $poll_oneoff (i32.const 0) (i32.const 100) (i32.const 1)
            (i32.const 200)))
        (call $check (i32.load16_u (i32.const 108)))
        (i32.store (i32.const 0) (i32.const 300)) (i32.store (i32.const 4) (i32.const 10))
        (call $check (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 50)))
        (call $say (i32.const 300) (i32.load (i32.const 50)))
        (call $check (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 50)))
        (call $check (i32.load (i32.const 50))))"#,
    ));
    assert_eq!((exited(&out), out.stdout.as_str()), (0, "line"));
}

#[test]
fn arguments_and_environment_arrive() {
    let mut guest = Guest::new();
    guest.argv = vec!["app".to_owned(), "ä".to_owned()];
    guest.env = vec!["A=1".to_owned()];
    let out = guest.run(&module(
        r#"(func (export "_start")
        (call $check (call $args_sizes_get (i32.const 0) (i32.const 4)))
        (call $check (call $args_get (i32.const 100) (i32.const 200)))
        (call $say (i32.load (i32.const 104)) (i32.const 2))
        (call $say (i32.load (i32.const 100)) (i32.load (i32.const 4)))
        (call $check (call $environ_get (i32.const 100) (i32.const 300)))
        (call $say (i32.load (i32.const 100)) (i32.const 4)))"#,
    ));
    assert_eq!((exited(&out), out.stdout.as_str()), (0, "äapp\0ä\0A=1\0"));
}

#[test]
fn no_address_and_no_length_harms_the_host() {
    let numbers = [-1, -16, 0, 1, 2, 3, 4, 65535, 65536, 0x7fff_ffff];
    let mut calls = String::new();
    for (name, types) in FUNCTIONS {
        for first in [0, 1, 3, 7, -1] {
            for number in numbers {
                let arguments: String = types
                    .chars()
                    .enumerate()
                    .map(|(index, kind)| match (index, kind) {
                        (0, 'i') => format!("(i32.const {first})"),
                        (_, 'i') => format!("(i32.const {number})"),
                        _ => format!("(i64.const {number})"),
                    })
                    .collect();
                // Without its preopen every later call would say badf.
                if !(matches!(name, "fd_close" | "fd_renumber") && (0..=3).contains(&first)) {
                    // What other calls wrote may ask poll_oneoff for a long sleep.
                    if name == "poll_oneoff" {
                        calls += "(memory.fill (i32.const 0) (i32.const 0) (i32.const 65536))\n";
                    }
                    calls += &format!("(drop (call ${name} {arguments}))\n");
                }
            }
        }
    }
    let out = Guest::new().run(&module(&format!("(func (export \"_start\") {calls})")));
    assert_eq!(exited(&out), 0);
}

#[test]
fn a_guest_without_memory_is_told_of_faults() {
    let out = Guest::new().run(
        r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (func (export "_start") (call $exit (call $random (i32.const 0) (i32.const 8)))))"#,
    );
    assert_eq!(exited(&out), 21);
}

#[test]
fn sockets_are_none() {
    let out = Guest::new().run(&module(
        r#"(func (export "_start") (call $proc_exit
            (call $sock_accept (i32.const 0) (i32.const 0) (i32.const 0))))"#,
    ));
    assert_eq!(exited(&out), 57);
}

#[test]
fn a_module_asks_who_it_is() {
    let mut guest = Guest::new();
    guest.user = User { uid: 65, gid: 66, groups: vec![66, 67], name: "app".to_owned() };
    let own = |name: &str, types: &str| {
        format!(
            "(import \"wasmpod_container\" \"{name}\" (func ${name} (param {types}) (result i32)))"
        )
    };
    let imports = [
        own("user_get", "i32 i32"),
        own("groups_size_get", "i32"),
        own("groups_get", "i32"),
        own("user_name_size_get", "i32"),
        own("user_name_get", "i32"),
    ];
    let out = guest.run(&with_imports(
        &imports.concat(),
        r#"(func (export "_start")
        (call $check (call $user_get (i32.const 100) (i32.const 101)))
        (call $check (call $groups_size_get (i32.const 0)))
        (call $check (i32.ne (i32.load (i32.const 0)) (i32.const 2)))
        (call $check (call $groups_get (i32.const 200)))
        (i32.store8 (i32.const 102) (i32.load (i32.const 204)))
        (call $check (call $user_name_size_get (i32.const 0)))
        (call $check (call $user_name_get (i32.const 103)))
        (call $say (i32.const 100) (i32.add (i32.const 3) (i32.load (i32.const 0))))
        (call $proc_exit (call $groups_get (i32.const -4))))"#,
    ));
    assert_eq!((exited(&out), out.stdout.as_str()), (21, "ABCapp"));
}
