//! LinuxContainerResources and `model::resources`. Huge page limits are dropped: wasm memory
//! never lies in huge pages of a mount, so no limit on them can be exceeded.

use super::{sorted, unsorted};
use crate::model::resources::Resources;
use crate::proto::cri;

pub fn from_cri(message: cri::LinuxContainerResources) -> Resources {
    Resources {
        cpu_period: message.cpu_period,
        cpu_quota: message.cpu_quota,
        cpu_shares: message.cpu_shares,
        memory_limit: message.memory_limit_in_bytes,
        oom_score_adj: message.oom_score_adj,
        cpuset_cpus: message.cpuset_cpus,
        cpuset_mems: message.cpuset_mems,
        unified: sorted(message.unified),
        memory_swap_limit: message.memory_swap_limit_in_bytes,
    }
}

pub fn to_cri(resources: &Resources) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: Vec::new(),
        unified: unsorted(&resources.unified),
        memory_swap_limit_in_bytes: resources.memory_swap_limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn resources_come_back_as_they_went(
            numbers in any::<[i64; 6]>(),
            texts in any::<[String; 2]>(),
            unified in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..3),
        ) {
            let [cpu_period, cpu_quota, cpu_shares, memory_limit, oom_score_adj, swap] = numbers;
            let [cpuset_cpus, cpuset_mems] = texts;
            let resources = Resources {
                cpu_period, cpu_quota, cpu_shares, memory_limit, oom_score_adj, cpuset_cpus,
                cpuset_mems, unified, memory_swap_limit: swap,
            };
            prop_assert_eq!(from_cri(to_cri(&resources)), resources);
        }
    }
}
