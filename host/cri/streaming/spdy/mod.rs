//! SPDY/3.1 as Kubernetes speaks it: streams on one connection, without flow control. Knows
//! nothing of what streams are for.
//!
//! Own code rather than the crate spdystream-rs: that one unpacks headers without a limit, keeps
//! frames of 16 MiB whole, and has no client's side, which tests, benchmarks and our own commands
//! want.

mod connection;
pub(super) mod frame;
pub(super) mod headers;
mod writing;

pub use connection::{Connection, Role, Stream, Writer, start};
pub use headers::Headers;

/// What a peer sent wrongly; it ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client sent {0}")]
pub struct Fault(pub &'static str);
