//! The plugin as a component: the generated code, and the crate's own types to it and back. Only
//! here is it named.

pub mod backend;
pub mod bindings;
mod convert;
pub mod export;
mod panic;
