//! Identifiers: 64 lower-case hex digits for sandboxes and containers, as containerd's are, so
//! that clients which shorten them to 12 or 13 digits keep working; 16 for shims.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

fn random_hex(bytes: &mut [u8]) -> String {
    if getrandom::fill(bytes).is_err() {
        // The kernel's generator does not fail once it is seeded; the clock and the address of
        // a stack slot still keep two ids apart on a machine where it does.
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as u64);
        let mut seed = now ^ (std::ptr::from_ref(&now) as u64);
        for byte in bytes.iter_mut() {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (seed >> 56) as u8;
        }
    }
    hex::encode(bytes)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new one, unlike any other.
            pub fn random() -> Self {
                Self(random_hex(&mut [0u8; $bytes]))
            }

            /// Takes a full id; `None` unless it is exactly the right number of lower-case hex
            /// digits, so that an id never forms a path of its own.
            pub fn parse(text: &str) -> Option<Self> {
                let well_formed = text.len() == 2 * $bytes
                    && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                well_formed.then(|| Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// Ordered and hashed as its digits are, so that maps are searched by prefix.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A pod sandbox's id.
    SandboxId,
    32
);
id!(
    /// A container's id.
    ContainerId,
    32
);
id!(
    /// A shim process's id: names its folder and socket under the state folder.
    ShimId,
    8
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_id_parses_and_differs_from_the_next() {
        let id = ContainerId::random();
        assert_eq!(ContainerId::parse(id.as_str()), Some(id.clone()));
        assert_ne!(id, ContainerId::random());
    }

    #[test]
    fn an_id_that_could_be_a_path_does_not_parse() {
        for text in ["", "..", "../../etc", &"A".repeat(64), &"/".repeat(64)] {
            assert_eq!(SandboxId::parse(text), None, "{text}");
        }
    }
}
