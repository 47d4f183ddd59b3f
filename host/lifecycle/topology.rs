//! The machine as the kernel describes it: CPUs, caches, NUMA nodes. Reads /sys.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::bindings::{cpu, memory};
use super::lock;
use crate::model::cpuset::CpuSet;

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";

/// For how long the machine is taken to have the same CPUs: plugins ask at every container.
const STEADY: Duration = Duration::from_secs(1);

/// The CPUs that are online.
pub fn online() -> CpuSet {
    static SEEN: Mutex<Option<(Instant, CpuSet)>> = Mutex::new(None);
    let mut seen = lock(&SEEN);
    match &*seen {
        Some((since, cpus)) if since.elapsed() < STEADY => cpus.clone(),
        _ => {
            let cpus = online_in(Path::new(CPUS));
            *seen = Some((Instant::now(), cpus.clone()));
            cpus
        }
    }
}

fn online_in(cpus: &Path) -> CpuSet {
    let text = fs::read_to_string(cpus.join("online")).unwrap_or_default();
    CpuSet::parse(&text).unwrap_or_default()
}

pub fn layout() -> cpu::Layout {
    layout_in(Path::new(CPUS), Path::new(NODES))
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn layout_in(cpus: &Path, nodes: &Path) -> cpu::Layout {
    let of_nodes: Vec<(u32, CpuSet)> = numbered(nodes, "node")
        .into_iter()
        .map(|node| {
            let list = fs::read_to_string(nodes.join(format!("node{node}/cpulist")));
            (node, list.ok().and_then(|list| CpuSet::parse(&list).ok()).unwrap_or_default())
        })
        .collect();
    let (mut found, mut caches) = (Vec::new(), BTreeSet::new());
    for id in online_in(cpus).iter() {
        let folder = cpus.join(format!("cpu{id}"));
        let node = of_nodes.iter().find(|(_, cpus)| cpus.contains(id)).map_or(0, |(node, _)| *node);
        found.push(cpu::Cpu {
            id: u32::try_from(id).unwrap_or(u32::MAX),
            core: number(&folder.join("topology/core_id")).unwrap_or(0),
            // A virtual machine may tell -1.
            socket: number(&folder.join("topology/physical_package_id")).unwrap_or(0),
            node,
        });
        for index in numbered(&folder.join("cache"), "index") {
            caches.extend(cache(&folder.join(format!("cache/index{index}"))));
        }
    }
    let nodes = of_nodes.into_iter().map(|(node, _)| node).collect();
    let cache = |(level, kind, cpus, size)| cpu::Cache { level, kind, size, cpus };
    cpu::Layout { cpus: found, caches: caches.into_iter().map(cache).collect(), nodes }
}

/// Level, kind, the CPUs that share it, bytes.
fn cache(folder: &Path) -> Option<(u32, String, String, u64)> {
    let text = |name: &str| Some(fs::read_to_string(folder.join(name)).ok()?.trim().to_lowercase());
    let size = text("size")?;
    let kib: u64 = size.strip_suffix('k')?.parse().ok()?;
    let cpus = CpuSet::parse(&text("shared_cpu_list")?).ok()?;
    Some((text("level")?.parse().ok()?, text("type")?, cpus.to_string(), kib << 10))
}

/// The numbers of entries that are called `word` and a number.
fn numbered(folder: &Path, word: &str) -> BTreeSet<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(word)?.parse().ok())
        .collect()
}

pub fn nodes() -> Vec<memory::Node> {
    nodes_in(Path::new(NODES))
}

fn nodes_in(nodes: &Path) -> Vec<memory::Node> {
    let node = |id: u32| {
        let folder = nodes.join(format!("node{id}"));
        let text = fs::read_to_string(folder.join("meminfo")).unwrap_or_default();
        let kib = |what: &str| {
            let line = text.lines().find(|line| line.contains(what))?;
            line.split_whitespace().rev().nth(1)?.parse::<u64>().ok()
        };
        let distances = fs::read_to_string(folder.join("distance")).unwrap_or_default();
        memory::Node {
            id,
            total: kib("MemTotal:").unwrap_or(0) << 10,
            free: kib("MemFree:").unwrap_or(0) << 10,
            distances: distances.split_whitespace().filter_map(|d| d.parse().ok()).collect(),
        }
    };
    numbered(nodes, "node").into_iter().map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn two_sockets_with_two_threads_a_core_are_told_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (cpus, nodes) = (folder.path().join("cpu"), folder.path().join("node"));
        write(&cpus.join("online"), "0-3\n");
        for id in 0..4 {
            let own = cpus.join(format!("cpu{id}"));
            write(&own.join("topology/core_id"), "0\n");
            write(&own.join("topology/physical_package_id"), &format!("{}\n", id / 2));
            for (index, kind) in [(0, "Data"), (1, "Unified")] {
                let cache = own.join(format!("cache/index{index}"));
                write(&cache.join("level"), &format!("{}\n", 1 + 2 * index));
                write(&cache.join("type"), &format!("{kind}\n"));
                write(&cache.join("size"), "32K\n");
                write(
                    &cache.join("shared_cpu_list"),
                    &format!("{}-{}\n", id / 2 * 2, id / 2 * 2 + 1),
                );
            }
        }
        for node in 0..2 {
            let own = nodes.join(format!("node{node}"));
            write(&own.join("cpulist"), &format!("{}-{}\n", node * 2, node * 2 + 1));
            write(
                &own.join("meminfo"),
                &format!("Node {node} MemTotal: 8 kB\nNode {node} MemFree: 4 kB\n"),
            );
            write(&own.join("distance"), "10 21\n");
        }
        let layout = layout_in(&cpus, &nodes);
        let places: Vec<_> = layout.cpus.iter().map(|c| (c.id, c.core, c.socket, c.node)).collect();
        assert_eq!(places, [(0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 1, 1), (3, 0, 1, 1)]);
        assert_eq!(layout.nodes, [0, 1]);
        let caches: Vec<_> = layout
            .caches
            .iter()
            .map(|c| (c.level, c.kind.as_str(), c.cpus.as_str(), c.size))
            .collect();
        assert_eq!(
            caches,
            [
                (1, "data", "0-1", 32768),
                (1, "data", "2-3", 32768),
                (3, "unified", "0-1", 32768),
                (3, "unified", "2-3", 32768),
            ]
        );
        let told = nodes_in(&nodes);
        assert_eq!((told[1].total, told[1].free), (8192, 4096));
        assert_eq!(told[0].distances, [10, 21]);
    }

    #[test]
    fn this_machine_has_cpus_and_a_node() {
        let layout = layout();
        assert_eq!(layout.cpus.len(), online().iter().count());
        assert!(!layout.cpus.is_empty());
    }
}
