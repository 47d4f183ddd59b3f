//! Pods' networks by CNI: real plugins on bridges of the tests' own, and plugins that fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod agent;
mod conf;
mod doctor;
mod faults;
mod hanging;
mod kills;
pub mod kit;
mod pods;
