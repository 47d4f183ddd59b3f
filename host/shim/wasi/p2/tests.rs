//! Small components, run as a container runs them.

use std::io::Write;

use super::*;
use crate::shim::guest::Stdin;
use crate::shim::wasi::component::testing::{World, wait_for};

const GUEST: &str = include_str!("guest.wat");

fn program_at(world: &World, path: &str, body: &str) -> Program {
    let wat = GUEST.replace("PATH", path);
    let wat = wat.replace("LENGTH", &path.len().to_string()).replace("BODY", body);
    link(world, &wat).unwrap()
}

fn program(world: &World, body: &str) -> Program {
    program_at(world, "-", body)
}

fn link(world: &World, wat: &str) -> Result<Program, String> {
    let component = Component::new(&world.engines.mapped, wat::parse_str(wat).unwrap()).unwrap();
    Program::link(&world.engines.mapped, &component)
}

fn code(ended: Ended) -> i32 {
    match ended {
        Ended::Exited(code) => code,
        ended => panic!("{ended:?}"),
    }
}

#[test]
fn exit_codes_are_exact() {
    let world = World::new();
    for (body, expected) in [
        ("(call $exit (i32.const 42)) i32.const 0", 42),
        ("(call $exit (i32.const 0)) i32.const 1", 0),
        ("i32.const 0", 0),
        ("i32.const 1", 1),
    ] {
        let program = program(&world, body);
        assert_eq!(code(program.run(world.context(&["guest"]))), expected, "{body}");
    }
}

#[test]
fn a_trap_comes_with_its_frames() {
    let world = World::new();
    match program(&world, "unreachable").run(world.context(&["guest"])) {
        Ended::Trapped(text) => {
            assert!(text.starts_with("wasm trap: wasm `unreachable`"), "{text}");
            assert!(text.lines().count() > 1, "{text}");
        }
        ended => panic!("{ended:?}"),
    }
}

#[test]
fn whatever_a_guest_does_a_kill_ends_it() {
    let (input, _writer) = std::io::pipe().unwrap();
    let mut input = Some(input);
    for body in [
        "(loop $spin (br $spin)) unreachable",
        "(call $block (call $after (i64.const 1000000000000))) unreachable",
        "(local $due i32) (local.set $due (call $after (i64.const 0)))
            (loop $poll (call $block (local.get $due)) (br $poll)) unreachable",
        "(call $read (call $stdin) (i64.const 1) (i32.const 0)) unreachable",
    ] {
        let world = World::new();
        let program = program(&world, body);
        let mut context = world.context(&["guest"]);
        if body.contains("$read") {
            context.stdin = Stdin::Descriptor(input.take().unwrap().into());
        }
        // Memory is taken when the guest is about to run.
        let running = || world.ledger.memory.used() > 0;
        let ended = world.killed_when(move || program.run(context), running);
        assert!(matches!(ended, Ended::Killed), "{body}: {ended:?}");
        assert_eq!((world.ledger.memory.used(), world.ledger.descriptors.used()), (0, 0));
    }
}

#[test]
fn over_its_memory_a_guest_ends_and_gives_all_back() {
    let world = World::new();
    let body = "(loop $grow (drop (memory.grow (i32.const 16))) (br $grow)) unreachable";
    match program(&world, body).run(world.context(&["guest"])) {
        Ended::OutOfMemory(text) => assert!(text.contains("67108864"), "{text}"),
        ended => panic!("{ended:?}"),
    }
    assert_eq!(world.ledger.memory.used(), 0);
}

#[test]
fn standard_input_comes_through_a_pipe_and_from_a_file() {
    let world = World::new();
    // The byte read, or 200 for the stream's end.
    let body = "(call $read (call $stdin) (i64.const 1) (i32.const 0))
        (if (i32.load8_u (i32.const 0)) (then (call $exit (i32.const 200))))
        (call $exit (i32.load8_u (i32.load (i32.const 4)))) unreachable";
    let program = program(&world, body);
    let run = |stdin| {
        let mut context = world.context(&["guest"]);
        context.stdin = stdin;
        code(program.run(context))
    };
    assert_eq!(run(Stdin::Empty), 200);

    let (input, mut writer) = std::io::pipe().unwrap();
    let writes = std::thread::spawn(move || writer.write_all(b"p").unwrap());
    assert_eq!(run(Stdin::Descriptor(input.into())), i32::from(b'p'));
    writes.join().unwrap();

    std::fs::write(world.path("tmp/input"), "f").unwrap();
    let file = std::fs::File::open(world.path("tmp/input")).unwrap();
    assert_eq!(run(Stdin::Descriptor(file.into())), i32::from(b'f'));

    let (input, writer) = std::io::pipe().unwrap();
    drop(writer);
    assert_eq!(run(Stdin::Descriptor(input.into())), 200);
}

