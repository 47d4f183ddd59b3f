//! The host functions, answered by this thread's node with the errors that a daemon would have.

use super::asked;
use super::node::{Event, Exited, State, with};
use crate::{Container, CpuSet, Pod, ResourceChange, Result, Update, bail};

/// Who the tested plugin is.
pub const PLUGIN: &str = "tested";

fn unknown<T>(id: &str) -> Result<T> {
    bail!("container {id} not found")
}

/// Whether the plugin wants to see what is of a pod.
fn sees(state: &State, pod_id: &str) -> bool {
    let pod = state.pods.iter().find(|pod| pod.id == pod_id);
    pod.is_none_or(|pod| asked::sees(&pod.namespace))
}

/// A container that the plugin wants to see.
fn seen<'a>(state: &'a mut State, id: &str) -> Option<&'a mut Container> {
    let at = state.containers.iter().position(|container| container.id == id)?;
    let is_seen = sees(state, &state.containers[at].pod_id);
    state.containers.get_mut(at).filter(|_| is_seen)
}

fn running<'a>(state: &'a mut State, id: &str) -> Result<&'a mut Container> {
    match seen(state, id) {
        Some(container) if container.state == crate::ContainerState::Running => Ok(container),
        Some(container) => {
            let state = format!("{:?}", container.state).to_lowercase();
            bail!("container {id} is {state}, not running")
        }
        None => unknown(id),
    }
}

fn check(state: &State, cpus: &CpuSet) -> Result<()> {
    if cpus.is_empty() {
        bail!("the CPU set is empty");
    }
    if let Some(cpu) = cpus.difference(&state.realm).iter().next() {
        bail!("CPU {cpu} is none of the pool's {}", state.realm);
    }
    Ok(())
}

fn record(state: &mut State, container_id: &str, change: ResourceChange) {
    state.updates.push(Update::new(container_id, change));
}

pub mod cpu {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cpu::{Placement, Topology};

    pub fn topology() -> Topology {
        asked::function("cpu.topology");
        with(|state| state.topology.clone())
    }

    pub fn shared_pool() -> Result<CpuSet> {
        asked::function("cpu.shared-pool");
        with(|state| {
            let taken = |pool: CpuSet, cpus: &CpuSet| pool.difference(cpus);
            Ok(state.allocations.values().fold(state.realm.clone(), taken))
        })
    }

    pub fn allocate(container_id: &str, cpus: &CpuSet) -> Result<()> {
        asked::function("cpu.allocate");
        asked::field("resources.cpuset-cpus");
        with(|state| {
            check(state, cpus)?;
            let is_known = state.containers.iter().any(|known| known.id == container_id);
            if is_known && seen(state, container_id).is_none() {
                return unknown(container_id);
            }
            for (owner, owned) in &state.allocations {
                let both = owned.intersection(cpus);
                if let Some(cpu) = both.iter().next().filter(|_| owner != container_id) {
                    bail!("CPU {cpu} was allocated to container {owner} by plugin {PLUGIN}");
                }
            }
            state.allocations.insert(container_id.to_owned(), cpus.clone());
            if let Ok(container) = running(state, container_id) {
                container.resources.cpuset_cpus = cpus.clone();
            }
            Ok(())
        })
    }

    pub fn release(container_id: &str) -> Result<()> {
        asked::function("cpu.release");
        with(|state| {
            state.allocations.remove(container_id);
            Ok(())
        })
    }

    pub fn allocations() -> BTreeMap<String, CpuSet> {
        asked::function("cpu.allocations");
        with(|state| state.allocations.clone())
    }

    pub fn pin(container_id: &str, cpus: &CpuSet) -> Result<()> {
        asked::function("cpu.pin");
        asked::field("resources.cpuset-cpus");
        with(|state| {
            check(state, cpus)?;
            running(state, container_id)?.resources.cpuset_cpus = cpus.clone();
            record(state, container_id, ResourceChange::new().cpuset_cpus(cpus.clone()));
            Ok(())
        })
    }

