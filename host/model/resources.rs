//! A container's or pod's resources, as CRI's LinuxContainerResources has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Zero and empty mean "not said", as in CRI. Units: microseconds for period and quota, bytes
/// for memory, list format for the cpusets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_shares: i64,
    pub memory_limit: i64,
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub unified: BTreeMap<String, String>,
    pub memory_swap_limit: i64,
}

/// What a pod has beside its containers' resources; `None`: nobody said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodResources {
    /// The sandbox' own share.
    pub overhead: Option<Resources>,
    /// All containers together.
    pub resources: Option<Resources>,
}

impl PodResources {
    /// As [`Resources::updated`].
    pub fn updated(&self, update: &Self) -> Self {
        let one = |old: &Option<Resources>, new: &Option<Resources>| match (old, new) {
            (Some(old), Some(new)) => Some(old.updated(new)),
            (old, new) => new.clone().or_else(|| old.clone()),
        };
        Self {
            overhead: one(&self.overhead, &update.overhead),
            resources: one(&self.resources, &update.resources),
        }
    }
}

impl Resources {
    /// These resources after an update, where what the update does not say stays as it is
    /// (CRI UpdateContainerResources).
    pub fn updated(&self, update: &Self) -> Self {
        let number = |new: i64, old: i64| if new == 0 { old } else { new };
        let text = |new: &String, old: &String| if new.is_empty() { old } else { new }.clone();
        let mut unified = self.unified.clone();
        unified.extend(update.unified.clone());
        Self {
            cpu_period: number(update.cpu_period, self.cpu_period),
            cpu_quota: number(update.cpu_quota, self.cpu_quota),
            cpu_shares: number(update.cpu_shares, self.cpu_shares),
            memory_limit: number(update.memory_limit, self.memory_limit),
            oom_score_adj: number(update.oom_score_adj, self.oom_score_adj),
            cpuset_cpus: text(&update.cpuset_cpus, &self.cpuset_cpus),
            cpuset_mems: text(&update.cpuset_mems, &self.cpuset_mems),
            unified,
            memory_swap_limit: number(update.memory_swap_limit, self.memory_swap_limit),
        }
    }
}
