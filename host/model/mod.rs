//! Plain data and pure state machines that every other part may use. Knows only std, serde, IP
//! networks and the system's random numbers: no wire message, no file, no thread.

pub mod adjusted;
pub mod container;
pub mod cpu_time;
pub mod cpuset;
pub mod exits;
pub mod finding;
pub mod handler;
pub mod ids;
pub mod mount;
pub mod ports;
pub mod resources;
pub mod sandbox;
pub mod service;
pub mod signal;
pub mod sockets;
pub mod user;
pub mod weight;
pub mod work;
