//! The CRI edge: turns CRI messages into calls of `runtime` and `image` and back, and errors
//! into gRPC codes. The only part, with the agent and the command line as clients, that names
//! CRI's messages.

mod chunks;
pub mod client;
pub mod codes;
mod containers;
mod convert;
mod deadline;
mod events;
mod image_service;
mod metrics;
mod node;
mod pod_images;
mod pod_node;
mod pull;
mod push;
pub mod router;
mod runtime_service;
mod sandboxes;
mod security;
pub mod server;
mod service;
pub mod streaming;
mod streams;
mod weight;

pub use convert::image::progress as pull_progress;
