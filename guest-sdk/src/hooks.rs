//! Which hooks a plugin wants.

use std::fmt::{self, Debug, Formatter};
use std::ops::BitOr;

/// A set of hooks. In constants: `Hooks::RUN_POD_SANDBOX.and(Hooks::VALIDATE_CONTAINER)`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hooks(u32);

/// Numbers are those of the interface's flags.
macro_rules! hooks {
    ($($constant:ident = $bit:literal $name:literal),* $(,)?) => {
        impl Hooks {
            $(pub const $constant: Self = Self(1 << $bit);)*
            pub const ALL: Self = Self(0 $(| 1 << $bit)*);
        }

        const NAMES: &[(Hooks, &str)] = &[$((Hooks::$constant, $name)),*];
    };
}

hooks! {
    RUN_POD_SANDBOX = 0 "run-pod-sandbox",
    STOP_POD_SANDBOX = 1 "stop-pod-sandbox",
    REMOVE_POD_SANDBOX = 2 "remove-pod-sandbox",
    UPDATE_POD_SANDBOX = 3 "update-pod-sandbox",
    POST_UPDATE_POD_SANDBOX = 4 "post-update-pod-sandbox",
    PRE_CREATE_CONTAINER = 5 "pre-create-container",
    POST_CREATE_CONTAINER = 6 "post-create-container",
    PRE_START_CONTAINER = 7 "pre-start-container",
    POST_START_CONTAINER = 8 "post-start-container",
    UPDATE_CONTAINER = 9 "update-container",
    POST_UPDATE_CONTAINER = 10 "post-update-container",
    PRE_STOP_CONTAINER = 11 "pre-stop-container",
    POST_STOP_CONTAINER = 12 "post-stop-container",
    REMOVE_CONTAINER = 13 "remove-container",
    CONTAINER_EXITED = 14 "container-exited",
    IMAGE_PULLED = 15 "image-pulled",
    VALIDATE_CONTAINER = 16 "validate-container",
}

impl Hooks {
    /// Only `synchronize` and `shutdown`, which every plugin is called for.
    pub const NONE: Self = Self(0);

    /// Both together; `|` is the same outside of constants.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names in the interface, in its order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(hook, _)| self.contains(*hook)).map(|(_, name)| *name)
    }

    /// One bit for each, in the interface's order.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for Hooks {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}

impl Debug for Hooks {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_interfaces_in_its_order() {
        let text = include_str!("../wit/types.wit");
        let flags = text.split("flags hooks {").nth(1).unwrap().split('}').next().unwrap();
        let names: Vec<_> = flags.split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
        assert_eq!(Hooks::ALL.names().collect::<Vec<_>>(), names);
        let numbers: Vec<_> = NAMES.iter().map(|(hook, _)| hook.bits().trailing_zeros()).collect();
        assert_eq!(numbers, (0..names.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn sets_are_made_in_constants_and_by_or() {
        const TWO: Hooks = Hooks::RUN_POD_SANDBOX.and(Hooks::VALIDATE_CONTAINER);
        assert_eq!(TWO, Hooks::VALIDATE_CONTAINER | Hooks::RUN_POD_SANDBOX);
        assert!(TWO.contains(Hooks::RUN_POD_SANDBOX) && !TWO.contains(Hooks::UPDATE_CONTAINER));
        assert_eq!(format!("{TWO:?}"), r#"{"run-pod-sandbox", "validate-container"}"#);
    }
}
