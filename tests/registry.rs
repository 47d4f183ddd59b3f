//! Pulls: from a real registry, from hostile ones of our own, by many at once, and cut short by
//! kills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod access;
pub mod fake;
mod hostile;
mod kills;
pub mod kit;
mod leading;
mod names;
mod push;
mod real;
pub mod server;
mod sharing;
mod terminal;
