//! The pod agent: plays the kubelet for `wasmpod run`. Reaches pods only through a CRI client.

mod atomic_writer;
mod backoff;
mod configs;
mod env;
mod events;
mod hooks;
mod hosts;
pub mod logs;
pub mod manifest;
mod node;
mod observe;
mod pod;
mod pods;
pub mod ports;
mod pulling;
mod quantity;
mod record;
mod remote;
mod security;
mod service;
mod starting;
mod status;
mod stopping;
mod store;
mod strict;
mod sub_path;
mod sync;
mod validate;
mod volumes;
mod watch;
mod worker;

pub use pods::Agent;
