//! The metrics' names, their help and their labels: cAdvisor's. Knows no value.

use crate::proto::cri;

/// The first labels of every metric: cAdvisor's own three, and those that the kubelet's endpoint
/// adds to them. Metrics of a pod have the name "POD" and neither image nor container, so that a
/// sum over containers does not count twice.
const LABELS: [&str; 6] = ["id", "name", "image", "container", "namespace", "pod"];

pub struct Known {
    pub name: &'static str,
    help: &'static str,
    pub kind: cri::MetricType,
    /// Besides [`LABELS`].
    labels: &'static [&'static str],
}

const fn counter(name: &'static str, help: &'static str) -> Known {
    Known { name, help, kind: cri::MetricType::Counter, labels: &[] }
}

const fn gauge(name: &'static str, help: &'static str) -> Known {
    Known { name, help, kind: cri::MetricType::Gauge, labels: &[] }
}

const fn with(labels: &'static [&'static str], known: Known) -> Known {
    Known { labels, ..known }
}

pub const CPU_USAGE: Known = with(
    &["cpu"],
    counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds."),
);
pub const MEMORY_USAGE: Known = gauge(
    "container_memory_usage_bytes",
    "Current memory usage in bytes, including all memory regardless of when it was accessed",
);
pub const MEMORY_WORKING_SET: Known =
    gauge("container_memory_working_set_bytes", "Current working set in bytes.");
pub const MEMORY_RSS: Known = gauge("container_memory_rss", "Size of RSS in bytes.");
pub const MEMORY_MAX: Known =
    gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes");
pub const MEMORY_FAILCNT: Known =
    counter("container_memory_failcnt", "Number of memory usage hits limits");
pub const MEMORY_LIMIT: Known =
    gauge("container_spec_memory_limit_bytes", "Memory limit for the container.");
pub const FS_USAGE: Known = gauge(
    "container_fs_usage_bytes",
    "Number of bytes that are consumed by the container on this filesystem.",
);
pub const FS_LIMIT: Known = gauge(
    "container_fs_limit_bytes",
    "Number of bytes that can be consumed by the container on this filesystem.",
);
pub const FS_INODES: Known = gauge("container_fs_inodes_total", "Number of Inodes");
pub const FS_INODES_FREE: Known = gauge("container_fs_inodes_free", "Number of available Inodes");
pub const LAST_SEEN: Known =
    gauge("container_last_seen", "Last time a container was seen by the exporter");
pub const START_TIME: Known = gauge(
    "container_start_time_seconds",
    "Start time of the container since unix epoch in seconds.",
);
pub const THREADS: Known =
    gauge("container_threads", "Number of threads running inside the container");
pub const DESCRIPTORS: Known =
    gauge("container_file_descriptors", "Number of open file descriptors for the container.");
pub const ULIMITS: Known = with(
    &["ulimit"],
    gauge("container_ulimits_soft", "Soft ulimit values for the container root process."),
);
pub const CPU_USER: Known =
    counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.");
pub const CPU_SYSTEM: Known = counter(
    "container_cpu_system_seconds_total",
    "Cumulative system cpu time consumed in seconds.",
);
pub const CPU_PERIOD: Known =
    gauge("container_spec_cpu_period", "CPU period of the container in microseconds.");
pub const CPU_QUOTA: Known =
    gauge("container_spec_cpu_quota", "CPU quota of the container in microseconds; 0 is none.");
pub const CPU_SHARES: Known = gauge("container_spec_cpu_shares", "CPU share of the container.");
pub const MEMORY_CACHE: Known =
    gauge("container_memory_cache", "Number of bytes of page cache memory.");
pub const MEMORY_MAPPED: Known =
    gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.");
pub const MEMORY_SWAP: Known = gauge("container_memory_swap", "Container swap usage in bytes.");
pub const MEMORY_FAILURES: Known = with(
    &["failure_type", "scope"],
    counter("container_memory_failures_total", "Cumulative count of memory allocation failures."),
);
pub const MEMORY_RESERVATION: Known = gauge(
    "container_spec_memory_reservation_limit_bytes",
    "Memory reservation limit for the container.",
);
pub const MEMORY_SWAP_LIMIT: Known =
    gauge("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.");
pub const OOM_EVENTS: Known = counter(
    "container_oom_events_total",
    "Count of out of memory events observed for the container",
);
pub const BLOCK_DEVICES: Known = with(
    &["device", "major", "minor", "operation"],
    counter("container_blkio_device_usage_total", "Blkio device bytes usage"),
);
pub const FS_READS: Known =
    counter("container_fs_reads_total", "Cumulative count of reads completed");
