//! How runs begin and end.

use super::*;

#[test]
fn a_guest_writes_and_returns() {
    let out = Guest::new().run(&module(
        r#"(data (i32.const 0) "hello\n")
        (func (export "_start") (call $say (i32.const 0) (i32.const 6)))"#,
    ));
    assert_eq!((exited(&out), out.stdout.as_str()), (0, "hello\n"));
    assert_eq!(out.ledger.memory.used(), 0);
    assert_eq!(out.ledger.memory.peak(), 65536);
}

#[test]
fn exit_codes_are_exact() {
    for (code, seen) in [(0, 0), (3, 3), (125, 125), (126, 126), (255, 255), (256, 256), (-1, -1)] {
        let text = format!("(func (export \"_start\") (call $proc_exit (i32.const {code})))");
        assert_eq!(exited(&Guest::new().run(&module(&text))), seen);
    }
}

#[test]
fn what_is_missing_is_named_in_one_sentence() {
    let guest = Guest::new();
    let sentence = |text: &str| guest.link(text).err().unwrap();
    let missing = sentence(
        r#"(module (import "env" "launch" (func (param i32 f64) (result i64)))
        (func (export "_start")))"#,
    );
    let expected = "the module imports env::launch, which wasmpod does not provide: it gives \
                    modules the functions of wasi_snapshot_preview1 and wasmpod_container alone";
    assert_eq!(missing, expected);
    let imports: String = (0..8).map(|n| format!("(import \"env\" \"f{n}\" (func))")).collect();
    let several = sentence(&format!(
        r#"(module {imports} (import "wasi_snapshot_preview1" "fd_none" (func))
        (import "wasi_snapshot_preview1" "fd_sync" (func (param i32) (result i32)))
        (import "env" "memory" (memory 1)) (func (export "_start")))"#
    ));
    let names = "env::f0, env::f1, env::f2, env::f3, env::f4 and 5 more, which";
    assert!(several.contains(names), "{several}");
    let wrong = sentence(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i64)))
        (func (export "_start")))"#,
    );
    assert!(wrong.contains("wasi_snapshot_preview1::fd_write"), "{wrong}");
    let nothing = sentence("(module)");
    assert!(nothing.contains("_start") && nothing.contains("nothing"), "{nothing}");
    let other = sentence(r#"(module (func (export "run")) (func (export "stop")))"#);
    assert!(other.contains("run, stop"), "{other}");
    let reactor = sentence(r#"(module (func (export "_initialize")))"#);
    assert!(reactor.contains("library"), "{reactor}");
    let entry = sentence(r#"(module (func (export "_start") (param i32)))"#);
    assert!(entry.contains("entry point"), "{entry}");
    for text in [missing, wrong, nothing, other, reactor, entry] {
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn a_trap_tells_its_reason_and_the_functions() {
    let out = Guest::new().run(
        r#"(module $app (func $inner unreachable) (func $outer call $inner)
        (func (export "_start") call $outer))"#,
    );
    let Ended::Trapped(text) = out.ended else { panic!("{:?}", out.ended) };
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("unreachable"), "{text}");
    assert!(lines[1].contains("inner") && lines[2].contains("outer"), "{text}");
    assert_eq!(lines.len(), 4, "{text}");
}

#[test]
fn memory_over_the_limit_ends_the_guest() {
    let mut guest = Guest::new();
    guest.memory = 1 << 20;
    let grows = r#"(module (memory (export "memory") 1) (func (export "_start")
        (loop (drop (memory.grow (i32.const 1))) (br 0))))"#;
    assert!(matches!(guest.run(grows).ended, Ended::OutOfMemory(_)));
    let mut guest = Guest::new();
    guest.memory = 1 << 20;
    let starts_big = r#"(module (memory (export "memory") 17) (func (export "_start")))"#;
    assert!(matches!(guest.run(starts_big).ended, Ended::OutOfMemory(_)));
}

#[test]
fn a_garbage_collected_heap_over_the_limit_ends_the_guest_too() {
    let mut guest = Guest::new();
    guest.memory = 4 << 20;
    let out = guest.run(
        r#"(module
        (type $bytes (array (mut i8)))
        (rec (type $list (struct (field (ref null $list)) (field (ref null $bytes)))))
        (global $kept (mut (ref null $list)) (ref.null $list))
        (func (export "_start") (loop
            (global.set $kept (struct.new $list (global.get $kept)
                (array.new_default $bytes (i32.const 1024))))
            (br 0))))"#,
    );
    let Ended::OutOfMemory(text) = out.ended else { panic!("{:?}", out.ended) };
    assert_eq!(text, "out of memory: the limit is 4194304 bytes");
    assert_eq!(out.ledger.memory.used(), 0);
}

#[test]
fn a_kill_ends_a_guest_that_spins_sleeps_or_reads() {
    let spins = r#"(module (func (export "_start") (loop (br 0))))"#;
    assert!(matches!(Guest::new().run_and_kill(spins, || true), Ended::Killed));

    let sleeps = Box::leak(
        module(
            r#"(func (export "_start")
            (i64.store (i32.const 24) (i64.const -1))
            (call $check (call $poll_oneoff (i32.const 0) (i32.const 100) (i32.const 1)
                (i32.const 200))))"#,
        )
        .into_boxed_str(),
    );
    assert!(matches!(Guest::new().run_and_kill(sleeps, || true), Ended::Killed));

    let reads = Box::leak(
        module(
            r#"(func (export "_start")
            (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 10))
            (call $check (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1)
                (i32.const 50))))"#,
        )
        .into_boxed_str(),
    );
    let (reading, _writing) = rustix::pipe::pipe().unwrap();
    let mut guest = Guest::new();
    guest.stdin = Stdin::Descriptor(reading);
    assert!(matches!(guest.run_and_kill(reads, || true), Ended::Killed));

    let polls = Box::leak(
        module(
            r#"(func (export "_start")
            (i32.store8 (i32.const 8) (i32.const 1))
            (call $check (call $poll_oneoff (i32.const 0) (i32.const 100) (i32.const 1)
                (i32.const 200))))"#,
        )
        .into_boxed_str(),
    );
    let (reading, _writing) = rustix::pipe::pipe().unwrap();
    let mut guest = Guest::new();
    guest.stdin = Stdin::Descriptor(reading);
    assert!(matches!(guest.run_and_kill(polls, || true), Ended::Killed));
}

#[test]
fn a_missing_working_directory_is_made_or_told() {
    let mut guest = Guest::new();
    guest.working_dir = "/deep/er".to_owned();
    let out = guest.run(&module(r#"(func (export "_start"))"#));
    assert_eq!(exited(&out), 0);
    assert!(out.root.path().join("deep/er").is_dir());

    let mut guest = Guest::new();
    guest.working_dir = "/file/x".to_owned();
    fs::write(guest.path().join("file"), "").unwrap();
    let out = guest.run(&module(r#"(func (export "_start"))"#));
    let Ended::NotStarted(sentence) = out.ended else { panic!("{:?}", out.ended) };
    assert!(sentence.contains("/file/x"), "{sentence}");
}
