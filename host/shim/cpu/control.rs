//! What one container's threads may have of the machine: which CPUs, memory of which NUMA nodes,
//! how much CPU time. Every thread that works for the container is told here at its birth, and
//! all of them when it changes. CPU time is held by a cgroup of the container's own where the shim
//! may make one, else by the epoch (quota) and by nice values (shares).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::beat::Beat;
use super::group::{Group, Groups, Lifted};
use super::throttle::Throttle;
use super::{Threads, nodes};
use crate::engine::Engines;
use crate::error::{Error, Result};
use crate::model::cpu_time::{CpuControl, CpuTime, SHARES};
use crate::model::cpuset::CpuSet;
use crate::model::ids::ContainerId;
use crate::shim::kill::{Kill, Killed};
use crate::shim::lock;
use crate::shim::pinning::Pinning;
use crate::shim::sandbox::thread_name;

/// What a container is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    /// `None` leaves the sandbox's, or all.
    pub cpus: Option<CpuSet>,
    /// `None`: the kernel chooses.
    pub nodes: Option<CpuSet>,
    pub time: CpuTime,
}

/// By what this shim holds CPU time.
pub struct Means {
    how: CpuControl,
    /// Never freed: a thread's timer may speak of it until the process ends.
    engines: &'static Engines,
    /// Looked for when the first container needs them: the daemon has moved the shim by then.
    groups: OnceLock<Option<Arc<Groups>>>,
}

impl Means {
    pub fn new(how: CpuControl, engines: &Engines) -> Arc<Self> {
        let engines = Box::leak(Box::new(engines.clone()));
        Arc::new(Self { how, engines, groups: OnceLock::new() })
    }

    /// `None`: by the epoch. Called by threads of no container.
    fn groups(&self) -> Result<Option<Arc<Groups>>> {
        if self.how == CpuControl::Epoch {
            return Ok(None);
        }
        let groups = self.groups.get_or_init(|| {
            let groups = Groups::find();
            if let Some(groups) = &groups {
                groups.begin_removing();
            }
            tracing::info!(by_cgroups = groups.is_some(), "containers' CPU time");
            groups.map(Arc::new)
        });
        if groups.is_none() && self.how == CpuControl::Cgroup {
            return Err(Error::Precondition(
                "cpu quota and shares cannot be held: this shim can make no cgroup with the cpu \
                 controller, and shim.cpu_control is \"cgroup\"; \"auto\" holds them without"
                    .to_owned(),
            ));
        }
        Ok(groups.clone())
    }
}

pub struct Control {
    pub threads: Threads,
    id: ContainerId,
    cpus: Arc<Pinning>,
    means: Arc<Means>,
    wanted: Mutex<Wanted>,
    throttle: Throttle,
    /// Counts the changes of the memory nodes, which each thread has to follow by itself.
    moves: AtomicU32,
}

struct Wanted {
    nodes: Option<CpuSet>,
    time: CpuTime,
    group: Option<Arc<Group>>,
    /// Of each thread, where the epoch holds a quota.
    beats: BTreeMap<i32, Beat>,
    /// Whether `time` is held already.
    is_begun: bool,
    is_over: bool,
}

impl Control {
    /// Of container `id`, whose CPUs are those that are chosen for it.
    pub fn new(
        (id, cpus): (ContainerId, Arc<Pinning>),
        processor: &Processor,
        means: Arc<Means>,
    ) -> Arc<Self> {
        let wanted = Wanted {
            nodes: processor.nodes.clone(),
            time: processor.time,
            group: None,
            beats: BTreeMap::new(),
            is_begun: false,
            is_over: false,
        };
        Arc::new(Self {
            threads: Threads::default(),
            id,
            cpus,
            means,
            wanted: Mutex::new(wanted),
            throttle: Throttle::default(),
            moves: AtomicU32::new(0),
        })
    }

    /// Of no container, without limits.
    #[cfg(test)]
    pub fn free(engines: &Engines) -> Arc<Self> {
        let cpus = Arc::new(Pinning::new(None));
        let means = Means::new(CpuControl::Epoch, engines);
        Self::new((ContainerId::random(), cpus), &Processor::default(), means)
    }

    /// A name for one of its threads, by what the thread is.
    pub fn thread_name(&self, what: char) -> String {
        thread_name(what, self.id.as_str())
    }

