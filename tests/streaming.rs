//! Exec, Attach and PortForward as clients use them: with our own client, with this program's
//! commands, and with the real crictl over both transports.

mod attach;
mod commands;
mod exec;
mod hostile;
pub mod kit;
mod ports;
mod tools;
