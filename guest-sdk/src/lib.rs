//! Lifecycle plugins for wasmpod, a WebAssembly sandbox runtime for Kubernetes. A plugin is a
//! component that takes part in what happens to pods and containers: it sees them come and go,
//! changes containers before they are made, refuses them, or decides on which CPUs they run.
//!
//! ```
//! use wasmpod_guest::*;
//!
//! #[derive(Default)]
//! struct Hello;
//!
//! impl Plugin for Hello {
//!     const HOOKS: Hooks = Hooks::PRE_CREATE_CONTAINER;
//!
//!     fn pre_create_container(&mut self, _: &Pod, _: &Container) -> Result<Adjustment> {
//!         Ok(Adjustment::new().env("HELLO", "world"))
//!     }
//! }
//! plugin!(Hello, fields: ["env"]);
//! # fn main() {}
//! ```
//!
//! - [`Plugin`] and [`plugin!`]: a plugin of the node. [`PodHooks`] and [`pod_hooks!`]: hooks that
//!   a pod brings for itself.
//! - [`cpu`], [`memory`], [`pods`], [`containers`], [`events`], [`log`], [`config`], [`kv`]: what a
//!   plugin can do. What it uses of these it names in its manifest, by the macro; the node's
//!   configuration grants it. `log` and `config` need no grant.
//! - [`this`]: for any container.
//!
//! A plugin is a library crate of type `cdylib`, built for `wasm32-wasip2`. Its tests are built for
//! the machine that they run on, where a fake node answers instead (the module `testing`).
//!
//! A panic's text goes to the daemon's log; then the instance ends, and a new one begins with
//! [`Plugin::configure`] and [`Plugin::synchronize`].
#![deny(unsafe_code)]

mod adjustment;
pub mod config;
pub mod containers;
pub mod cpu;
mod cpuset;
mod error;
pub mod events;
mod hooks;
pub mod kv;
pub mod log;
#[doc(hidden)]
pub mod manifest;
pub mod memory;
mod plugin;
pub mod pods;
mod settings;
pub mod this;
mod types;

#[cfg(not(target_family = "wasm"))]
pub mod testing;
#[cfg(not(target_family = "wasm"))]
use testing::backend;

// The generated code, and statics in custom sections.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
mod wasm;
#[cfg(target_family = "wasm")]
use wasm::backend;

pub use adjustment::{Adjustment, ResourceChange, Rlimit, RlimitKind, Setting, Update};
pub use cpuset::CpuSet;
pub use error::{Context, Error, Result};
pub use hooks::Hooks;
pub use plugin::{Plugin, PodHooks};
pub use settings::Settings;
pub use types::{
    Container, ContainerState, Exit, Image, Mount, MountAccess, Pod, PodState, Realm, Resources,
    RuntimeInfo, User,
};

/// What the macros need; nobody else's.
#[doc(hidden)]
pub mod private {
    #[cfg(target_family = "wasm")]
    pub use crate::wasm::{bindings, export::Export, export::PodExport};
}

/// The documentation's examples are compiled with this crate's.
#[cfg(doctest)]
mod pages;