    /// Makes the calling thread one of the container's until the returned value is dropped on it.
    pub fn enter(self: &Arc<Self>) -> Result<Placed> {
        // Counted first: a change from now on finds it, one before is seen below.
        let tid = self.threads.add();
        let placed = Placed { control: self.clone(), tid };
        self.cpus.with(&self.id, |cpus| cpus.map_or(Ok(()), super::pin_self))?;
        let group = {
            let mut wanted = lock(&self.wanted);
            let nodes = wanted.nodes.as_ref();
            nodes.map_or(Ok(()), |nodes| nodes::bind_self(Some(nodes)))?;
            let time = wanted.time;
            if wanted.is_begun && wanted.group.is_none() {
                self.pace(&mut wanted, time, &[tid])?;
            }
            wanted.group.clone()
        };
        // Not under the lock, which whoever ends the container may want at once.
        group.map_or(Ok(()), |group| group.take_self())?;
        Ok(placed)
    }

    /// As [`Control::enter`] for the calling thread's whole life. What goes wrong is told in the
    /// shim's log: the thread works all the same.
    pub fn adopt(self: &Arc<Self>) {
        match self.enter() {
            Ok(placed) => ADOPTED.set(Some(placed)),
            Err(error) => {
                tracing::error!(container = %self.id, %error, "a thread is not held to its limits");
            }
        }
    }

    /// Whether there is something for [`Control::begin_time`] to do.
    pub fn has_time(&self) -> bool {
        lock(&self.wanted).time.is_said()
    }

    /// Holds the CPU time for the threads that there are. Takes milliseconds; called by a thread
    /// of no container, before the guest's first instruction.
    pub fn begin_time(&self) -> Result<()> {
        let (group, tids) = {
            let mut wanted = lock(&self.wanted);
            let time = wanted.time;
            if wanted.is_begun || wanted.is_over || !time.is_said() {
                return Ok(());
            }
            let tids = self.threads.ids();
            self.hold(&mut wanted, time, &tids)?;
            (wanted.group.clone(), tids)
        };
        group.map_or(Ok(()), |group| tids.iter().try_for_each(|&tid| group.take(tid)))
    }

    /// Changes everything, for running threads too; on an error nothing has changed. Memory that
    /// is there stays on its nodes. May take milliseconds; called by a thread of no container.
    pub fn update(&self, new: &Processor) -> Result<()> {
        let (group, tids) = {
            let mut wanted = lock(&self.wanted);
            if wanted.is_over {
                return Ok(());
            }
            let old = self.cpus.own(&self.id);
            self.pin(new.cpus.clone())?;
            let (tids, had_group) = (self.threads.ids(), wanted.group.is_some());
            if wanted.time != new.time
                && let Err(error) = self.hold(&mut wanted, new.time, &tids)
            {
                // They were there a moment ago.
                let _ = self.pin(old);
                return Err(error);
            }
            wanted.time = new.time;
            if wanted.nodes != new.nodes {
                wanted.nodes.clone_from(&new.nodes);
                self.moves.fetch_add(1, Ordering::Release);
                self.means.engines.increment_epoch();
            }
            (wanted.group.clone().filter(|_| !had_group), tids)
        };
        group.map_or(Ok(()), |group| tids.iter().try_for_each(|&tid| group.take(tid)))
    }

    fn pin(&self, cpus: Option<CpuSet>) -> Result<()> {
        self.cpus.change_own(&self.id, cpus, |cpus| {
            super::pin(&self.threads.ids(), cpus.unwrap_or(&super::allowed()))
        })
    }

    fn hold(&self, wanted: &mut Wanted, time: CpuTime, tids: &[i32]) -> Result<()> {
        match (&wanted.group, self.means.groups()?) {
            (Some(group), _) => group.set(time)?,
            (None, Some(groups)) => wanted.group = Some(groups.make(self.id.as_str(), time)?),
            (None, None) => {
                self.pace(wanted, time, tids)?;
                self.throttle.set(time.quota, self.threads.cpu_nanos());
            }
        }
        wanted.is_begun = true;
        Ok(())
    }

    /// Gives threads what the epoch needs to hold a quota, and their nice values.
    fn pace(&self, wanted: &mut Wanted, time: CpuTime, tids: &[i32]) -> Result<()> {
        if time.quota.is_none() {
            wanted.beats.clear();
        } else {
            for &tid in
                tids.iter().filter(|tid| !wanted.beats.contains_key(tid)).collect::<Vec<_>>()
            {
                wanted.beats.insert(tid, Beat::begin(tid, self.means.engines)?);
            }
        }
        let nice = nice(time.shares.unwrap_or(SHARES));
        tids.iter().for_each(|&tid| super::set_nice(tid, nice));
        Ok(())
    }

