//! The fake node holds a plugin to what its manifest asks for.

use wasmpod_guest::testing::{Node, container, pod};
use wasmpod_guest::*;

#[derive(Default)]
struct Modest;

impl Plugin for Modest {
    const HOOKS: Hooks = Hooks::PRE_CREATE_CONTAINER;
}

plugin!(
    Modest,
    functions: ["cpu.allocate", "cpu.pin", "containers", "pods.list"],
    fields: ["resources.cpuset-cpus"],
    namespaces: ["own"],
);

/// A node with a container of the plugin's own namespace, and one of another.
fn node() -> (Node, [Container; 2]) {
    let of = |namespace: &str, id: &str| {
        let pod = Pod { id: id.to_owned(), namespace: namespace.to_owned(), ..pod(id) };
        let container = Container {
            id: format!("{id}-c"),
            state: ContainerState::Running,
            ..container(&pod, "main")
        };
        (pod, container)
    };
    let (own, other) = (of("own", "a"), of("other", "b"));
    let node = Node::new().cpus(4).pod(&own.0).pod(&other.0);
    (node.container(&own.1).container(&other.1), [own.1, other.1])
}

#[test]
fn what_was_asked_for_is_given() {
    let (node, [own, _]) = node();
    cpu::allocate(&own.id, &CpuSet::from([1])).unwrap();
    cpu::pin(&own.id, &CpuSet::from([2])).unwrap();
    assert_eq!(node.updates().len(), 1);
}

#[test]
#[should_panic = "the plugin calls cpu.topology and does not ask for it: add \"cpu.topology\" to"]
fn a_function_that_was_not_asked_for_fails_the_test() {
    let _node = node();
    cpu::topology();
}

#[test]
#[should_panic = "the plugin calls kv.set and does not ask for it"]
fn an_interface_that_was_not_asked_for_fails_the_test() {
    let _node = node();
    kv::set("key", "value").unwrap();
}

#[test]
#[should_panic = "the plugin changes resources.memory-limit and does not ask for it"]
fn a_field_that_was_not_asked_for_fails_the_test() {
    let (_node, [own, _]) = node();
    let change = ResourceChange::new().memory_limit(1 << 20);
    containers::update(&[Update::new(own.id, change)]).unwrap();
}

#[test]
fn what_is_another_namespaces_is_not_there() {
    let (_node, [own, other]) = node();
    assert_eq!(pods::list().len(), 1);
    assert_eq!(containers::list(), [own]);
    assert_eq!(containers::get(&other.id), None);
    let error = cpu::pin(&other.id, &CpuSet::from([1])).unwrap_err();
    assert_eq!(error.to_string(), format!("container {} not found", other.id));
}

#[test]
fn the_log_and_the_settings_are_for_everybody() {
    let (node, _) = node();
    info!("here");
    assert_eq!(config::get("none"), None);
    assert_eq!(node.log().len(), 1);
}
