//! Reads what one thread of this process has done out of the kernel.

use crate::model::work::Work;

/// A unit of `ru_inblock` and `ru_oublock`.
const BLOCK: u64 = 512;

/// What the calling thread has done. Its calls that read and wrote are left out where it has
/// become a user who may not read its own file.
pub fn own(tid: i32) -> Work {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` has room for what is written, and zeros are a valid rusage.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init()
    };
    let nanos =
        |time: libc::timeval| count(time.tv_sec) * 1_000_000_000 + count(time.tv_usec) * 1000;
    let mut work = Work {
        user_nanos: nanos(usage.ru_utime),
        system_nanos: nanos(usage.ru_stime),
        faults: count(usage.ru_minflt) + count(usage.ru_majflt),
        major_faults: count(usage.ru_majflt),
        read_bytes: count(usage.ru_inblock) * BLOCK,
        written_bytes: count(usage.ru_oublock) * BLOCK,
        ..Work::default()
    };
    read_io(tid, &mut work);
    work
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// What a thread that lives has done; nothing when it is gone.
pub fn of(tid: i32) -> Work {
    let mut work = Work::default();
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"));
    read_stat(&stat.unwrap_or_default(), &mut work);
    read_io(tid, &mut work);
    work
}

/// Fields 10, 12, 14 and 15 of proc_pid_stat(5).
fn read_stat(stat: &str, work: &mut Work) {
    // The name, in parentheses, may hold spaces; what follows it begins with field 3.
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let mut fields = rest.split_whitespace().skip(7).map(|field| field.parse().unwrap_or(0));
    let mut field = |skipped: usize| fields.nth(skipped).unwrap_or(0);
    let (minor, major, user, system) = (field(0), field(1), field(1), field(0));
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    work.faults = minor + major;
    work.major_faults = major;
    work.user_nanos = user * tick;
    work.system_nanos = system * tick;
}

/// See proc_pid_io(5).
fn read_io(tid: i32, work: &mut Work) {
    let Ok(io) = std::fs::read_to_string(format!("/proc/self/task/{tid}/io")) else { return };
    for (name, value) in io.lines().filter_map(|line| line.split_once(": ")) {
        let Ok(value) = value.parse() else { continue };
        match name {
            "syscr" => work.reads = value,
            "syscw" => work.writes = value,
            "read_bytes" => work.read_bytes = value,
            "write_bytes" => work.written_bytes = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_line_is_read_whatever_its_name() {
        let mut work = Work::default();
        read_stat("7 (a ) b) S 1 2 3 4 5 6 10 11 12 13 14 15 16 17", &mut work);
        assert_eq!((work.faults, work.major_faults), (22, 12));
        assert_eq!((work.user_nanos, work.system_nanos), (140_000_000, 150_000_000));
        read_stat("", &mut work);
        assert_eq!(work, Work::default());
    }
}
