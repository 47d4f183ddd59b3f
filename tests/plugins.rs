//! Lifecycle plugins of the node, as real components: who is asked what in which order, what their
//! answers do, and what becomes of those that misbehave.

mod adjusting;
mod apart;
mod chain;
mod examples;
mod files;
mod functions;
mod kit;
mod lies;
mod misbehaving;
mod node;
mod own;
mod realms;
mod shown;
mod this;
mod traps;
