//! Keeps a pod on one NUMA node, CPUs and memory. The pod's annotation `numa-affinity.example/node`
//! names the node, or says "auto": that which has most memory free when the pod's first container
//! is made.

use std::collections::HashMap;

use wasmpod_guest::*;

const NODE: &str = "numa-affinity.example/node";

#[derive(Default)]
struct NumaAffinity {
    /// By pod: its containers stay together.
    chosen: HashMap<String, u32>,
}

impl Plugin for NumaAffinity {
    const HOOKS: Hooks = Hooks::PRE_CREATE_CONTAINER.and(Hooks::REMOVE_POD_SANDBOX);

    fn synchronize(&mut self, pods: &[Pod], containers: &[Container]) -> Result<Vec<Update>> {
        for container in containers {
            let ours = |pod: &&Pod| pod.id == container.pod_id && pod.annotation(NODE).is_some();
            let pod = pods.iter().find(ours);
            if let (Some(pod), Some(node)) = (pod, container.resources.cpuset_mems.iter().next()) {
                self.chosen.insert(pod.id.clone(), node);
            }
        }
        Ok(Vec::new())
    }

    fn pre_create_container(&mut self, pod: &Pod, _: &Container) -> Result<Adjustment> {
        let Some(wanted) = pod.annotation(NODE) else { return Ok(Adjustment::new()) };
        let topology = cpu::topology();
        let node = match (self.chosen.get(&pod.id), wanted) {
            (Some(node), _) => *node,
            (None, "auto") => roomiest().context("this machine tells of no NUMA node")?,
            (None, name) => match name.parse() {
                Ok(node) if topology.nodes.contains(&node) => node,
                _ => bail!("{NODE} is \"{name}\": there are nodes {:?}, and auto", topology.nodes),
            },
        };
        let cpus = topology.node(node).intersection(&cpu::shared_pool()?);
        if cpus.is_empty() {
            bail!("NUMA node {node} has no shared CPU left");
        }
        self.chosen.insert(pod.id.clone(), node);
        Ok(Adjustment::new().cpuset_cpus(cpus).cpuset_mems([node].into()))
    }

    fn remove_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        self.chosen.remove(&pod.id);
        Ok(())
    }
}

plugin!(
    NumaAffinity,
    functions: ["cpu.topology", "cpu.shared-pool", "memory.nodes"],
    fields: ["resources.cpuset-cpus", "resources.cpuset-mems"],
);

/// Where most memory is free; of equals the first.
fn roomiest() -> Option<u32> {
    let nodes = memory::nodes();
    let most = nodes.iter().map(|node| node.free).max()?;
    nodes.iter().find(|node| node.free == most).map(|node| node.id)
}

#[cfg(test)]
mod tests {
    use wasmpod_guest::testing::{self, Machine, Node};

    use super::*;

    /// CPUs 0,1,4,5 on node 0, 2,3,6,7 on node 1.
    fn machine() -> Node {
        Node::new().machine(Machine {
            sockets: 2,
            nodes_of_a_socket: 1,
            cores_of_a_node: 2,
            threads_of_a_core: 2,
        })
    }

    fn create(plugin: &mut NumaAffinity, pod: &Pod) -> Result<Adjustment> {
        plugin.pre_create_container(pod, &testing::container(pod, "app"))
    }

    fn on(cpus: &str, node: u32) -> Adjustment {
        Adjustment::new().cpuset_cpus(cpus.parse().unwrap()).cpuset_mems([node].into())
    }

    #[test]
    fn a_named_node_gives_cpus_and_memory() {
        let _node = machine();
        let pod = testing::pod("db").with_annotation(NODE, "1");
        assert_eq!(create(&mut NumaAffinity::default(), &pod), Ok(on("2,3,6,7", 1)));
        let free = testing::pod("web");
        assert_eq!(create(&mut NumaAffinity::default(), &free), Ok(Adjustment::new()));
    }

    #[test]
    fn auto_is_the_node_with_most_free_memory_and_a_pod_stays_there() {
        let node = machine().free_memory(0, 1 << 30);
        let mut plugin = NumaAffinity::default();
        let pod = testing::pod("db").with_annotation(NODE, "auto");
        assert_eq!(create(&mut plugin, &pod), Ok(on("2,3,6,7", 1)));
        let _node = node.free_memory(1, 0);
        assert_eq!(create(&mut plugin, &pod), Ok(on("2,3,6,7", 1)));
        plugin.remove_pod_sandbox(&pod).unwrap();
        assert_eq!(create(&mut plugin, &pod), Ok(on("0,1,4,5", 0)));
    }

    #[test]
    fn a_new_instance_learns_where_pods_are() {
        let _node = machine();
        let mut plugin = NumaAffinity::default();
        let pod = testing::pod("db").with_annotation(NODE, "auto");
        let mut running = testing::container(&pod, "first").running();
        running.resources.cpuset_mems = [1].into();
        plugin.synchronize(std::slice::from_ref(&pod), &[running]).unwrap();
        assert_eq!(create(&mut plugin, &pod), Ok(on("2,3,6,7", 1)));
    }

    #[test]
    fn a_node_that_is_not_there_is_refused() {
        let _node = machine();
        let pod = testing::pod("db").with_annotation(NODE, "7");
        assert_eq!(
            create(&mut NumaAffinity::default(), &pod).unwrap_err().message(),
            "numa-affinity.example/node is \"7\": there are nodes [0, 1], and auto"
        );
    }

    #[test]
    fn exclusive_cpus_of_others_are_left_alone() {
        let _node = machine().allocated("other", "2,6".parse().unwrap());
        let pod = testing::pod("db").with_annotation(NODE, "1");
        assert_eq!(create(&mut NumaAffinity::default(), &pod), Ok(on("3,7", 1)));
    }
}
