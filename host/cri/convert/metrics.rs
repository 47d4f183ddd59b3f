//! What containers and sandboxes use, under the names that cAdvisor gave these metrics and that
//! dashboards ask for. A metric of cAdvisor's that nothing here measures is not described at all:
//! guests have no page cache, swap, huge pages or load of their own, and nobody counts throttling.

use crate::model::container::{Container, ContainerState};
use crate::model::sandbox::Sandbox;
use crate::proto::cri;
use crate::runtime::{ContainerUsage, Disk, Interface, SandboxUsage};

/// The first labels of every metric: cAdvisor's own three, and those that the kubelet's endpoint
/// adds to them. Metrics of a pod have the name "POD" and neither image nor container, so that a
/// sum over containers does not count twice.
const LABELS: [&str; 6] = ["id", "name", "image", "container", "namespace", "pod"];

const POD: &str = "POD";

/// All CPUs together: what a thread's clock counts.
const EVERY_CPU: &str = "total";

const NANOS: u64 = 1_000_000_000;

struct Known {
    name: &'static str,
    help: &'static str,
    kind: cri::MetricType,
    /// Besides [`LABELS`].
    label: Option<&'static str>,
}

const fn counter(name: &'static str, help: &'static str) -> Known {
    Known { name, help, kind: cri::MetricType::Counter, label: None }
}

const fn gauge(name: &'static str, help: &'static str) -> Known {
    Known { name, help, kind: cri::MetricType::Gauge, label: None }
}

const fn with(label: &'static str, known: Known) -> Known {
    Known { label: Some(label), ..known }
}

const CPU_USAGE: Known = with(
    "cpu",
    counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds."),
);
const MEMORY_USAGE: Known = gauge(
    "container_memory_usage_bytes",
    "Current memory usage in bytes, including all memory regardless of when it was accessed",
);
const MEMORY_WORKING_SET: Known =
    gauge("container_memory_working_set_bytes", "Current working set in bytes.");
const MEMORY_RSS: Known = gauge("container_memory_rss", "Size of RSS in bytes.");
const MEMORY_MAX: Known =
    gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes");
const MEMORY_FAILCNT: Known =
    counter("container_memory_failcnt", "Number of memory usage hits limits");
const MEMORY_LIMIT: Known =
    gauge("container_spec_memory_limit_bytes", "Memory limit for the container.");
const FS_USAGE: Known = gauge(
    "container_fs_usage_bytes",
    "Number of bytes that are consumed by the container on this filesystem.",
);
const FS_LIMIT: Known = gauge(
    "container_fs_limit_bytes",
    "Number of bytes that can be consumed by the container on this filesystem.",
);
const FS_INODES: Known = gauge("container_fs_inodes_total", "Number of Inodes");
const FS_INODES_FREE: Known = gauge("container_fs_inodes_free", "Number of available Inodes");
const LAST_SEEN: Known =
    gauge("container_last_seen", "Last time a container was seen by the exporter");
const START_TIME: Known = gauge(
    "container_start_time_seconds",
    "Start time of the container since unix epoch in seconds.",
);
const THREADS: Known = gauge("container_threads", "Number of threads running inside the container");
const DESCRIPTORS: Known =
    gauge("container_file_descriptors", "Number of open file descriptors for the container.");
const ULIMITS: Known = with(
    "ulimit",
    gauge("container_ulimits_soft", "Soft ulimit values for the container root process."),
);
const RECEIVED: [Known; 4] = [
    network("container_network_receive_bytes_total", "Cumulative count of bytes received"),
    network("container_network_receive_packets_total", "Cumulative count of packets received"),
    network(
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
    ),
    network(
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving",
    ),
];
const SENT: [Known; 4] = [
    network("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted"),
    network("container_network_transmit_packets_total", "Cumulative count of packets transmitted"),
    network(
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
    ),
    network(
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting",
    ),
];

const fn network(name: &'static str, help: &'static str) -> Known {
    with("interface", counter(name, help))
}

const ALL: [&Known; 16] = [
    &CPU_USAGE,
    &MEMORY_USAGE,
    &MEMORY_WORKING_SET,
    &MEMORY_RSS,
    &MEMORY_MAX,
    &MEMORY_FAILCNT,
    &MEMORY_LIMIT,
    &FS_USAGE,
    &FS_LIMIT,
    &FS_INODES,
    &FS_INODES_FREE,
    &LAST_SEEN,
    &START_TIME,
    &THREADS,
    &DESCRIPTORS,
    &ULIMITS,
];

pub fn descriptors() -> Vec<cri::MetricDescriptor> {
    let described = |known: &Known| cri::MetricDescriptor {
        name: known.name.to_owned(),
        help: known.help.to_owned(),
        label_keys: LABELS.into_iter().chain(known.label).map(str::to_owned).collect(),
    };
    ALL.into_iter().chain(&RECEIVED).chain(&SENT).map(described).collect()
}