    /// From a guest's epoch callback: follows a change of memory nodes (`seen` counts them) and
    /// rests while the quota is used up. `Err` once killed.
    pub fn look(&self, seen: &mut u32, kill: &Kill) -> Result<(), Killed> {
        kill.check()?;
        let moves = self.moves.load(Ordering::Acquire);
        if moves != *seen {
            *seen = moves;
            let nodes = lock(&self.wanted).nodes.clone();
            if let Err(error) = nodes::bind_self(nodes.as_ref()) {
                tracing::error!(container = %self.id, %error, "memory comes from other nodes");
            }
        }
        self.throttle.wait(&self.threads, kill)
    }

    /// How many CPUs the threads may run on.
    pub fn width(&self) -> usize {
        let count = |cpus: Option<&CpuSet>| cpus.unwrap_or(&super::allowed()).iter().count();
        self.cpus.with(&self.id, count)
    }

    /// For who is to end: until the returned value is dropped, no cgroup's quota holds it up. (The
    /// epoch's does not hold up who is killed.)
    pub fn lift(&self) -> Option<Lifted> {
        let group = lock(&self.wanted).group.clone();
        group.as_ref().map(Group::lift)
    }

    /// The container's last thread is about to end.
    pub fn end(&self) {
        let mut wanted = lock(&self.wanted);
        wanted.is_over = true;
        wanted.beats.clear();
        if let Some(group) = wanted.group.take() {
            group.end();
        }
    }
}

thread_local! {
    static ADOPTED: RefCell<Option<Placed>> = const { RefCell::new(None) };
}

/// See [`Control::enter`].
pub struct Placed {
    control: Arc<Control>,
    tid: i32,
}

impl Drop for Placed {
    fn drop(&mut self) {
        lock(&self.control.wanted).beats.remove(&self.tid);
        self.control.threads.leave(self.tid);
    }
}

/// The nice value whose weight is nearest to `shares`: 1024 is 0, and each step a factor of 1.25,
/// as the kernel has it.
fn nice(shares: u64) -> i32 {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let steps = ((SHARES as f64 / shares.max(1) as f64).ln() / 1.25_f64.ln()).round() as i32;
    steps.clamp(-20, 19)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::model::cpu_time::Quota;

    #[test]
    fn shares_are_the_nearest_nice_value() {
        for (shares, is) in [(1024, 0), (256, 6), (2, 19), (262_144, -20), (2048, -3), (1280, -1)] {
            assert_eq!(nice(shares), is, "{shares}");
        }
    }

    fn control(time: CpuTime, engines: &Engines) -> Arc<Control> {
        super::super::beat::install_beat_signal();
        let own = (ContainerId::random(), Arc::new(Pinning::new(None)));
        let processor = Processor { time, ..Processor::default() };
        Control::new(own, &processor, Means::new(CpuControl::Epoch, engines))
    }

    /// Spins on a thread of the container's for `cpu`, looking as a guest does.
    fn spin(control: &Arc<Control>, kill: &Kill, cpu: Duration) {
        let _placed = control.enter().unwrap();
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let until = super::super::thread_nanos(own) + cpu.as_nanos() as u64;
        while super::super::thread_nanos(own) < until {
            if control.look(&mut 0, kill).is_err() {
                return;
            }
        }
    }

    #[test]
    fn two_threads_have_one_quota() {
        let engines = Engines::plain();
        let time = CpuTime { quota: Some(Quota { micros: 20_000, period: 100_000 }), shares: None };
        let control = control(time, &engines);
        control.begin_time().unwrap();
        let kill = Kill::new(engines);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| spin(&control, &kill, Duration::from_millis(60)));
            }
        });
        // 120 ms at a fifth of a CPU, of which 20 ms are there at the start.
        assert!(begun.elapsed() >= Duration::from_millis(480), "{:?}", begun.elapsed());
        assert!(lock(&control.wanted).beats.is_empty());
        kill.kill();
        spin(&control, &kill, Duration::from_secs(3600));
    }

    #[test]
    fn a_quota_that_is_taken_away_lets_the_sleeper_go() {
        let engines = Engines::plain();
        let time = CpuTime { quota: Some(Quota { micros: 1000, period: 1_000_000 }), shares: None };
        let control = control(time, &engines);
        control.begin_time().unwrap();
        let kill = Kill::new(engines);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            // A minute's work under the quota.
            scope.spawn(|| spin(&control, &kill, Duration::from_millis(60)));
            control.update(&Processor::default()).unwrap();
        });
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
