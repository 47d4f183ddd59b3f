//! Which CPUs: of one NUMA node if one has enough, whole cores first.

use wasmpod_guest::CpuSet;
use wasmpod_guest::cpu::Topology;

/// None where fewer than `count` are free.
pub fn choose(topology: &Topology, free: &CpuSet, count: usize) -> Option<CpuSet> {
    let of_node = |node: &u32| topology.node(*node).intersection(free);
    // The node that has the fewest left over keeps the others whole.
    let node = topology.nodes.iter().map(of_node).filter(|cpus| cpus.len() >= count);
    match node.min_by_key(CpuSet::len) {
        Some(node) => Some(take(topology, &node, count)),
        None if free.len() >= count => Some(take(topology, free, count)),
        None => None,
    }
}

/// Whole cores as long as they fit; then threads of cores that are already shared, then others.
fn take(topology: &Topology, free: &CpuSet, count: usize) -> CpuSet {
    let mut taken = CpuSet::new();
    let cores = topology.cores();
    let (whole, broken): (Vec<_>, Vec<_>) = cores.iter().partition(|core| core.is_subset(free));
    for core in &whole {
        if taken.len() + core.len() <= count {
            taken.extend(core.iter());
        }
    }
    for core in broken.iter().chain(&whole) {
        let left = core.intersection(free).difference(&taken);
        taken.extend(left.iter().take(count - taken.len()));
    }
    taken
}

#[cfg(test)]
mod tests {
    use wasmpod_guest::testing::Machine;

    use super::*;

    /// Two nodes with three cores of two threads: CPUs 0-2,6-8 and 3-5,9-11.
    const MACHINE: Machine =
        Machine { sockets: 2, nodes_of_a_socket: 1, cores_of_a_node: 3, threads_of_a_core: 2 };

    #[track_caller]
    fn assert_chosen(free: &str, count: usize, chosen: Option<&str>) {
        let set = choose(&MACHINE.topology(), &free.parse().unwrap(), count);
        assert_eq!(set.map(|set| set.to_string()).as_deref(), chosen);
    }

    #[test]
    fn siblings_go_together() {
        assert_chosen("0-11", 2, Some("0,6"));
        assert_chosen("0-11", 4, Some("0-1,6-7"));
    }

    #[test]
    fn an_odd_one_comes_from_a_core_that_is_shared_already() {
        assert_chosen("0-2,7,8", 3, Some("0-1,7"));
        assert_chosen("1-11", 1, Some("6"));
    }

    #[test]
    fn one_node_if_one_has_enough_and_the_fullest_first() {
        assert_chosen("0-5,6,9-11", 4, Some("0-2,6"));
        assert_chosen("0-11", 8, Some("0-3,6-9"));
        assert_chosen("2-5,8-11", 2, Some("2,8"));
    }

    #[test]
    fn more_than_there_are_is_none() {
        assert_chosen("0,1", 3, None);
    }
}