/// Of one sandbox and its running containers.
pub fn of_sandbox(usage: &SandboxUsage, disk: Disk) -> cri::PodSandboxMetrics {
    let sandbox = &usage.sandbox;
    let mut samples = Samples::new(of_pod(sandbox), usage.timestamp);
    samples.take_of(&CPU_USAGE, EVERY_CPU, usage.cpu_nanos / NANOS);
    samples.take(&MEMORY_USAGE, usage.memory);
    samples.take(&MEMORY_WORKING_SET, usage.memory);
    samples.take(&LAST_SEEN, seconds(usage.timestamp));
    samples.take(&START_TIME, seconds(sandbox.created_at));
    for Interface { name, received, sent } in &usage.interfaces {
        for (known, flow) in [(&RECEIVED, received), (&SENT, sent)] {
            let counted = [flow.bytes, flow.packets, flow.errors, flow.dropped];
            known.iter().zip(counted).for_each(|(known, value)| {
                samples.take_of(known, name, value);
            });
        }
    }
    cri::PodSandboxMetrics {
        pod_sandbox_id: sandbox.id.to_string(),
        metrics: samples.taken,
        container_metrics: usage
            .containers
            .iter()
            .map(|c| of_container(c, sandbox, disk))
            .collect(),
    }
}

fn of_container(usage: &ContainerUsage, sandbox: &Sandbox, disk: Disk) -> cri::ContainerMetrics {
    let container = &usage.container;
    let mut samples = Samples::new(of_one(container, sandbox), usage.timestamp);
    samples.take_of(&CPU_USAGE, EVERY_CPU, usage.cpu_nanos / NANOS);
    samples.take(&MEMORY_USAGE, usage.memory);
    // Guests' memory is never page cache, so all of it is in use.
    samples.take(&MEMORY_WORKING_SET, usage.memory);
    samples.take(&MEMORY_RSS, usage.memory);
    samples.take(&MEMORY_MAX, usage.memory_peak);
    samples.take(&MEMORY_FAILCNT, usage.memory_refusals);
    samples.take(&MEMORY_LIMIT, usage.memory_limit);
    if let Some(size) = usage.writable {
        samples.take(&FS_USAGE, size.bytes);
    }
    samples.take(&FS_LIMIT, disk.bytes);
    samples.take(&FS_INODES, disk.inodes);
    samples.take(&FS_INODES_FREE, disk.inodes_free);
    samples.take(&LAST_SEEN, seconds(usage.timestamp));
    if let ContainerState::Running { started_at } = container.state {
        samples.take(&START_TIME, seconds(started_at));
    }
    samples.take(&THREADS, usage.threads.into());
    samples.take(&DESCRIPTORS, usage.descriptors.into());
    if usage.descriptors_limit > 0 {
        samples.take_of(&ULIMITS, "max_open_files", usage.descriptors_limit.into());
    }
    cri::ContainerMetrics { container_id: container.id.to_string(), metrics: samples.taken }
}

fn of_pod(sandbox: &Sandbox) -> [String; 6] {
    let name = &sandbox.config.name;
    let of = [sandbox.id.as_str(), POD, "", "", name.namespace.as_str(), name.name.as_str()];
    of.map(str::to_owned)
}

fn of_one(container: &Container, sandbox: &Sandbox) -> [String; 6] {
    let (pod, name) = (&sandbox.config.name, &container.config.name.name);
    let image = match &container.config.image {
        spec if spec.user_specified_image.is_empty() => &spec.image,
        spec => &spec.user_specified_image,
    };
    [container.id.as_str(), name, image, name, &pod.namespace, &pod.name].map(str::to_owned)
}

fn seconds(nanos: i64) -> u64 {
    u64::try_from(nanos).unwrap_or_default() / NANOS
}

/// The samples of one owner.
struct Samples {
    owner: [String; 6],
    at: i64,
    taken: Vec<cri::Metric>,
}

impl Samples {
    fn new(owner: [String; 6], at: i64) -> Self {
        Self { owner, at, taken: Vec::with_capacity(ALL.len()) }
    }

    fn take(&mut self, known: &Known, value: u64) {
        self.add(known, None, value);
    }

    /// A metric with a label of its own.
    fn take_of(&mut self, known: &Known, label: &str, value: u64) {
        self.add(known, Some(label.to_owned()), value);
    }

    fn add(&mut self, known: &Known, label: Option<String>, value: u64) {
        self.taken.push(cri::Metric {
            name: known.name.to_owned(),
            timestamp: self.at,
            metric_type: known.kind.into(),
            label_values: self.owner.iter().cloned().chain(label).collect(),
            value: Some(cri::UInt64Value { value }),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_described_once_and_as_prometheus_wants_it() {
        let described = descriptors();
        let names: BTreeSet<&str> = described.iter().map(|known| known.name.as_str()).collect();
        assert_eq!(names.len(), described.len());
        for known in &described {
            assert!(known.name.starts_with("container_") && !known.help.is_empty(), "{known:?}");
            let keys: BTreeSet<&String> = known.label_keys.iter().collect();
            assert_eq!(keys.len(), known.label_keys.len());
        }
        for known in ALL.into_iter().chain(&RECEIVED).chain(&SENT) {
            let counts = known.name.ends_with("_total") && !known.name.contains("inodes");
            let counts = counts || known.name.ends_with("failcnt");
            assert_eq!(known.kind == cri::MetricType::Counter, counts, "{}", known.name);
        }
    }
}
