//! Ports of the host that lead to pods by the shim's proxy: `wasmpod run -p`, hostPort of pod
//! files, CRI's port mappings; for an ordinary user first of all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod kit;
mod loopback;
mod mistakes;
mod pods;
