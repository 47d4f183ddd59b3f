//! Which containers run which programs of their own files by exec. Machine code of those belongs
//! to no image: it goes with the last container that ran it. Knows nothing of where it lies.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::model::ids::ContainerId;

/// Programs that one container has kept, the last ones that it ran: a probe finds its own, and a
/// guest that makes programs does not fill the disk.
const KEPT: usize = 8;

#[derive(Default)]
pub struct ExecCodes(Mutex<Codes>);

#[derive(Default)]
struct Codes {
    uses: u64,
    /// By digest: who ran it, and the number of the last use.
    users: HashMap<String, HashMap<ContainerId, u64>>,
}

impl ExecCodes {
    /// `container` is about to run the program of this digest.
    pub fn use_by(&self, container: &ContainerId, digest: &str) {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.uses += 1;
        let number = codes.uses;
        codes.users.entry(digest.to_owned()).or_default().insert(container.clone(), number);
        let mut own: Vec<u64> =
            codes.users.values().filter_map(|users| users.get(container).copied()).collect();
        own.sort_unstable();
        let Some(&oldest) = own.len().checked_sub(KEPT).and_then(|at| own.get(at)) else { return };
        for users in codes.users.values_mut() {
            if users.get(container).is_some_and(|&number| number < oldest) {
                users.remove(container);
            }
        }
    }

    /// Forgets and gives the digests that no container is left for.
    pub fn take_unused(&self, is_there: impl Fn(&ContainerId) -> bool) -> Vec<String> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for users in codes.users.values_mut() {
            users.retain(|container, _| is_there(container));
        }
        codes.users.extract_if(|_, users| users.is_empty()).map(|(digest, _)| digest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_goes_with_the_last_container_that_ran_it() {
        let (one, other) = (ContainerId::random(), ContainerId::random());
        let codes = ExecCodes::default();
        codes.use_by(&one, "a");
        codes.use_by(&one, "b");
        codes.use_by(&other, "b");
        assert_eq!(codes.take_unused(|_| true), Vec::<String>::new());
        assert_eq!(codes.take_unused(|id| *id == other), ["a"]);
        assert_eq!(codes.take_unused(|_| false), ["b"]);
        assert_eq!(codes.take_unused(|_| false), Vec::<String>::new());
    }

    #[test]
    fn of_many_programs_a_container_keeps_the_last_ones() {
        let container = ContainerId::random();
        let codes = ExecCodes::default();
        codes.use_by(&container, "first");
        for number in 0..KEPT {
            codes.use_by(&container, "again");
            codes.use_by(&container, &number.to_string());
        }
        let mut gone = codes.take_unused(|_| true);
        gone.sort();
        assert_eq!(gone, ["0", "first"]);
    }
}