/// Codes of wasi:filesystem, as the guest above adds them to 100.
const EXIST: i32 = 107;
const IS_DIRECTORY: i32 = 114;
const LOOP: i32 = 115;
const NO_ENTRY: i32 = 120;
const INSUFFICIENT_MEMORY: i32 = 122;
const NOT_DIRECTORY: i32 = 124;

#[test]
fn a_file_call_s_errno_arrives_as_its_code() {
    let world = World::new();
    std::fs::write(world.path("tmp/file"), "").unwrap();
    std::os::unix::fs::symlink("loop", world.path("tmp/loop")).unwrap();
    std::os::unix::fs::symlink("/tmp/file", world.path("tmp/absolute")).unwrap();
    let (read, write) = ("(i32.const 0) (i32.const 1)", "(i32.const 0) (i32.const 2)");
    for (path, flags, expected) in [
        ("tmp/file", read, 0),
        ("/tmp/file", read, 0),
        ("tmp/absolute", read, 0),
        ("../../tmp/../../tmp/file", read, 0),
        ("etc/passwd", read, NO_ENTRY),
        ("../../../../../etc/passwd", read, NO_ENTRY),
        ("tmp/loop", read, LOOP),
        ("tmp", write, IS_DIRECTORY),
        ("tmp/file/below", read, NOT_DIRECTORY),
        ("tmp/file", "(i32.const 2) (i32.const 1)", NOT_DIRECTORY),
        ("tmp/file", "(i32.const 5) (i32.const 2)", EXIST),
        ("dev/null", write, 0),
    ] {
        let body = format!("(call $exit (call $try {flags})) unreachable");
        let program = program_at(&world, path, &body);
        assert_eq!(code(program.run(world.context(&["guest"]))), expected, "{path} {flags}");
    }
}

#[test]
fn too_many_descriptors_hurt_the_guest_alone() {
    let world = World::new();
    std::fs::write(world.path("tmp/file"), "").unwrap();
    // Each round opens one file more; the code at the end is the error's.
    let body = "(local $code i32)
        (loop $more
          (local.set $code (call $try (i32.const 0) (i32.const 1)))
          (br_if $more (i32.eqz (local.get $code))))
        (call $exit (local.get $code)) unreachable";
    let program = program_at(&world, "tmp/file", body);
    assert_eq!(code(program.run(world.context(&["guest"]))), INSUFFICIENT_MEMORY);
    assert_eq!(world.ledger.descriptors.used(), 0);
}

#[test]
fn too_many_handles_end_the_guest_and_are_named() {
    let world = World::new();
    let body = "(loop $more (drop (call $after (i64.const 0))) (br $more)) unreachable";
    match program(&world, body).run(world.context(&["guest"])) {
        Ended::Trapped(text) => {
            assert!(text.starts_with("too many resource handles: the limit is 256"), "{text}");
        }
        ended => panic!("{ended:?}"),
    }
}

#[test]
fn handles_of_a_guest_s_own_resources_are_limited_too() {
    let world = World::new();
    let made = |count: u32| {
        let wat = format!(
            r#"(component (type $own (resource (rep i32)))
                (core func $new (canon resource.new $own))
                (core module $m (import "host" "new" (func $new (param i32) (result i32)))
                    (func (export "run") (result i32) (local $n i32)
                        (loop $again
                            (drop (call $new (i32.const 0)))
                            (local.set $n (i32.add (local.get $n) (i32.const 1)))
                            (br_if $again (i32.lt_u (local.get $n) (i32.const {count}))))
                        i32.const 0))
                (core instance $i (instantiate $m
                    (with "host" (instance (export "new" (func $new))))))
                (func $run (result (result)) (canon lift (core func $i "run")))
                (instance $r (export "run" (func $run)))
                (export "wasi:cli/run@0.2.3" (instance $r)))"#
        );
        link(&world, &wat).unwrap().run(world.context(&["guest"]))
    };
    assert_eq!(code(made(500)), 0);
    match made(600) {
        Ended::Trapped(text) => assert!(text.starts_with("too many resource handles"), "{text}"),
        ended => panic!("{ended:?}"),
    }
}

