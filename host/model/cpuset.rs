//! CPU sets in the kernel's list format (cpuset(7)): "0-3,7".

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The highest CPU number taken, so that a hostile "0-4294967295" costs nothing.
pub const MAX_CPU: usize = 8191;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuSet(BTreeSet<usize>);

impl CpuSet {
    /// Reads the list format. The error is one clause that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let list = shown(text);
        let mut set = BTreeSet::new();
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| {
                digits.parse::<usize>().map_err(|_| {
                    format!("{:?} in cpu list {list:?} is not a CPU or a range", shown(part))
                })
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("range {part:?} in cpu list {list:?} runs backwards"));
            }
            if last > MAX_CPU {
                return Err(format!(
                    "cpu list {list:?} names CPU {last}, the highest is {MAX_CPU}"
                ));
            }
            set.extend(first..=last);
        }
        Ok(Self(set))
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, cpu: usize) -> bool {
        self.0.contains(&cpu)
    }
}

/// As much of a text as an error repeats.
fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(64)).unwrap_or_default()
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<T: IntoIterator<Item = usize>>(cpus: T) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_lists_are_refused_with_the_part_that_is_wrong() {
        for (text, says) in [
            ("", "\"\""),
            ("a", "\"a\""),
            ("0-", "\"0-\""),
            ("3-1", "backwards"),
            ("0,,1", "\"\""),
            ("0-4294967295", "highest"),
        ] {
            let error = CpuSet::parse(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn an_error_is_short_whatever_the_list() {
        let error = CpuSet::parse(&format!("{}x", "0,".repeat(1 << 20))).unwrap_err();
        assert!(error.len() < 200, "{error}");
        let error = CpuSet::parse(&"x".repeat(1 << 20)).unwrap_err();
        assert!(error.len() < 200, "{error}");
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same_set(cpus in proptest::collection::btree_set(0usize..300, 1..40)) {
            let set = CpuSet(cpus);
            prop_assert_eq!(CpuSet::parse(&set.to_string()), Ok(set));
        }
    }
}
