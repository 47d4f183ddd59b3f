//! Which NUMA nodes a thread's memory comes from. Knows nothing of whose threads they are.

use crate::error::{Error, Result};
use crate::model::cpuset::CpuSet;

/// Nodes that a mask of this module holds.
const MOST: usize = 1024;
const WORD: usize = libc::c_ulong::BITS as usize;

const MPOL_DEFAULT: i64 = 0;
const MPOL_BIND: i64 = 2;

/// Binds what the calling thread touches first from now on to `nodes`; `None`: wherever the
/// kernel likes. What is there already stays where it is.
pub fn bind_self(nodes: Option<&CpuSet>) -> Result<()> {
    let mut mask = [0 as libc::c_ulong; MOST / WORD];
    for node in nodes.into_iter().flat_map(CpuSet::iter) {
        if let Some(word) = mask.get_mut(node / WORD) {
            *word |= 1 << (node % WORD);
        }
    }
    let (mode, pointer, bits) = match nodes {
        Some(_) => (MPOL_BIND, mask.as_ptr(), MOST + 1),
        None => (MPOL_DEFAULT, std::ptr::null(), 0),
    };
    // SAFETY: the mask has the bits that are told and outlives the call.
    if unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    match (error.raw_os_error(), nodes) {
        // A kernel without NUMA has one node.
        (Some(libc::ENOSYS), _) => Ok(()),
        (Some(libc::EINVAL), Some(nodes)) => {
            Err(Error::Invalid(format!("cpuset_mems {nodes} cannot be used: {error}")))
        }
        _ => Err(Error::io("binding a thread's memory")(error)),
    }
}

/// The nodes that this process may have memory of.
pub fn allowed() -> CpuSet {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Mems_allowed_list:"));
    let nodes = list.and_then(|list| CpuSet::parse(list).ok());
    nodes.unwrap_or_else(|| CpuSet::from_iter([0]))
}

/// Reads a list of nodes that a caller named; empty is none.
pub fn parse(text: &str) -> Result<Option<CpuSet>> {
    if text.is_empty() {
        return Ok(None);
    }
    let nodes = CpuSet::parse(text).map_err(|_| {
        Error::Invalid(format!("cpuset_mems {text:?} is no list of memory nodes like 0-1,3"))
    })?;
    let machine = allowed();
    let absent = nodes.iter().find(|&node| !machine.contains(node));
    match absent {
        Some(absent) => Err(Error::Invalid(format!(
            "cpuset_mems {text:?} names memory node {absent}, {machine} may be used here"
        ))),
        None => Ok(Some(nodes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_be_bound_to_a_node_that_is_there_and_let_go() {
        std::thread::spawn(|| {
            let nodes = parse("0").unwrap();
            bind_self(nodes.as_ref()).unwrap();
            let policy = std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap_or_default();
            assert!(policy.is_empty() || policy.contains("bind:0"), "{policy}");
            bind_self(None).unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_node_that_is_not_there_is_named() {
        for (text, says) in [("4097", "node 4097"), ("x", "no list"), (",", "no list")] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(parse("").unwrap(), None);
    }
}
