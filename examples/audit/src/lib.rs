//! Writes down, durably, what happened to each pod: how often, and what was last. A removed pod's
//! counts go to the total, so that the state stays as small as the node is full.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use wasmpod_guest::*;

/// Of a pod's events these many are kept.
const LAST: usize = 16;
const TOTAL: &str = "total";

#[derive(Default, Serialize, Deserialize)]
struct Record {
    pod: String,
    counts: BTreeMap<String, u64>,
    /// The newest last.
    last: VecDeque<String>,
}

#[derive(Default)]
struct Audit;

impl Plugin for Audit {
    const HOOKS: Hooks = Hooks::RUN_POD_SANDBOX
        .and(Hooks::STOP_POD_SANDBOX)
        .and(Hooks::REMOVE_POD_SANDBOX)
        .and(Hooks::POST_CREATE_CONTAINER)
        .and(Hooks::POST_START_CONTAINER)
        .and(Hooks::CONTAINER_EXITED)
        .and(Hooks::REMOVE_CONTAINER);

    fn run_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        note(pod, "pod run", &format!("attempt {}", pod.attempt))
    }

    fn stop_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        note(pod, "pod stopped", "")
    }

    fn remove_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        note(pod, "pod removed", "")?;
        let record: Record = kv::get(&key(pod))?.unwrap_or_default();
        let mut total: BTreeMap<String, u64> = kv::get(TOTAL)?.unwrap_or_default();
        for (what, count) in record.counts {
            *total.entry(what).or_default() += count;
        }
        kv::set(TOTAL, &total)?;
        kv::delete(&key(pod))
    }

    fn post_create_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        note(pod, "container created", &format!("{} of {}", container.name, container.image))
    }

    fn post_start_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        note(pod, "container started", &container.name)
    }

    fn container_exited(&mut self, pod: &Pod, container: &Container) -> Result<Vec<Update>> {
        let exit = container.exit.clone().unwrap_or_default();
        let how = format!("{} with {} {}", container.name, exit.code, exit.reason);
        note(pod, "container exited", &how)?;
        Ok(Vec::new())
    }

    fn remove_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        note(pod, "container removed", &container.name)
    }
}

plugin!(Audit, functions: ["kv.get", "kv.set", "kv.delete"]);

fn key(pod: &Pod) -> String {
    format!("pod/{}", pod.id)
}

/// Durable when it returns; also a line in the daemon's log.
fn note(pod: &Pod, what: &str, detail: &str) -> Result<()> {
    let mut record: Record = kv::get(&key(pod))?.unwrap_or_default();
    record.pod = format!("{}/{}", pod.namespace, pod.name);
    info!("{}: {what} {detail}", record.pod);
    *record.counts.entry(what.to_owned()).or_default() += 1;
    record.last.push_back(format!("{what} {detail}").trim_end().to_owned());
    while record.last.len() > LAST {
        record.last.pop_front();
    }
    kv::set(&key(pod), &record)
}

#[cfg(test)]
mod tests {
    use wasmpod_guest::testing::{self, Node};

    use super::*;

    fn record(pod: &Pod) -> Option<Record> {
        kv::get(&key(pod)).unwrap()
    }

    #[test]
    fn a_pods_life_is_counted_and_its_last_events_are_kept() {
        let node = Node::new();
        let pod = testing::pod("web");
        let container = testing::container(&pod, "app");
        Audit.run_pod_sandbox(&pod).unwrap();
        Audit.post_create_container(&pod, &container).unwrap();
        // Another instance, after a crash, goes on where this one was.
        Audit.post_start_container(&pod, &container).unwrap();
        Audit.container_exited(&pod, &container.exited(3)).unwrap();

        let record = record(&pod).unwrap();
        assert_eq!(record.pod, "default/web");
        assert_eq!(record.counts["container exited"], 1);
        assert_eq!(
            record.last,
            [
                "pod run attempt 0",
                "container created app of registry.example/app:1",
                "container started app",
                "container exited app with 3 Error",
            ]
        );
        assert_eq!(node.log().len(), 4);
    }

    #[test]
    fn a_crash_loop_keeps_its_count_and_few_events() {
        let _node = Node::new();
        let pod = testing::pod("web");
        let container = testing::container(&pod, "app").exited(1);
        for _ in 0..100 {
            Audit.container_exited(&pod, &container).unwrap();
        }
        let record = record(&pod).unwrap();
        assert_eq!((record.counts["container exited"], record.last.len()), (100, LAST));
    }

    #[test]
    fn a_removed_pod_stays_in_the_total_alone() {
        let node = Node::new();
        for name in ["one", "other"] {
            let pod = testing::pod(name);
            Audit.run_pod_sandbox(&pod).unwrap();
            Audit.remove_pod_sandbox(&pod).unwrap();
            assert!(record(&pod).is_none());
        }
        let total: BTreeMap<String, u64> = kv::get(TOTAL).unwrap().unwrap();
        assert_eq!((total["pod run"], total["pod removed"]), (2, 2));
        assert_eq!(node.kv().len(), 1);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_an_error_and_stays() {
        let _node = Node::new();
        let pod = testing::pod("web");
        kv::set_bytes(&key(&pod), b"?").unwrap();
        let error = Audit.run_pod_sandbox(&pod).unwrap_err();
        assert!(error.message().starts_with("reading \"pod/"), "{error}");
        assert_eq!(kv::get_bytes(&key(&pod)).unwrap().unwrap(), b"?");
    }
}
