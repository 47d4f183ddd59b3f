//! The image store from outside: what it takes in, what it refuses and how it says so, and what
//! is left after a kill at any point.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bad_input;
mod commands;
mod doctor;
mod forms;
mod full_disk;
mod in_use;
mod kills;
pub mod kit;
mod machine_code;
mod verbs;
mod volumes;