    pub fn ran_on(container_id: &str) -> Result<Placement> {
        asked::function("cpu.ran-on");
        with(|state| {
            let realm = state.realm.clone();
            let set = running(state, container_id)?.resources.cpuset_cpus.clone();
            let allowed = if set.is_empty() { realm } else { set };
            Ok(Placement { seen: allowed.iter().take(1).collect(), allowed })
        })
    }
}

pub mod memory {
    use super::*;
    use crate::memory::Node;

    pub fn nodes() -> Vec<Node> {
        asked::function("memory.nodes");
        with(|state| state.memory.clone())
    }

    pub fn set_mems(container_id: &str, nodes: &CpuSet) -> Result<()> {
        asked::function("memory.set-mems");
        asked::field("resources.cpuset-mems");
        with(|state| {
            let known: CpuSet = state.memory.iter().map(|node| node.id).collect();
            let foreign = nodes.difference(&known);
            if nodes.is_empty() || !foreign.is_empty() {
                bail!("NUMA nodes \"{nodes}\" are not among this machine's, which are {known}");
            }
            running(state, container_id)?.resources.cpuset_mems = nodes.clone();
            record(state, container_id, ResourceChange::new().cpuset_mems(nodes.clone()));
            Ok(())
        })
    }
}

pub mod pods {
    use super::*;

    fn all(state: &State) -> impl Iterator<Item = &Pod> {
        state.pods.iter().filter(|pod| asked::sees(&pod.namespace))
    }

    pub fn list() -> Vec<Pod> {
        asked::function("pods.list");
        with(|state| all(state).cloned().collect())
    }

    pub fn get(id: &str) -> Option<Pod> {
        asked::function("pods.get");
        with(|state| all(state).find(|pod| pod.id == id).cloned())
    }
}

pub mod containers {
    use super::*;
    use crate::containers::Usage;

    pub fn list(pod_id: Option<&str>) -> Vec<Container> {
        asked::function("containers.list");
        with(|state| {
            let wanted = |container: &&Container| {
                pod_id.is_none_or(|pod| container.pod_id == pod) && sees(state, &container.pod_id)
            };
            state.containers.iter().filter(wanted).cloned().collect()
        })
    }

    pub fn get(id: &str) -> Option<Container> {
        asked::function("containers.get");
        with(|state| seen(state, id).cloned())
    }