#[test]
fn a_missing_working_directory_is_made_or_told() {
    let world = World::new();
    std::fs::write(world.path("tmp/file"), "").unwrap();
    let run = |working_dir: &str| {
        let mut context = world.context(&["guest"]);
        context.working_dir = working_dir.to_owned();
        program(&world, "i32.const 0").run(context)
    };
    assert_eq!(code(run("/deep/er")), 0);
    assert!(world.path("deep/er").is_dir());
    match run("/tmp/file/below") {
        Ended::NotStarted(text) => {
            assert!(text.contains("working directory /tmp/file/below"), "{text}");
        }
        ended => panic!("{ended:?}"),
    }
}

#[test]
fn what_cannot_be_linked_is_named() {
    let world = World::new();
    let fault = |wat: &str| link(&world, wat).err().unwrap();
    let run = r#"(core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $r (export "run" (func $run)))"#;
    let missing = format!(
        r#"(component (import "wasi:keyvalue/store@0.2.0" (instance (export "open" (func))))
            {run} (export "wasi:cli/run@0.2.3" (instance $r)))"#
    );
    let expected =
        "the component imports wasi:keyvalue/store@0.2.0, which wasmpod does not provide";
    assert_eq!(fault(&missing), expected);
    let more = missing.replace(
        "(component ",
        r#"(component (import "my:own/x" (instance)) (import "wasi:nn/types@0.2.0" (instance))"#,
    );
    let expected = "the component imports my:own/x, wasi:nn/types@0.2.0, \
                    wasi:keyvalue/store@0.2.0, which wasmpod does not provide";
    assert_eq!(fault(&more), expected);

    let other = format!(r#"(component {run} (export "my:own/calc@1.0.0" (instance $r)))"#);
    let expected = "the component does not export wasi:cli/run; it exports my:own/calc@1.0.0";
    assert_eq!(fault(&other), expected);
    assert!(fault("(component)").contains("exports nothing"));

    let service =
        format!(r#"(component {run} (export "wasi:http/incoming-handler@0.1.0" (instance $r)))"#);
    let expected = "the component exports wasi:http/incoming-handler@0.1.0; wasmpod serves \
                    wasi:http 0.2 and 0.3";
    assert_eq!(fault(&service), expected);

    let preview = format!(r#"(component {run} (export "wasi:cli/run@0.3.0-rc-1" (instance $r)))"#);
    assert!(fault(&preview).contains("wasi:cli/run@0.3.0-rc-1"), "{}", fault(&preview));
}

#[test]
fn another_minor_version_is_the_same_interface() {
    let world = World::new();
    let wat = GUEST.replace("@0.2.0", "@0.2.9").replace("PATH", "-").replace("LENGTH", "1");
    let program = link(&world, &wat.replace("BODY", "i32.const 0")).unwrap();
    assert_eq!(code(program.run(world.context(&["guest"]))), 0);
    wait_for(|| world.ledger.descriptors.used() == 0);
}

#[test]
fn every_errno_keeps_its_meaning() {
    use rustix::io::Errno;
    use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
    for (errno, code) in [
        (Errno::ROFS, ErrorCode::ReadOnly),
        (Errno::XDEV, ErrorCode::CrossDevice),
        (Errno::DQUOT, ErrorCode::Quota),
        (Errno::NOSPC, ErrorCode::InsufficientSpace),
        (Errno::TXTBSY, ErrorCode::TextFileBusy),
        (Errno::HOSTDOWN, ErrorCode::Io),
    ] {
        assert_eq!(convert::code(errno), code, "{errno}");
    }
}
