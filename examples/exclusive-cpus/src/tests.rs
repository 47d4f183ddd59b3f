use wasmpod_guest::testing::{self, Node};

use super::*;

fn asking(name: &str, count: &str) -> Pod {
    testing::pod(name).with_annotation(COUNT, count)
}

fn cpus(text: &str) -> CpuSet {
    text.parse().unwrap()
}

#[test]
fn a_container_gets_whole_cores_and_the_shared_ones_leave_them() {
    let shared_pod = testing::pod("shared");
    let shared = testing::container(&shared_pod, "app").running();
    let mut agents = testing::pod("agents");
    agents.realm = Realm::Agent;
    // Of other CPUs than these.
    let elsewhere = testing::container(&agents, "app").running();
    let node = Node::new().cpus(8).pod(&shared_pod).container(&shared);
    let node = node.pod(&agents).container(&elsewhere);
    let pod = asking("own", "2");
    let container = testing::container(&pod, "app");

    let made = ExclusiveCpus.pre_create_container(&pod, &container).unwrap();
    assert_eq!(made.resources, Some(ResourceChange::new().cpuset_cpus(cpus("0,4"))));
    let left = ResourceChange::new().cpuset_cpus(cpus("1-3,5-7"));
    assert_eq!(made.updates, [Update::new(&shared.id, left.clone()).ignore_failure()]);
    assert_eq!(node.allocations()[&container.id], cpus("0,4"));

    // Who comes later shares what is left.
    let later = testing::container(&shared_pod, "later");
    let made = ExclusiveCpus.pre_create_container(&shared_pod, &later).unwrap();
    assert_eq!(made.resources, Some(left));
}

#[test]
fn at_its_end_the_shared_ones_have_its_cpus_again() {
    let pod = asking("own", "2");
    let container = testing::container(&pod, "app").running();
    let other = testing::container(&testing::pod("shared"), "app").running();
    let node = Node::new().cpus(4).container(&container).container(&other);
    cpu::allocate(&container.id, &cpus("0,2")).unwrap();

    let container = container.exited(0);
    let updates = ExclusiveCpus.container_exited(&pod, &container).unwrap();
    let all = ResourceChange::new().cpuset_cpus(cpus("0-3"));
    assert_eq!(updates, [Update::new(&other.id, all).ignore_failure()]);
    assert!(node.allocations().is_empty());
    assert!(ExclusiveCpus.post_stop_container(&pod, &container).unwrap().is_empty());
}

#[test]
fn one_cpu_stays_for_the_others() {
    let node = Node::new().cpus(4);
    let pod = asking("greedy", "4");
    let container = testing::container(&pod, "app");
    let error = ExclusiveCpus.pre_create_container(&pod, &container).unwrap_err();
    assert_eq!(error.message(), "no 4 exclusive CPUs: 4 are shared yet (0-3)");
    assert!(node.allocations().is_empty());
}

#[test]
fn a_container_is_counted_by_its_own_annotation_first() {
    let _node = Node::new().cpus(8);
    let pod = asking("mixed", "1").with_annotation(&format!("{COUNT}.big"), "3");
    let count = |name| wanted(&pod, &testing::container(&pod, name)).unwrap();
    assert_eq!((count("big"), count("small")), (Some(3), Some(1)));
    let error = wanted(&asking("wrong", "two"), &testing::container(&pod, "a")).unwrap_err();
    assert_eq!(
        error.message(),
        "exclusive-cpus.example/count is \"two\": it is a number of CPUs, 1 or more"
    );
}

#[test]
fn a_new_instance_takes_again_what_its_containers_have() {
    let pod = asking("own", "2");
    let mut container = testing::container(&pod, "app").running();
    container.resources.cpuset_cpus = cpus("1,3");
    let other = testing::container(&testing::pod("shared"), "app").running();
    let node = Node::new().cpus(4);
    cpu::allocate("of-a-container-that-is-gone", &cpus("0")).unwrap();

    let containers = [container.clone(), other.clone()];
    let updates = ExclusiveCpus.synchronize(&[pod], &containers).unwrap();
    assert_eq!(node.allocations(), [(container.id, cpus("1,3"))].into());
    let left = ResourceChange::new().cpuset_cpus(cpus("0,2"));
    assert_eq!(updates, [Update::new(&other.id, left).ignore_failure()]);
}

#[test]
fn a_kubelets_update_does_not_move_it() {
    let _node = Node::new().cpus(4);
    let pod = asking("own", "2");
    let container = testing::container(&pod, "app").running();
    cpu::allocate(&container.id, &cpus("0,2")).unwrap();
    let wanted = Resources { cpuset_cpus: cpus("0-3"), ..Resources::default() };
    let own = ExclusiveCpus.update_container(&pod, &container, &wanted).unwrap();
    assert_eq!(own, ResourceChange::new().cpuset_cpus(cpus("0,2")));
    let other = testing::container(&testing::pod("shared"), "app").running();
    let shared = ExclusiveCpus.update_container(&pod, &other, &wanted).unwrap();
    assert_eq!(shared, ResourceChange::new().cpuset_cpus(cpus("1,3")));
}
