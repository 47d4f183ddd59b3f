//! The fake node: what a test says of it, and what it tells afterwards.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde_json::Value;

use crate::cpu::{Cpu, Topology};
use crate::events::Severity;
use crate::log::Level;
use crate::{Container, CpuSet, Pod, Update, containers, memory};

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::default());
}

/// What the host functions see and change.
#[derive(Default)]
pub(super) struct State {
    pub topology: Topology,
    /// The realm's CPUs.
    pub realm: CpuSet,
    pub memory: Vec<memory::Node>,
    pub pods: Vec<Pod>,
    pub containers: Vec<Container>,
    pub usage: BTreeMap<String, containers::Usage>,
    pub allocations: BTreeMap<String, CpuSet>,
    pub kv: BTreeMap<String, Vec<u8>>,
    pub settings: Value,
    pub log: Vec<(Level, String)>,
    pub events: Vec<Event>,
    pub updates: Vec<Update>,
    /// Whose program the test is.
    pub own: Option<(Pod, Container)>,
    pub stop: bool,
}

pub(super) fn with<R>(call: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(call)
}

/// What [`events::emit`](crate::events::emit) was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub severity: Severity,
    pub reason: String,
    pub message: String,
}

/// What a test's [`this::exit`](crate::this::exit) panics with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited(pub u8);

/// A machine whose sockets, nodes and cores are alike. CPUs are numbered as Linux does: the first
/// thread of every core, then the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub sockets: u32,
    pub nodes_of_a_socket: u32,
    pub cores_of_a_node: u32,
    pub threads_of_a_core: u32,
}

impl Machine {
    pub fn topology(self) -> Topology {
        let nodes = self.sockets * self.nodes_of_a_socket;
        let cores = nodes * self.cores_of_a_node;
        let cpu = |id: u32| {
            let core = id % cores;
            let node = core / self.cores_of_a_node;
            Cpu { id, core, socket: node / self.nodes_of_a_socket, node }
        };
        Topology {
            cpus: (0..cores * self.threads_of_a_core).map(cpu).collect(),
            caches: Vec::new(),
            nodes: (0..nodes).collect(),
        }
    }
}

/// This thread's node. [`Node::new`] begins a new one, with one CPU, one NUMA node and no pods.
#[must_use]
pub struct Node {
    // It is this thread's.
    here: PhantomData<*const ()>,
}

impl Node {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        with(|state| *state = State::default());
        Self { here: PhantomData }.cpus(1)
    }

    fn set(self, change: impl FnOnce(&mut State)) -> Self {
        with(change);
        self
    }

    /// One socket and NUMA node; two threads to a core where the number is even.
    pub fn cpus(self, count: u32) -> Self {
        let threads = if count.is_multiple_of(2) { 2 } else { 1 };
        self.machine(Machine {
            sockets: 1,
            nodes_of_a_socket: 1,
            cores_of_a_node: count / threads,
            threads_of_a_core: threads,
        })
    }

    /// Its NUMA nodes have 8 GiB each, half of it free.
    pub fn machine(self, machine: Machine) -> Self {
        let topology = machine.topology();
        let distance = |one: u32, other: u32| if one == other { 10 } else { 20 };
        let node = |id: &u32| memory::Node {
            id: *id,
            total: 8 << 30,
            free: 4 << 30,
            distances: topology.nodes.iter().map(|other| distance(*id, *other)).collect(),
        };
        let memory = topology.nodes.iter().map(node).collect();
        self.topology(topology).set(|state| state.memory = memory)
    }

    /// Every CPU is the realm's.
    pub fn topology(self, topology: Topology) -> Self {
        self.set(|state| {
            state.realm = topology.all();
            state.topology = topology;
        })
    }

    /// The realm's CPUs, where they are not all.
    pub fn realm(self, cpus: CpuSet) -> Self {
        self.set(|state| state.realm = cpus)
    }

    /// A NUMA node's free memory, in bytes.
    pub fn free_memory(self, node: u32, bytes: u64) -> Self {
        self.set(|state| {
            if let Some(node) = state.memory.iter_mut().find(|known| known.id == node) {
                node.free = bytes;
            }
        })
    }

    /// In place of one of the same id.
    pub fn pod(self, pod: &Pod) -> Self {
        self.set(|state| {
            state.pods.retain(|known| known.id != pod.id);
            state.pods.push(pod.clone());
        })
    }

    /// In place of one of the same id.
    pub fn container(self, container: &Container) -> Self {
        self.set(|state| {
            state.containers.retain(|known| known.id != container.id);
            state.containers.push(container.clone());
        })
    }

    /// Another plugin has allocated these to a container.
    pub fn allocated(self, container_id: &str, cpus: CpuSet) -> Self {
        self.set(|state| {
            state.allocations.insert(container_id.to_owned(), cpus);
        })
    }

    /// It ended: what was allocated to it is given back.
    pub fn ended(self, container_id: &str) -> Self {
        self.set(|state| {
            state.allocations.remove(container_id);
            state.containers.retain(|known| known.id != container_id);
        })
    }

    pub fn usage(self, container_id: &str, usage: containers::Usage) -> Self {
        self.set(|state| {
            state.usage.insert(container_id.to_owned(), usage);
        })
    }

    pub fn settings(self, settings: Value) -> Self {
        self.set(|state| state.settings = settings)
    }

    /// The test is this container's program.
    pub fn this(self, pod: &Pod, container: &Container) -> Self {
        let own = (pod.clone(), container.clone());
        self.set(|state| state.own = Some(own))
    }

    /// The container is asked to end.
    pub fn request_stop(&self) {
        with(|state| state.stop = true);
    }

    pub fn allocations(&self) -> BTreeMap<String, CpuSet> {
        with(|state| state.allocations.clone())
    }

    /// What `containers::update`, `cpu::pin` and `memory::set_mems` were asked and did.
    pub fn updates(&self) -> Vec<Update> {
        with(|state| state.updates.clone())
    }

    /// What is in the plugin's durable state.
    pub fn kv(&self) -> BTreeMap<String, Vec<u8>> {
        with(|state| state.kv.clone())
    }

    pub fn log(&self) -> Vec<(Level, String)> {
        with(|state| state.log.clone())
    }

    pub fn events(&self) -> Vec<Event> {
        with(|state| state.events.clone())
    }
}