pub const FS_READ_BYTES: Known =
    counter("container_fs_reads_bytes_total", "Cumulative count of bytes read");
pub const FS_WRITES: Known =
    counter("container_fs_writes_total", "Cumulative count of writes completed");
pub const FS_WRITTEN_BYTES: Known =
    counter("container_fs_writes_bytes_total", "Cumulative count of bytes written");
pub const PROCESSES: Known =
    gauge("container_processes", "Number of processes running inside the container.");
pub const SOCKETS: Known = gauge("container_sockets", "Number of open sockets for the container.");
pub const THREADS_MAX: Known = gauge(
    "container_threads_max",
    "Maximum number of threads allowed inside the container, infinity if value is zero",
);
pub const RECEIVED: [Known; 4] = [
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
pub const SENT: [Known; 4] = [
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
    with(&["interface"], counter(name, help))
}

const ALL: [&Known; 36] = [
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
    &CPU_USER,
    &CPU_SYSTEM,
    &CPU_PERIOD,
    &CPU_QUOTA,
    &CPU_SHARES,
    &MEMORY_CACHE,
    &MEMORY_MAPPED,
    &MEMORY_SWAP,
    &MEMORY_FAILURES,
    &MEMORY_RESERVATION,
    &MEMORY_SWAP_LIMIT,
    &OOM_EVENTS,
    &BLOCK_DEVICES,
    &FS_READS,
    &FS_READ_BYTES,
    &FS_WRITES,
    &FS_WRITTEN_BYTES,
    &PROCESSES,
    &SOCKETS,
    &THREADS_MAX,
];

pub fn all() -> impl Iterator<Item = &'static Known> {
    ALL.into_iter().chain(&RECEIVED).chain(&SENT)
}

pub fn descriptors() -> Vec<cri::MetricDescriptor> {
    let described = |known: &Known| cri::MetricDescriptor {
        name: known.name.to_owned(),
        help: known.help.to_owned(),
        label_keys: LABELS.iter().chain(known.labels).map(|&label| label.to_owned()).collect(),
    };
    all().map(described).collect()
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
        for known in all() {
            let counts = known.name.ends_with("_total") && !known.name.contains("inodes");
            let counts = counts || known.name.ends_with("failcnt");
            assert_eq!(known.kind == cri::MetricType::Counter, counts, "{}", known.name);
        }
    }
    /// What critest asks for (cri-tools, pkg/validate/pod.go, as of Kubernetes 1.35).
    const ASKED_FOR: [&str; 40] = [
        "container_blkio_device_usage_total",
        "container_cpu_system_seconds_total",
        "container_cpu_usage_seconds_total",
        "container_cpu_user_seconds_total",
        "container_file_descriptors",
        "container_fs_reads_bytes_total",
        "container_fs_reads_total",
        "container_fs_usage_bytes",
        "container_fs_writes_bytes_total",
        "container_fs_writes_total",
        "container_last_seen",
        "container_memory_cache",
        "container_memory_failcnt",
        "container_memory_failures_total",
        "container_memory_mapped_file",
        "container_memory_max_usage_bytes",
        "container_memory_rss",
        "container_memory_swap",
        "container_memory_usage_bytes",
        "container_memory_working_set_bytes",
        "container_network_receive_bytes_total",
        "container_network_receive_errors_total",
        "container_network_receive_packets_dropped_total",
        "container_network_receive_packets_total",
        "container_network_transmit_bytes_total",
        "container_network_transmit_errors_total",
        "container_network_transmit_packets_dropped_total",
        "container_network_transmit_packets_total",
        "container_oom_events_total",
        "container_processes",
        "container_sockets",
        "container_spec_cpu_period",
        "container_spec_cpu_shares",
        "container_spec_memory_limit_bytes",
        "container_spec_memory_reservation_limit_bytes",
        "container_spec_memory_swap_limit_bytes",
        "container_start_time_seconds",
        "container_threads",
        "container_threads_max",
        "container_ulimits_soft",
    ];

    #[test]
    fn all_that_critest_asks_for_is_described() {
        let described: BTreeSet<&str> = all().map(|known| known.name).collect();
        for name in ASKED_FOR {
            assert!(described.contains(name), "{name}");
        }
    }
}
