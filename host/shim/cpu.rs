//! Threads' CPUs and CPU time. Knows nothing of whose threads they are; `control` does, and what a
//! container may have.
#![allow(unsafe_code)]

mod beat;
mod control;
mod group;
mod nodes;
mod throttle;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use rustix::process::Pid;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use super::lock;

pub use beat::install_beat_signal;
pub use control::{Control, Means, Placed, Processor};
pub use nodes::parse as parse_nodes;

use crate::error::{Error, Result, cut};
use crate::model::cpuset::CpuSet;
use crate::model::work::Work;

/// The threads that work for one owner, and what those have done that have ended.
#[derive(Default)]
pub struct Threads(Mutex<Crew>);

#[derive(Default)]
struct Crew {
    live: BTreeMap<i32, Seen>,
    ended: Seen,
}

/// What threads had done when they had taken so much CPU time.
#[derive(Clone, Copy, Default)]
struct Seen {
    nanos: u64,
    work: Work,
}

impl Threads {
    /// Counts the calling thread in, until the returned value is dropped on the same thread.
    pub fn enter(&self) -> Member<'_> {
        Member { threads: self, tid: self.add() }
    }

    /// As [`Threads::enter`], until [`Threads::leave`] on the same thread.
    fn add(&self) -> i32 {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        lock(&self.0).live.insert(tid, Seen::default());
        tid
    }

    fn leave(&self, tid: i32) {
        let done = work::own(tid);
        let mut crew = lock(&self.0);
        let seen = crew.live.remove(&tid).unwrap_or_default();
        crew.ended.nanos += thread_nanos(tid);
        crew.ended.work += done.max(seen.work);
    }

    /// Nanoseconds of all threads, ended ones included.
    pub fn cpu_nanos(&self) -> u64 {
        let crew = lock(&self.0);
        crew.ended.nanos + crew.live.keys().map(|&tid| thread_nanos(tid)).sum::<u64>()
    }

    /// What all threads have done, ended ones included. Files of the kernel are read for those
    /// alone that have run since this was asked last: who has not run has done nothing.
    pub fn work(&self) -> Work {
        let mut crew = lock(&self.0);
        let ended = crew.ended.work;
        let live = crew.live.iter_mut().map(|(&tid, seen)| {
            let nanos = thread_nanos(tid);
            if nanos > seen.nanos {
                *seen = Seen { nanos, work: work::of(tid).max(seen.work) };
            }
            seen.work
        });
        live.chain([ended]).sum()
    }

    pub fn count(&self) -> usize {
        lock(&self.0).live.len()
    }

    pub fn ids(&self) -> Vec<i32> {
        lock(&self.0).live.keys().copied().collect()
    }

    /// Keeps what threads of `other` did: they have ended.
    pub fn inherit(&self, other: &Self) {
        let (nanos, work) = (other.cpu_nanos(), other.work());
        let mut crew = lock(&self.0);
        crew.ended.nanos += nanos;
        crew.ended.work += work;
    }
}

pub struct Member<'a> {
    threads: &'a Threads,
    tid: i32,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.threads.leave(self.tid);
    }
}

/// CPU time of a thread of this process; 0 when it is gone.
pub fn thread_nanos(tid: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; a clock that is none gives EINVAL.
    if unsafe { libc::clock_gettime(clock_of(tid), &raw mut time) } != 0 {
        return 0;
    }
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// The kernel's name for a thread's clock (CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED), as
/// pthread_getcpuclockid makes it.
fn clock_of(tid: i32) -> libc::clockid_t {
    (!tid << 3) | 6
}

/// Makes a thread of this process give way to others, or the other way round. An ordinary user's
/// threads can only be made to give way more than they do.
fn set_nice(tid: i32, nice: i32) {
    // SAFETY: plain numbers; a thread that has ended gives ESRCH.
    let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, tid.unsigned_abs(), nice) };
    if set != 0 {
        tracing::debug!(tid, nice, error = %std::io::Error::last_os_error(), "a nice value stays");
    }
}

/// The CPUs that threads of this process may be on, and those that they are on now or were on when
/// they last ran (field 39 of proc_pid_stat(5)).
pub fn placement(tids: &[i32]) -> (CpuSet, CpuSet) {
    let (mut allowed, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for &tid in tids {
        let Ok(mask) = sched_getaffinity(Pid::from_raw(tid)) else { continue };
        allowed.extend((0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)));
        let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"));
        // The name, in parentheses, may hold spaces; what follows it begins with field 3.
        let stat = stat.unwrap_or_default();
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        seen.extend(rest.split_whitespace().nth(36).and_then(|cpu| cpu.parse::<usize>().ok()));
    }
    (allowed.into_iter().collect(), seen.into_iter().collect())
}

/// The CPUs the calling thread may run on.
pub fn own() -> CpuSet {
    let Ok(mask) = sched_getaffinity(None) else { return CpuSet::default() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)).collect()
}

