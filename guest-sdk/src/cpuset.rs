//! Sets of CPUs, or of NUMA nodes, and the kernel's list format.

use std::collections::{BTreeSet, btree_set};
use std::fmt::{self, Debug, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result, bail};

/// Linux has no more CPUs than 8,192.
const LAST: u32 = 8191;

/// A set of CPUs, or of NUMA nodes. Its text is the kernel's list format: `0-3,8`, and empty for
/// none.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    pub const fn new() -> Self {
        Self(BTreeSet::new())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Whether it is new.
    pub fn insert(&mut self, cpu: u32) -> bool {
        self.0.insert(cpu)
    }

    /// Whether it was there.
    pub fn remove(&mut self, cpu: u32) -> bool {
        self.0.remove(&cpu)
    }

    /// In ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    pub fn union(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }

    pub fn intersection(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// What the other has not.
    pub fn difference(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    pub fn is_subset(&self, of: &Self) -> bool {
        self.0.is_subset(&of.0)
    }

    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.0.is_disjoint(&other.0)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl Extend<u32> for CpuSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, cpus: I) {
        self.0.extend(cpus);
    }
}

impl<const N: usize> From<[u32; N]> for CpuSet {
    fn from(cpus: [u32; N]) -> Self {
        Self(cpus.into())
    }
}

impl IntoIterator for CpuSet {
    type Item = u32;
    type IntoIter = btree_set::IntoIter<u32>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromStr for CpuSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str| match part.trim().parse::<u32>() {
            Ok(cpu) if cpu <= LAST => Ok(cpu),
            Ok(cpu) => bail!("\"{text}\" names {cpu}: at most {LAST} is possible"),
            Err(_) => bail!("\"{text}\" is no CPU list: \"{part}\" is no number"),
        };
        let mut set = Self::new();
        for part in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                bail!("\"{text}\" is no CPU list: {first}-{last} runs backwards");
            }
            set.extend(first..=last);
        }
        Ok(set)
    }
}

impl Display for CpuSet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|next| *next == last + 1) {
                last = next;
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl Debug for CpuSet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn texts_are_read_and_written_in_the_kernels_format() {
        for (text, told) in [
            ("", ""),
            ("3", "3"),
            ("0-3,8", "0-3,8"),
            ("8, 1,0 ,2\n", "0-2,8"),
            ("0,1", "0-1"),
            ("0-4,2-6", "0-6"),
        ] {
            assert_eq!(set(text).to_string(), told, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_with_what_is_wrong() {
        for (text, error) in [
            ("a", "\"a\" is no CPU list: \"a\" is no number"),
            ("1,,2", "\"1,,2\" is no CPU list: \"\" is no number"),
            ("3-1", "\"3-1\" is no CPU list: 3-1 runs backwards"),
            ("0-99999999", "\"0-99999999\" names 99999999: at most 8191 is possible"),
        ] {
            assert_eq!(text.parse::<CpuSet>().unwrap_err().message(), error);
        }
    }

    #[test]
    fn sets_are_sets() {
        let (low, odd) = (set("0-3"), set("1,3,5"));
        assert_eq!(low.union(&odd), set("0-3,5"));
        assert_eq!(low.intersection(&odd), set("1,3"));
        assert_eq!(low.difference(&odd), set("0,2"));
        assert!(set("1,3").is_subset(&low) && !odd.is_subset(&low));
        assert!(set("0,2").is_disjoint(&odd));
        assert_eq!(CpuSet::from([2, 1]).iter().collect::<Vec<_>>(), [1, 2]);
    }
}
