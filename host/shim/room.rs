//! How many sandboxes this shim can still take: by count, and by what of the process's
//! descriptors, mappings and threads is left.

use super::registry::Registry;

/// Per cent of a limit from which on nothing is added.
const FULL: u64 = 70;

/// Mappings of a shim that holds nothing, of one thread (stack, signal stack, guard pages and a
/// Store), and of one loaded program. Counting the lines of /proc/self/maps would cost
/// milliseconds.
const MAPPINGS_BASE: u64 = 400;
const MAPPINGS_PER_THREAD: u64 = 8;
const MAPPINGS_PER_PROGRAM: u64 = 8;

/// 0 when it is full.
pub fn left(registry: &Registry, max_pods: u32) -> u32 {
    let held = registry.sandboxes();
    let sandboxes = held.len() as u64;
    let proxies = held.iter().filter(|sandbox| sandbox.has_proxy()).count() as u64;
    let running = registry.containers().iter().filter(|c| c.phase().exit().is_none()).count();
    let threads = sandboxes + proxies + running as u64 + 1;
    let mappings = MAPPINGS_BASE
        + threads * MAPPINGS_PER_THREAD
        + registry.host.programs.count() as u64 * MAPPINGS_PER_PROGRAM;
    let limits = [
        (descriptors(), descriptor_limit()),
        (mappings, number_in("/proc/sys/vm/max_map_count")),
        (threads, number_in("/proc/sys/kernel/threads-max")),
        (threads, cgroup_threads()),
    ];
    let is_full =
        limits.iter().any(|(used, limit)| limit.is_some_and(|limit| is_full(*used, limit)));
    if is_full {
        return 0;
    }
    u32::try_from(u64::from(max_pods).saturating_sub(sandboxes)).unwrap_or(0)
}

fn is_full(used: u64, limit: u64) -> bool {
    used.saturating_mul(100) >= limit.saturating_mul(FULL)
}

/// How many descriptors are open.
fn descriptors() -> u64 {
    // Since Linux 6.2 the folder's size says it.
    let said = std::fs::metadata("/proc/self/fd").map_or(0, |meta| meta.len());
    if said > 0 {
        return said;
    }
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

fn number_in(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `pids.max` of the cgroup that the shim is in (cgroup v2).
fn cgroup_threads() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    number_in(&format!("/sys/fs/cgroup{path}/pids.max"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_full_at_seventy_per_cent() {
        assert!(!is_full(69, 100));
        assert!(is_full(70, 100));
        assert!(!is_full(u64::MAX / 200, u64::MAX));
    }

    #[test]
    fn open_descriptors_are_counted() {
        let before = descriptors();
        let _more: Vec<_> =
            (0..8).map(|_| std::fs::File::open("/dev/null").expect("opens")).collect();
        assert!(descriptors() >= before + 4, "{before} before");
    }
}
