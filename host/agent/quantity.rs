//! Kubernetes' quantities ("1.5Gi", "250m", "1e3") and the kubelet's way from a container's
//! resources to CRI's numbers. Plain arithmetic.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::error::{Error, Result};

const NANO: i128 = 1_000_000_000;
/// The kubelet's CFS period, in microseconds.
const PERIOD: i64 = 100_000;

/// A quantity in billionths of its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i128);

impl Amount {
    /// `None` for what is no quantity or too large to be one.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at_checked(end)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.contains('.') || digits.len() > 24 {
            return None;
        }
        let digits: i128 = digits.parse().ok()?;
        let (factor, exponent) = scale(suffix)?;
        let shift = exponent + 9 - i32::try_from(fraction.len()).ok()?;
        let value = digits.checked_mul(factor)?;
        let power = 10i128.checked_pow(shift.unsigned_abs())?;
        let value = if shift >= 0 {
            value.checked_mul(power)?
        } else {
            // Kubernetes rounds up what is finer than a billionth.
            value.checked_add(power - 1)? / power
        };
        Some(Self(if negative { -value } else { value }))
    }

    /// In whole units, rounded up; at most `i64::MAX`.
    pub fn units(self) -> i64 {
        self.rounded_up(NANO)
    }

    /// In thousandths, rounded up.
    pub fn thousandths(self) -> i64 {
        self.rounded_up(NANO / 1000)
    }

    fn rounded_up(self, unit: i128) -> i64 {
        let up = if self.0 > 0 { (self.0 + unit - 1) / unit } else { self.0 / unit };
        i64::try_from(up).unwrap_or(i64::MAX)
    }
}

/// A suffix as (factor, power of ten).
fn scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            (1, Some(exponent).filter(|e| (-18..=18).contains(e))?)
        }
    })
}

/// What a container's resources say, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Thousandths of a CPU.
    pub cpu_request: Option<i64>,
    pub cpu_limit: Option<i64>,
    /// Bytes.
    pub memory_request: Option<i64>,
    pub memory_limit: Option<i64>,
}

/// Reads `resources`; `path` is where they stand, for the error.
pub fn wanted(resources: Option<&ResourceRequirements>, path: &str) -> Result<Wanted> {
    let Some(resources) = resources else { return Ok(Wanted::default()) };
    let empty = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&empty);
    let requests = resources.requests.as_ref().unwrap_or(&empty);
    let mut wanted = Wanted::default();
    for (list, kind) in [(limits, "limits"), (requests, "requests")] {
        for (name, quantity) in list {
            let at = format!("{path}.resources.{kind}.{name}");
            let amount = amount(quantity, &at)?;
            let slot = match (kind, name.as_str()) {
                ("limits", "cpu") => &mut wanted.cpu_limit,
                ("limits", "memory") => &mut wanted.memory_limit,
                (_, "cpu") => &mut wanted.cpu_request,
                (_, "memory") => &mut wanted.memory_request,
                _ => return Err(Error::Refused(format!("{at} is not supported yet"))),
            };
            *slot = Some(if name == "cpu" { amount.thousandths() } else { amount.units() });
        }
    }
    for (name, request, limit) in [
        ("cpu", wanted.cpu_request, wanted.cpu_limit),
        ("memory", wanted.memory_request, wanted.memory_limit),
    ] {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            return Err(Error::Invalid(format!(
                "{path}.resources.requests.{name} must not exceed its limit"
            )));
        }
    }
    // A limit alone is also the request (the API server's default).
    wanted.cpu_request = wanted.cpu_request.or(wanted.cpu_limit);
    wanted.memory_request = wanted.memory_request.or(wanted.memory_limit);
    Ok(wanted)
}

/// A quantity that must be one and not negative.
pub fn amount(quantity: &Quantity, at: &str) -> Result<Amount> {
    Amount::parse(&quantity.0).filter(|amount| *amount >= Amount(0)).ok_or_else(|| {
        Error::Invalid(format!("{at}: {:?} is not a quantity like 250m or 64Mi", quantity.0))
    })
}

impl Wanted {
    /// cpu.shares of the request (the kubelet's MilliCPUToShares).
    pub fn cpu_shares(&self) -> i64 {
        let milli = self.cpu_request.unwrap_or(0);
        milli.saturating_mul(1024).checked_div(1000).unwrap_or(0).clamp(2, 262_144)
    }

    /// (period, quota) in microseconds; a quota of 0 limits nothing (MilliCPUToQuota).
    pub fn cpu_quota(&self) -> (i64, i64) {
        match self.cpu_limit.unwrap_or(0) {
            0 => (PERIOD, 0),
            milli => (PERIOD, (milli.saturating_mul(PERIOD) / 1000).max(1000)),
        }
    }
}

/// A pod's QoS class, which decides its out-of-memory score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn of<'a>(containers: impl Iterator<Item = &'a Container>) -> Self {
        let mut all_guaranteed = true;
        let mut any = false;
        for container in containers {
            let wanted = wanted(container.resources.as_ref(), "").unwrap_or_default();
            any |= wanted != Wanted::default();
            let fixed = |request: Option<i64>, limit: Option<i64>| {
                limit.is_some_and(|limit| limit > 0) && request == limit
            };
            all_guaranteed &= fixed(wanted.cpu_request, wanted.cpu_limit)
                && fixed(wanted.memory_request, wanted.memory_limit);
        }
        match (any, all_guaranteed) {
            (false, _) => Self::BestEffort,
            (true, true) => Self::Guaranteed,
            (true, false) => Self::Burstable,
        }
    }

    /// oom_score_adj of a container that requests `memory` bytes on a node with `capacity`
    /// (the kubelet's qos.GetContainerOOMScoreAdjust).
    pub fn oom_score_adj(self, memory: i64, capacity: i64) -> i64 {
        match self {
            Self::Guaranteed => -997,
            Self::BestEffort => 1000,
            Self::Burstable => {
                let share = memory.saturating_mul(1000).checked_div(capacity).unwrap_or(0);
                (1000 - share).clamp(3, 999)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_mean_what_kubernetes_says() {
        for (text, units, thousandths) in [
            ("1", 1, 1000),
            ("250m", 1, 250),
            ("1.5", 2, 1500),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("64Mi", 67_108_864, 67_108_864_000),
            ("1e3", 1000, 1_000_000),
            ("2E", 2_000_000_000_000_000_000, i64::MAX),
            (".5", 1, 500),
            ("5.", 5, 5000),
            ("1n", 1, 1),
            ("0", 0, 0),
        ] {
            let amount = Amount::parse(text).expect(text);
            assert_eq!((amount.units(), amount.thousandths()), (units, thousandths), "{text}");
        }
        for text in ["", "m", "1.2.3", "1 Gi", "1GB", "1ee3", "e3", "--1", "0x10", "1e99"] {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
    }

    #[test]
    fn shares_and_quota_are_the_kubelets() {
        let wanted =
            |request, limit| Wanted { cpu_request: request, cpu_limit: limit, ..Wanted::default() };
        assert_eq!(wanted(None, None).cpu_shares(), 2);
        assert_eq!(wanted(Some(250), None).cpu_shares(), 256);
        assert_eq!(wanted(None, Some(500)).cpu_quota(), (100_000, 50_000));
        assert_eq!(wanted(None, Some(1)).cpu_quota(), (100_000, 1000));
        assert_eq!(wanted(None, None).cpu_quota(), (100_000, 0));
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_fail_otherwise_than_by_none(text in "[-+0-9.eEkKMGTPimun]{0,40}") {
            let _ = Amount::parse(&text);
        }
    }
}
