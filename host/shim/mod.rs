//! The shim: a process that holds sandboxes and their containers and outlives the daemon. Knows
//! the model and its own protocol; nothing of CRI, images, pods' manifests or the database.
//!
//! A call's way: `server` (wire messages, by `convert`) -> `registry` (which sandboxes and
//! containers there are) -> `container` and `sandbox` (handles) -> their threads (`life`,
//! `exec`, `resolve`) -> `guest::Program`. Nothing slow happens on the server's thread.

mod clock;
mod connections;
mod container;
mod convert;
mod cpu;
mod crew;
mod dial;
mod ending;
mod exec;
mod exits;
pub mod guest;
mod hooks;
mod host;
mod ids;
mod input;
pub mod keeping;
pub mod kill;
pub mod ledger;
mod life;
pub mod log;
mod loopback;
mod memories;
pub mod mounts;
pub mod namespace;
pub mod network;
pub mod output;
mod phase;
mod pinning;
mod ports;
mod process;
pub mod processes;
mod programs;
mod registry;
mod resolve;
pub mod resolver;
mod room;
mod sandbox;
mod server;
mod sessions;
pub mod sockets;
mod spec;
pub mod stacks;
mod stats;
mod streaming;
mod stuck;
mod taps;
mod terminal;
#[cfg(test)]
mod tests;
pub mod this;
pub mod ticker;
mod traffic;
pub mod wasi;

pub use process::{Options, main};

/// Locks; what a panicking thread left behind is as good as anything, since each lock here
/// guards single steps.
fn lock<T: ?Sized>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
