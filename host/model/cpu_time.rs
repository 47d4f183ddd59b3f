//! How much CPU time a container may take: CRI's quota, period and shares, within the bounds that
//! Linux sets them. Knows nothing of how that is held.

use serde::{Deserialize, Serialize};

/// By what containers are held to their quota and shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuControl {
    /// By cgroups where a shim may make them, else by the epoch.
    #[default]
    Auto,
    /// By the kernel, a cgroup for each container's threads.
    Cgroup,
    /// By the shim: quotas by interrupting guests, shares by nice values.
    Epoch,
}

impl CpuControl {
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cgroup => "cgroup",
            Self::Epoch => "epoch",
        }
    }

    pub fn parse(name: &str) -> Result<Self, String> {
        [Self::Auto, Self::Cgroup, Self::Epoch]
            .into_iter()
            .find(|control| control.name() == name)
            .ok_or_else(|| format!("{name:?} is none of auto, cgroup and epoch"))
    }
}

/// The period of a quota that names none, in microseconds: the kernel's and the kubelet's.
pub const PERIOD: u64 = 100_000;

/// Shares of who names none.
pub const SHARES: u64 = 1024;

/// Microseconds: what cpu.cfs_period_us takes.
const PERIODS: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;

/// Microseconds: the least that cpu.cfs_quota_us takes, and more than any machine's CPUs have in
/// a period.
const QUOTAS: std::ops::RangeInclusive<i64> = 1_000..=1_000_000 * 8192;

/// What cpu.shares takes.
const WEIGHTS: std::ops::RangeInclusive<i64> = 2..=262_144;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// `None`: no limit.
    pub quota: Option<Quota>,
    /// `None`: not said.
    pub shares: Option<u64>,
}

/// So many microseconds of CPU time in each period of so many microseconds, of all threads
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub micros: u64,
    pub period: u64,
}

impl CpuTime {
    /// Reads what CRI's fields say: 0 is not said, a quota of -1 is none. `Err` is one sentence.
    pub fn read(quota: i64, period: i64, shares: i64) -> Result<Self, String> {
        let period = match period {
            0 => PERIOD,
            period if PERIODS.contains(&period) => period.unsigned_abs(),
            period => {
                return Err(format!(
                    "cpu period {period} is outside of 1000 to 1000000 microseconds"
                ));
            }
        };
        let quota = match quota {
            0 | -1 => None,
            quota if QUOTAS.contains(&quota) => {
                Some(Quota { micros: quota.unsigned_abs(), period })
            }
            quota => {
                return Err(format!(
                    "cpu quota {quota} is less than 1000 microseconds or more than any machine \
                     has; -1 is no limit"
                ));
            }
        };
        let shares = match shares {
            0 => None,
            shares if WEIGHTS.contains(&shares) => Some(shares.unsigned_abs()),
            shares => return Err(format!("cpu shares {shares} are outside of 2 to 262144")),
        };
        Ok(Self { quota, shares })
    }

    /// Whether it says anything at all.
    pub fn is_said(&self) -> bool {
        *self != Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_does_not_take_is_refused_by_name() {
        for (asked, says) in [
            ((999, 0, 0), "quota 999"),
            ((-2, 0, 0), "quota -2"),
            ((i64::MAX, 0, 0), "quota"),
            ((0, 999, 0), "period 999"),
            ((50_000, 1_000_001, 0), "period 1000001"),
            ((0, -1, 0), "period -1"),
            ((0, 0, 1), "shares 1"),
            ((0, 0, 262_145), "shares 262145"),
            ((0, 0, -5), "shares -5"),
        ] {
            let error = CpuTime::read(asked.0, asked.1, asked.2).unwrap_err();
            assert!(error.contains(says) && !error.contains('\n'), "{asked:?}: {error}");
        }
    }

    #[test]
    fn nothing_said_limits_nothing_and_a_quota_has_a_period() {
        assert!(!CpuTime::read(0, 0, 0).unwrap().is_said());
        assert!(!CpuTime::read(-1, 50_000, 0).unwrap().is_said());
        let read = CpuTime::read(20_000, 0, 2).unwrap();
        assert_eq!(read.quota, Some(Quota { micros: 20_000, period: PERIOD }));
        assert_eq!(read.shares, Some(2));
    }
}
