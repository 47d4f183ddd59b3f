//! What containers and sandboxes use. Wrapped numbers are all present: an absent one means "not
//! measured" to a kubelet.

use std::path::Path;

use super::{container, sandbox};
use crate::model::container::Container;
use crate::proto::cri;
use crate::runtime::{ContainerUsage, INTERFACE, Interface, SandboxUsage};

pub fn count(value: u64) -> Option<cri::UInt64Value> {
    Some(cri::UInt64Value { value })
}

/// `root` is the folder in which writable roots lie.
pub fn of_container(usage: &ContainerUsage, root: &Path) -> cri::ContainerStats {
    cri::ContainerStats {
        attributes: Some(container::attributes(&usage.container)),
        cpu: Some(cpu(usage.timestamp, usage.cpu_nanos)),
        memory: Some(memory(usage.timestamp, usage.memory, usage.memory_limit)),
        writable_layer: usage.writable.map(|size| cri::FilesystemUsage {
            timestamp: usage.timestamp,
            fs_id: Some(cri::FilesystemIdentifier {
                mountpoint: root.to_string_lossy().into_owned(),
            }),
            used_bytes: count(size.bytes),
            inodes_used: count(size.inodes),
        }),
        swap: None,
        io: None,
    }
}

/// Of a container that does not run: who it is, and no numbers.
pub fn of_idle_container(container: &Container) -> cri::ContainerStats {
    cri::ContainerStats { attributes: Some(container::attributes(container)), ..Default::default() }
}

/// The shim counts a sandbox with all its containers.
pub fn of_sandbox(usage: &SandboxUsage, root: &Path) -> cri::PodSandboxStats {
    let sum = |of: fn(&ContainerUsage) -> u64| usage.containers.iter().map(of).sum::<u64>();
    let limits: Vec<u64> = usage.containers.iter().map(|usage| usage.memory_limit).collect();
    // A pod with one unlimited container is unlimited.
    let limit =
        if limits.iter().any(|limit| is_unlimited(*limit)) { 0 } else { limits.iter().sum() };
    cri::PodSandboxStats {
        attributes: Some(sandbox::attributes(&usage.sandbox)),
        linux: Some(cri::LinuxPodSandboxStats {
            cpu: Some(cpu(usage.timestamp, usage.cpu_nanos)),
            memory: Some(memory(usage.timestamp, usage.memory, limit)),
            network: network(usage),
            process: Some(cri::ProcessUsage {
                timestamp: usage.timestamp,
                process_count: count(1 + sum(|usage| usage.threads.into())),
            }),
            containers: usage.containers.iter().map(|usage| of_container(usage, root)).collect(),
            io: None,
        }),
        windows: None,
    }
}

/// Absent where the pod has no network of its own: the host's counters are not the pod's.
fn network(usage: &SandboxUsage) -> Option<cri::NetworkUsage> {
    let counted = |interface: &Interface| cri::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: count(interface.received.bytes),
        rx_errors: count(interface.received.errors),
        tx_bytes: count(interface.sent.bytes),
        tx_errors: count(interface.sent.errors),
    };
    if usage.interfaces.is_empty() {
        return None;
    }
    let (default, others): (Vec<_>, Vec<_>) =
        usage.interfaces.iter().partition(|interface| interface.name == INTERFACE);
    Some(cri::NetworkUsage {
        timestamp: usage.timestamp,
        default_interface: default.into_iter().map(counted).next(),
        interfaces: others.into_iter().map(counted).collect(),
    })
}

fn is_unlimited(limit: u64) -> bool {
    limit == 0 || limit > i64::MAX as u64
}

fn cpu(timestamp: i64, nanos: u64) -> cri::CpuUsage {
    cri::CpuUsage {
        timestamp,
        usage_core_nano_seconds: count(nanos),
        // The kubelet works the rate out of two samples itself where it is absent.
        usage_nano_cores: None,
        psi: None,
    }
}

/// Guests' memory is never page cache, so all of it is in use and none can be reclaimed.
fn memory(timestamp: i64, used: u64, limit: u64) -> cri::MemoryUsage {
    let available = if is_unlimited(limit) { None } else { count(limit.saturating_sub(used)) };
    cri::MemoryUsage {
        timestamp,
        working_set_bytes: count(used),
        available_bytes: available,
        usage_bytes: count(used),
        rss_bytes: count(used),
        page_faults: None,
        major_page_faults: None,
        psi: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_what_the_limit_leaves_and_absent_without_one() {
        let available = |used, limit| memory(1, used, limit).available_bytes.map(|v| v.value);
        assert_eq!(available(3, 10), Some(7));
        assert_eq!(available(11, 10), Some(0));
        assert_eq!(available(3, 0), None);
        assert_eq!(available(3, u64::MAX), None);
    }
}