/// Reads a cpuset that a caller named; empty is none. [`Error::Invalid`] unless every CPU of it
/// is one of `allowed`.
pub fn parse(text: &str, allowed: &CpuSet) -> Result<Option<CpuSet>> {
    if text.is_empty() {
        return Ok(None);
    }
    let cpus = CpuSet::parse(text).map_err(Error::Invalid)?;
    let absent = cpus.iter().find(|&cpu| !allowed.contains(cpu));
    match absent {
        Some(absent) => {
            let list = cut(text.to_owned(), 64);
            Err(Error::Invalid(format!(
                "cpu list {list:?} names CPU {absent}, {allowed} may be used here"
            )))
        }
        None => Ok(Some(cpus)),
    }
}

/// The CPUs that this process was given: by its starter's mask and by cgroups. What its first
/// thread may run on, which nobody pins.
pub fn allowed() -> CpuSet {
    let Ok(mask) = sched_getaffinity(Some(rustix::process::getpid())) else { return own() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)).collect()
}

/// Moves the threads `tids` of this process to `cpus`; all or, on an error, none. A thread that
/// has ended meanwhile is no error.
pub fn pin(tids: &[i32], cpus: &CpuSet) -> Result<()> {
    let mut mask = rustix::thread::CpuSet::new();
    for cpu in cpus.iter().filter(|&cpu| cpu < rustix::thread::CpuSet::MAX_CPU) {
        mask.set(cpu);
    }
    let mut moved = Vec::new();
    for tid in tids.iter().filter_map(|&tid| Pid::from_raw(tid)) {
        let before = sched_getaffinity(Some(tid));
        match sched_setaffinity(Some(tid), &mask) {
            Ok(()) => moved.push((tid, before)),
            Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => {
                for (tid, before) in moved {
                    if let Ok(before) = before {
                        // The thread may be gone; it was on these CPUs a moment ago.
                        let _ = sched_setaffinity(Some(tid), &before);
                    }
                }
                return Err(Error::Invalid(format!("cpu list {cpus} cannot be used: {errno}")));
            }
        }
    }
    Ok(())
}

/// Moves the calling thread to `cpus`.
pub fn pin_self(cpus: &CpuSet) -> Result<()> {
    pin(&[rustix::thread::gettid().as_raw_nonzero().get()], cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(nanos: u64) {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let until = thread_nanos(own) + nanos;
        while thread_nanos(own) < until {}
    }

    #[test]
    fn time_of_an_ended_thread_is_kept() {
        let threads = Threads::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _member = threads.enter();
                spin(3_000_000);
                assert!(threads.cpu_nanos() >= 3_000_000);
            });
        });
        assert_eq!(threads.count(), 0);
        let kept = threads.cpu_nanos();
        assert!(kept >= 3_000_000);
        let heir = Threads::default();
        heir.inherit(&threads);
        assert_eq!((heir.cpu_nanos(), heir.work()), (kept, threads.work()));
    }

    #[test]
    fn what_an_ended_thread_did_is_kept_and_is_no_less_than_what_was_told() {
        let threads = Threads::default();
        let told = std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                let _member = threads.enter();
                let before = threads.work();
                spin(60_000_000);
                // More than an allocator keeps: the kernel gives pages as they are touched.
                let mut pages = vec![0_u8; 40 << 20];
                pages.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
                std::hint::black_box(&pages);
                let file = std::env::temp_dir().join(format!("work-{}", std::process::id()));
                std::fs::write(&file, &pages[..1 << 20]).unwrap();
                std::fs::remove_file(file).unwrap();
                let told = threads.work();
                // Whose time it is that the clock is asked in is for the kernel to say.
                let nanos = |work: Work| work.user_nanos + work.system_nanos;
                assert!(nanos(told) > nanos(before), "{told:?}");
                assert!(told.faults > before.faults, "{told:?}");
                assert!(told.writes > before.writes, "{told:?}");
                told
            });
            working.join().unwrap()
        });
        let kept = threads.work();
        assert_eq!(kept.max(told), kept);
        assert!(kept.system_nanos + kept.user_nanos >= 60_000_000, "{kept:?}");
        assert_eq!(threads.work(), kept);
    }

    #[test]
    fn a_cpu_that_the_machine_lacks_is_named() {
        let machine = CpuSet::parse("0-3").expect("a cpuset");
        let error = parse("1,9", &machine).expect_err("CPU 9 is absent");
        assert!(error.to_string().contains("CPU 9"), "{error}");
        assert_eq!(parse("", &machine).expect("empty is none"), None);
    }

    #[test]
    fn a_thread_runs_where_it_is_pinned() {
        let cpus = own();
        let last: CpuSet = cpus.iter().last().into_iter().collect();
        let (wanted, all) = (last.clone(), cpus.clone());
        std::thread::spawn(move || {
            pin_self(&wanted).expect("pins");
            assert_eq!(own(), wanted);
            pin_self(&all).expect("pins back");
            assert_eq!(own(), all);
        })
        .join()
        .expect("the thread ends well");
    }
}
