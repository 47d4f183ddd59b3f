//! Small components of 0.3, run as a container runs them. Streams need a guest with bindings:
//! examples/p3-command.

use rustix::io::Errno;
use wasmtime_wasi::p3::bindings::filesystem::types::ErrorCode;

use super::*;
use crate::shim::wasi::component::testing::World;

/// A command whose entry is `body`.
fn component(world: &World, body: &str) -> Component {
    let wat = r#"(component
        (import "wasi:cli/exit@0.3.0" (instance $exit
            (export "exit-with-code" (func (param "status-code" u8)))))
        (core func $exit-core (canon lower (func $exit "exit-with-code")))
        (core module $guest
            (import "host" "exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "run") (result i32) BODY))
        (core instance $instance (instantiate $guest
            (with "host" (instance (export "exit" (func $exit-core))))))
        (func $run async (result (result)) (canon lift (core func $instance "run")))
        (instance $entry (export "run" (func $run)))
        (export "wasi:cli/run@0.3.0" (instance $entry)))"#;
    Component::new(&world.engines.mapped, wat::parse_str(wat.replace("BODY", body)).unwrap())
        .unwrap()
}

fn program(world: &World, body: &str) -> Program {
    let component = component(world, body);
    Program::link(&world.engines.mapped, &component).unwrap()
}

#[test]
fn exit_codes_are_exact() {
    for (body, expected) in
        [("(call $exit (i32.const 42)) i32.const 0", 42), ("i32.const 0", 0), ("i32.const 1", 1)]
    {
        let world = World::new();
        match program(&world, body).run(world.context(&["guest"])) {
            Ended::Exited(code) => assert_eq!(code, expected, "{body}"),
            ended => panic!("{ended:?}"),
        }
        assert_eq!((world.ledger.memory.used(), world.ledger.descriptors.used()), (0, 0));
    }
}

#[test]
fn traps_and_kills_end_it_as_any_guest() {
    let world = World::new();
    let ended = program(&world, "unreachable").run(world.context(&["guest"]));
    assert!(matches!(&ended, Ended::Trapped(text) if text.contains("unreachable")), "{ended:?}");

    let program = program(&world, "(loop $spin (br $spin)) unreachable");
    let context = world.context(&["guest"]);
    let running = || world.ledger.memory.used() > 0;
    let ended = world.killed_when(move || program.run(context), running);
    assert!(matches!(ended, Ended::Killed), "{ended:?}");
}

#[test]
fn a_command_of_0_2_is_none_of_0_3() {
    let world = World::new();
    let component =
        Component::new(&world.engines.mapped, wat::parse_str("(component)").unwrap()).unwrap();
    let Err(sentence) = Program::link(&world.engines.mapped, &component) else {
        panic!("it links")
    };
    assert!(sentence.contains("exports nothing"), "{sentence}");
}

#[test]
fn every_errno_keeps_its_meaning() {
    assert!(matches!(convert::code(Errno::ROFS), ErrorCode::ReadOnly));
    assert!(matches!(convert::code(Errno::XDEV), ErrorCode::CrossDevice));
    assert!(matches!(convert::code(Errno::DQUOT), ErrorCode::Quota));
    assert!(matches!(convert::code(Errno::LOOP), ErrorCode::Loop));
    assert!(matches!(convert::code(Errno::NOSPC), ErrorCode::InsufficientSpace));
    assert!(matches!(convert::code(Errno::MFILE), ErrorCode::InsufficientMemory));
    assert!(matches!(convert::code(Errno::HOSTDOWN), ErrorCode::Other(Some(_))));
}
