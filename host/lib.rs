//! wasmpod: a WebAssembly sandbox runtime for Kubernetes. ARCHITECTURE.md shows the house; each
//! module's first lines say what it owns and what it must not know.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod agent;
pub mod cli;
pub mod config;
pub mod cri;
pub mod engine;
pub mod error;
pub mod image;
mod interface;
pub mod lifecycle;
pub mod model;
pub mod netns;
pub mod network;
mod passing;
pub mod proto;
mod retry;
pub mod runtime;
pub mod shim;
mod speech;
pub mod telemetry;
/// What tests wait with.
#[cfg(test)]
#[path = "../tests/support/wait.rs"]
mod wait;
mod watch;
