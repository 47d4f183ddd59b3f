//! Several plugins at one container: what each wants is done, and where two want the same both are
//! named.

use serde_json::{Value, json};

use super::*;
use crate::model::container::ContainerName;

fn everything() -> Grants {
    Grants::of(vec!["*".to_owned()])
}

fn main() -> ContainerConfig {
    let name = ContainerName { name: "main".to_owned(), attempt: 0 };
    ContainerConfig { name, ..ContainerConfig::default() }
}

fn adjust(plugin: &str, config: &mut ContainerConfig, wanted: Value) -> Outcome {
    let mut all = json!({
        "set_env": [], "remove_env": [], "add_mounts": [], "remove_mounts": [],
        "set_annotations": [], "remove_annotations": [], "rlimits": [], "updates": [], "other": [],
    });
    let Value::Object(wanted) = wanted else { panic!("{wanted}") };
    all.as_object_mut().unwrap().extend(wanted);
    let adjustment = serde_json::from_value(all).unwrap();
    Adjusting { plugin, grants: &everything(), config }.apply(adjustment)
}

/// Of the second of two, whose name is told behind the first's.
fn is_conflict(outcome: Outcome, field: &str) {
    let fault = outcome.unwrap_err();
    assert!(matches!(fault, Fault::Conflict(_)), "{fault:?}");
    let told = format!("plugins first and second both set {field} of container main");
    assert_eq!(Error::from(fault).to_string(), told);
}

fn mount(path: &str) -> Value {
    json!({"add_mounts": [{"container_path": path, "host_path": "/tmp", "access": "ReadOnly"}]})
}

fn rlimit(kind: &str, most: u64) -> Value {
    json!({"rlimits": [{"kind": kind, "most": most}]})
}

#[test]
fn two_plugins_that_want_the_same_are_both_named() {
    let annotation = json!({"set_annotations": [["told.example/by", "first"]]});
    for (one, other, field) in [
        (json!({"args": ["a"]}), json!({"args": ["a"]}), "args"),
        (json!({"set_env": [["A", "1"]]}), json!({"remove_env": ["A"]}), "env A"),
        (mount("/data/"), mount("//data"), "mount /data"),
        (mount("/data"), json!({"remove_mounts": ["/./data"]}), "mount /data"),
        (annotation.clone(), annotation.clone(), "annotation told.example/by"),
        (
            annotation,
            json!({"remove_annotations": ["told.example/by"]}),
            "annotation told.example/by",
        ),
        (rlimit("Descriptors", 9), rlimit("Descriptors", 8), "rlimits.descriptors"),
        (rlimit("Processes", 9), rlimit("Processes", 9), "rlimits.processes"),
        (
            json!({"resources": {"memory_limit": 1 << 20, "cpu_shares": 512}}),
            json!({"resources": {"cpuset_cpus": "0", "memory_limit": 2 << 20}}),
            "resources.memory-limit",
        ),
        (
            json!({"resources": {"cpuset_cpus": "0"}}),
            json!({"resources": {"cpuset_cpus": "1"}}),
            "resources.cpuset-cpus",
        ),
    ] {
        let mut config = main();
        adjust("first", &mut config, one.clone()).unwrap();
        // It may say its own once more.
        adjust("first", &mut config, one).unwrap();
        is_conflict(adjust("second", &mut config, other), field);
    }
}

#[test]
fn two_plugins_that_want_different_things_of_one_kind_get_both() {
    let mut config = main();
    for (plugin, wanted) in [
        ("first", json!({"set_env": [["A", "1"]]})),
        ("second", json!({"set_env": [["B", "2"]]})),
        ("first", mount("/data")),
        ("second", mount("/data/below")),
        ("first", rlimit("Descriptors", 9)),
        ("second", rlimit("Processes", 8)),
        ("first", json!({"set_annotations": [["a", "1"]]})),
        ("second", json!({"set_annotations": [["b", "2"]]})),
        ("first", json!({"resources": {"memory_limit": 1 << 20}})),
        ("second", json!({"resources": {"cpu_shares": 512}})),
    ] {
        adjust(plugin, &mut config, wanted).unwrap();
    }
    assert_eq!(config.env.len(), 2);
    let places: Vec<_> = config.mounts.iter().map(|mount| mount.container_path.as_str()).collect();
    assert_eq!(places, ["/data", "/data/below"]);
    assert_eq!((config.adjusted.descriptors, config.adjusted.processes), (Some(9), Some(8)));
    assert_eq!(config.annotations.len(), 2);
    assert_eq!((config.resources.memory_limit, config.resources.cpu_shares), (1 << 20, 512));
    assert_eq!(config.adjusted.plugins().into_iter().collect::<Vec<_>>(), ["first", "second"]);
}

#[test]
fn of_an_update_too_both_are_named_and_what_was_wrong_of_one_is_left_to_the_others() {
    let change = |wanted: Value| serde_json::from_value::<wit::ResourceChange>(wanted).unwrap();
    let wanted = Resources { memory_limit: 64 << 20, ..Resources::default() };
    let mut updating = Updating::new("main", &wanted);
    let grants = everything();
    let wrong = change(json!({"cpu_shares": 512, "cpu_quota": -7}));
    let fault = updating.apply("wrong", &grants, &wrong).unwrap_err();
    assert!(matches!(fault, Fault::Own(_)), "{fault:?}");
    let none = Grants::of(vec!["resources.memory-limit".to_owned()]);
    let fault = updating.apply("small", &none, &change(json!({"cpu_shares": 9}))).unwrap_err();
    let told =
        "plugin small: container main: changes resources.cpu-shares, which it was not granted";
    assert_eq!(Error::from(fault).to_string(), told);
    let shares = change(json!({"cpu_shares": 256}));
    updating.apply("first", &grants, &shares).unwrap();
    let both = change(json!({"cpu_shares": 256, "memory_limit": 1 << 20}));
    is_conflict(updating.apply("second", &grants, &both), "resources.cpu-shares");
    updating.apply("second", &grants, &change(json!({"cpuset_cpus": "0"}))).unwrap();
    let made = Resources { cpu_shares: 256, cpuset_cpus: "0".to_owned(), ..wanted };
    assert_eq!(updating.resources, made);
}
