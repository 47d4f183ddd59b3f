//! What containers and sandboxes use, under the names that cAdvisor gave these metrics and that
//! dashboards ask for. Guests have no page cache, swap or mapped files of their own and no device:
//! those are there as the zeros that they are, because who asks wants to find them.

mod known;

use crate::model::container::{Container, ContainerState};
use crate::model::cpu_time::{PERIOD, SHARES};
use crate::model::sandbox::Sandbox;
use crate::model::work::Work;
use crate::proto::cri;
use crate::runtime::{ContainerUsage, Disk, Interface, SandboxUsage};

pub use known::descriptors;
use known::{Known, RECEIVED, SENT};

const POD: &str = "POD";

/// All CPUs together: what a thread's clock counts.
const EVERY_CPU: &str = "total";

const NANOS: u64 = 1_000_000_000;

/// Of one sandbox and its running containers.
pub fn of_sandbox(usage: &SandboxUsage, disk: Disk) -> cri::PodSandboxMetrics {
    let sandbox = &usage.sandbox;
    let mut samples = Samples::new(of_pod(sandbox), usage.timestamp);
    samples.take_of(&known::CPU_USAGE, &[EVERY_CPU], usage.cpu_nanos / NANOS);
    samples.take_times(&usage.work);
    samples.take(&known::MEMORY_USAGE, usage.memory);
    samples.take(&known::MEMORY_WORKING_SET, usage.memory);
    samples.take(&known::OOM_EVENTS, usage.memory_kills);
    samples.take(&known::LAST_SEEN, seconds(usage.timestamp));
    samples.take(&known::START_TIME, seconds(sandbox.created_at));
    for Interface { name, received, sent } in &usage.interfaces {
        for (known, flow) in [(&RECEIVED, received), (&SENT, sent)] {
            let counted = [flow.bytes, flow.packets, flow.errors, flow.dropped];
            known.iter().zip(counted).for_each(|(known, value)| {
                samples.take_of(known, &[name], value);
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
    samples.take_of(&known::CPU_USAGE, &[EVERY_CPU], usage.cpu_nanos / NANOS);
    samples.take_times(&usage.work);
    samples.take(&known::MEMORY_USAGE, usage.memory);
    // Guests' memory is never page cache, so all of it is in use.
    samples.take(&known::MEMORY_WORKING_SET, usage.memory);
    samples.take(&known::MEMORY_RSS, usage.memory);
    samples.take(&known::MEMORY_MAX, usage.memory_peak);
    samples.take(&known::MEMORY_FAILCNT, usage.memory_refusals);
    samples.take(&known::MEMORY_LIMIT, usage.memory_limit);
    samples.take(&known::OOM_EVENTS, usage.memory_kills);
    for (kind, faults) in [("pgfault", usage.work.faults), ("pgmajfault", usage.work.major_faults)]
    {
        samples.take_of(&known::MEMORY_FAILURES, &[kind, "container"], faults);
    }
    samples.take_applied(container);
    samples.take_absent();
    samples.take(&known::FS_READS, usage.work.reads);
    samples.take(&known::FS_READ_BYTES, usage.work.read_bytes);
    samples.take(&known::FS_WRITES, usage.work.writes);
    samples.take(&known::FS_WRITTEN_BYTES, usage.work.written_bytes);
    if let Some(size) = usage.writable {
        samples.take(&known::FS_USAGE, size.bytes);
    }
    samples.take(&known::FS_LIMIT, disk.bytes);
    samples.take(&known::FS_INODES, disk.inodes);
    samples.take(&known::FS_INODES_FREE, disk.inodes_free);
    samples.take(&known::LAST_SEEN, seconds(usage.timestamp));
    if let ContainerState::Running { started_at } = container.state {
        samples.take(&known::START_TIME, seconds(started_at));
    }
    samples.take(&known::THREADS, usage.threads.into());
    // Nothing but memory and CPU time bounds how many threads serve a guest.
    samples.take(&known::THREADS_MAX, 0);
    samples.take(&known::PROCESSES, usage.processes.into());
    samples.take(&known::SOCKETS, usage.sockets.into());
    samples.take(&known::DESCRIPTORS, usage.descriptors.into());
    if usage.descriptors_limit > 0 {
        samples.take_of(&known::ULIMITS, &["max_open_files"], usage.descriptors_limit.into());
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
        Self { owner, at, taken: Vec::with_capacity(64) }
    }

    fn take_times(&mut self, work: &Work) {
        self.take(&known::CPU_USER, work.user_nanos / NANOS);
        self.take(&known::CPU_SYSTEM, work.system_nanos / NANOS);
    }

    /// What the container is held to; what nobody said as Linux has it.
    fn take_applied(&mut self, container: &Container) {
        let said = |number: i64| u64::try_from(number).ok().filter(|&number| number > 0);
        let applied = &container.resources;
        self.take(&known::CPU_PERIOD, said(applied.cpu_period).unwrap_or(PERIOD));
        self.take(&known::CPU_QUOTA, said(applied.cpu_quota).unwrap_or(0));
        self.take(&known::CPU_SHARES, said(applied.cpu_shares).unwrap_or(SHARES));
    }

    /// What guests do not have, and what nobody holds them to.
    fn take_absent(&mut self) {
        let absent = [
            &known::MEMORY_CACHE,
            &known::MEMORY_MAPPED,
            &known::MEMORY_SWAP,
            &known::MEMORY_RESERVATION,
            &known::MEMORY_SWAP_LIMIT,
        ];
        absent.into_iter().for_each(|known| self.take(known, 0));
        for operation in ["Read", "Write"] {
            self.take_of(&known::BLOCK_DEVICES, &["", "", "", operation], 0);
        }
    }

    fn take(&mut self, known: &Known, value: u64) {
        self.take_of(known, &[], value);
    }

    /// A metric with labels of its own.
    fn take_of(&mut self, known: &Known, labels: &[&str], value: u64) {
        let labels = labels.iter().map(|&label| label.to_owned());
        self.taken.push(cri::Metric {
            name: known.name.to_owned(),
            timestamp: self.at,
            metric_type: known.kind.into(),
            label_values: self.owner.iter().cloned().chain(labels).collect(),
            value: Some(cri::UInt64Value { value }),
        });
    }
}
