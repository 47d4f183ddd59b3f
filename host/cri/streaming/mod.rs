//! The streaming server: where Exec, Attach and PortForward send their clients (CRI's URLs).
//! kubectl and kubelets speak SPDY to it, newer clients WebSocket; both carry the same sessions.
//!
//! A request's way: `tickets` (what a URL stands for, once) -> `server` (HTTP and its upgrade) ->
//! `spdy` or `websocket` (streams on one connection) -> `remote` or `forward` (what they are for)
//! -> the runtime's sessions.

pub mod client;
mod flow;
mod forward;
#[cfg(test)]
mod fuzz;
mod idle;
mod remote;
mod server;
mod spdy;
mod tickets;
mod websocket;

pub use server::Streaming;
pub use tickets::Ticket;
