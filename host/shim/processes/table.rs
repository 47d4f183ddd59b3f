//! Owns the numbers of a pod's processes, and what is told of each. Starts none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use crate::error::Error;
use crate::model::ids::ContainerId;
use crate::shim::container::Container;
use crate::shim::kill::Kill;
use crate::shim::{cpu, lock};

/// Letters of a container's id that are shown.
const SHORT: usize = 12;

const SIGINT: u32 = 2;

/// The processes of one pod.
#[derive(Default)]
pub struct Table(Mutex<Numbers>);

#[derive(Default)]
struct Numbers {
    last: u32,
    live: BTreeMap<u32, Entry>,
}

pub struct Entry {
    pub parent: u32,
    pub container: Weak<Container>,
    pub arguments: Vec<String>,
    pub kill: Arc<Kill>,
    /// Whether a guest started it: those are bounded.
    pub is_started: bool,
    /// Whether its parent's interrupt key ends it instead of the parent.
    pub is_foreground: bool,
    /// Whether the interrupt key came since it wants to live through it; `None`: it does not.
    pub held: Option<bool>,
}

/// What the interrupt key does to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// What it has in the foreground ended instead of it.
    Children,
    /// It lives on, and wants an empty line.
    Held,
    /// It is to end.
    Itself,
}

/// What is told of a process.
pub struct Info {
    pub id: u32,
    pub parent: u32,
    pub container: String,
    pub arguments: Vec<String>,
    pub cpu_nanos: u64,
    pub memory: u64,
}

/// Why a process cannot be started or ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    Denied,
    Limit(u32),
    Missing,
    Other(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Other(error.to_string())
    }
}

impl Table {
    pub fn enter(&self, entry: Entry, most: Option<u32>) -> Result<u32, Refused> {
        let mut numbers = lock(&self.0);
        if let Some(most) = most {
            let same = |own: &&Entry| own.is_started && own.container.ptr_eq(&entry.container);
            if numbers.live.values().filter(same).count() as u64 >= u64::from(most) {
                return Err(Refused::Limit(most));
            }
        }
        // After four thousand million of them the numbers begin anew.
        loop {
            numbers.last = numbers.last.checked_add(1).unwrap_or(1);
            if !numbers.live.contains_key(&numbers.last) {
                break;
            }
        }
        let id = numbers.last;
        numbers.live.insert(id, entry);
        Ok(id)
    }

    pub fn leave(&self, id: u32) {
        lock(&self.0).live.remove(&id);
    }

    /// How many are `container`'s.
    pub fn count(&self, container: &Container) -> usize {
        let numbers = lock(&self.0);
        let own = |entry: &&Entry| std::ptr::eq(entry.container.as_ptr(), container);
        numbers.live.values().filter(own).count()
    }

    pub fn all(&self) -> Vec<Info> {
        let numbers = lock(&self.0);
        let mut seen: Vec<Weak<Container>> = Vec::new();
        let info = |(id, entry): (&u32, &Entry)| {
            let container = entry.container.upgrade();
            let is_first = !seen.iter().any(|own| own.ptr_eq(&entry.container));
            if is_first {
                seen.push(entry.container.clone());
            }
            let name = container.as_ref().map_or("", |container| container.id().as_str());
            let memory = container.as_ref().filter(|_| is_first);
            Info {
                id: *id,
                parent: entry.parent,
                container: name.get(..SHORT).unwrap_or(name).to_owned(),
                arguments: entry.arguments.clone(),
                cpu_nanos: entry.kill.threads().iter().map(|&tid| cpu::thread_nanos(tid)).sum(),
                memory: memory.map_or(0, |container| container.ledger.memory.used()),
            }
        };
        numbers.live.iter().map(info).collect()
    }

    /// Ends what the process of this switch has in the foreground, as the interrupt key does.
    pub fn interrupt(&self, of: &Arc<Kill>) -> Interrupted {
        let ended: Vec<Arc<Kill>> = {
            let mut numbers = lock(&self.0);
            let own = numbers.live.iter_mut().find(|(_, entry)| Arc::ptr_eq(&entry.kill, of));
            let Some((&own, entry)) = own else { return Interrupted::Itself };
            if let Some(came) = &mut entry.held {
                *came = true;
                return Interrupted::Held;
            }
            let is_child = |entry: &&Entry| entry.parent == own && entry.is_foreground;
            numbers.live.values().filter(is_child).map(|child| child.kill.clone()).collect()
        };
        for kill in &ended {
            kill.kill_by(SIGINT);
            kill.interrupt();
        }
        if ended.is_empty() { Interrupted::Itself } else { Interrupted::Children }
    }

    /// A process lives through the interrupt key from now on, or no longer; whether it came.
    pub fn hold(&self, id: u32, held: Option<bool>) -> bool {
        let mut numbers = lock(&self.0);
        let entry = numbers.live.get_mut(&id);
        entry.and_then(|entry| std::mem::replace(&mut entry.held, held)).unwrap_or(false)
    }

    /// Ends a process of a container.
    pub fn kill(&self, id: u32, container: &ContainerId) -> Result<(), Refused> {
        let kill = {
            let numbers = lock(&self.0);
            let entry = numbers.live.get(&id).ok_or(Refused::Missing)?;
            let own = entry.container.upgrade().ok_or(Refused::Missing)?;
            if own.id() != container {
                return Err(Refused::Missing);
            }
            entry.kill.clone()
        };
        kill.kill();
        kill.interrupt();
        Ok(())
    }
}