    pub fn update(updates: &[Update]) -> Result<()> {
        asked::function("containers.update");
        updates.iter().flat_map(|update| update.change.fields()).for_each(asked::field);
        for update in updates {
            match with(|state| change(state, update)) {
                Err(error) if !update.ignore_failure => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn change(state: &mut State, update: &Update) -> Result<()> {
        if let Some(cpus) = &update.change.cpuset_cpus {
            check(state, cpus)?;
        }
        let id = &update.container_id;
        let Some(container) = seen(state, id) else { return unknown(id) };
        let (resources, wanted) = (&mut container.resources, update.change.clone());
        let set = |field: &mut i64, value: Option<i64>| *field = value.unwrap_or(*field);
        set(&mut resources.cpu_period, wanted.cpu_period);
        set(&mut resources.cpu_quota, wanted.cpu_quota);
        set(&mut resources.cpu_shares, wanted.cpu_shares);
        set(&mut resources.memory_limit, wanted.memory_limit);
        resources.cpuset_cpus = wanted.cpuset_cpus.unwrap_or(resources.cpuset_cpus.clone());
        resources.cpuset_mems = wanted.cpuset_mems.unwrap_or(resources.cpuset_mems.clone());
        state.updates.push(update.clone());
        Ok(())
    }

    pub fn stats(id: &str) -> Result<Usage> {
        asked::function("containers.stats");
        with(|state| {
            running(state, id)?;
            Ok(state.usage.get(id).copied().unwrap_or_default())
        })
    }
}

pub mod events {
    use super::*;
    use crate::events::Severity;

    pub fn emit(id: &str, severity: Severity, reason: &str, message: &str) -> Result<()> {
        asked::function("events.emit");
        let word = |c: char| c.is_ascii_alphanumeric();
        if reason.is_empty() || reason.len() > 128 || !reason.chars().all(word) {
            bail!("reason {reason:?} is not one word of at most 128 letters and digits");
        }
        if message.len() > 1024 {
            bail!("the event's message has {} bytes, at most 1024 are possible", message.len());
        }
        with(|state| {
            let is_pod = state.pods.iter().any(|pod| pod.id == id) && sees(state, id);
            if !is_pod && seen(state, id).is_none() {
                bail!("there is no pod or container {id}");
            }
            if state.events.len() >= 100 {
                bail!("more than 100 events in a minute");
            }
            state.events.push(Event {
                id: id.to_owned(),
                severity,
                reason: reason.to_owned(),
                message: message.to_owned(),
            });
            Ok(())
        })
    }
}

pub mod log {
    use super::with;
    use crate::log::Level;

    pub fn write(level: Level, text: &str) {
        with(|state| state.log.push((level, text.to_owned())));
    }
}

pub mod config {
    use serde_json::Value;

    use super::with;

    pub fn all() -> String {
        with(|state| match &state.settings {
            Value::Null => "{}".to_owned(),
            settings => settings.to_string(),
        })
    }

    pub fn get(key: &str) -> Option<String> {
        with(|state| match state.settings.get(key)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        })
    }
}

pub mod kv {
    use super::*;

    const KEY: usize = 256;
    const VALUE: usize = 64 << 10;
    const ALL: usize = 1 << 20;

    fn check(key: &str) -> Result<()> {
        if key.is_empty() || key.len() > KEY {
            bail!("a key of {} bytes: 1 to {KEY} are taken", key.len());
        }
        Ok(())
    }

    pub fn get(key: &str) -> Result<Option<Vec<u8>>> {
        asked::function("kv.get");
        check(key)?;
        with(|state| Ok(state.kv.get(key).cloned()))
    }

    pub fn set(key: &str, value: &[u8]) -> Result<()> {
        asked::function("kv.set");
        check(key)?;
        if value.len() > VALUE {
            bail!("a value of {} bytes: at most {VALUE} are taken", value.len());
        }
        with(|state| {
            let others = state.kv.iter().filter(|(known, _)| *known != key);
            let size: usize = others.map(|(key, value)| key.len() + value.len()).sum();
            if size + key.len() + value.len() > ALL {
                bail!("the plugin's state is full: {ALL} bytes");
            }
            state.kv.insert(key.to_owned(), value.to_vec());
            Ok(())
        })
    }

    pub fn delete(key: &str) -> Result<()> {
        asked::function("kv.delete");
        check(key)?;
        with(|state| state.kv.remove(key));
        Ok(())
    }

    pub fn keys(prefix: &str) -> Result<Vec<String>> {
        asked::function("kv.keys");
        let begins = |key: &&String| key.starts_with(prefix);
        with(|state| Ok(state.kv.keys().filter(begins).cloned().collect()))
    }
}

pub mod this {
    use super::*;

    fn own() -> (Pod, Container) {
        let Some(own) = with(|state| state.own.clone()) else {
            panic!("say whose program the test is: testing::Node::new().this(&pod, &container)");
        };
        own
    }

    pub fn pod() -> Pod {
        own().0
    }

    pub fn container() -> Container {
        own().1
    }

    pub fn cpuset() -> CpuSet {
        let set = own().1.resources.cpuset_cpus;
        if set.is_empty() { with(|state| state.realm.clone()) } else { set }
    }

    pub struct Stop;

    impl Stop {
        pub fn ready(&self) -> bool {
            with(|state| state.stop)
        }

        /// A test that waits for what nobody does is wrong.
        pub fn block(&self) {
            assert!(self.ready(), "waiting for a stop that the test has not requested");
        }
    }

    pub fn stop_requested() -> Stop {
        Stop
    }

    pub fn exit(code: u8) -> ! {
        std::panic::panic_any(Exited(code))
    }
}
