//! What all sandboxes and containers of one shim share.

use std::path::PathBuf;
use std::sync::Arc;

use super::cpu::Means;
use super::exits::Exits;
use super::namespace::Privilege;
use super::programs::Programs;
use super::ticker::Ticker;
use super::wasi::fs::Devices;
use crate::engine::Engines;

pub struct Host {
    pub engines: Engines,
    pub programs: Programs,
    /// For guests that share a thread.
    pub ticker: Arc<Ticker>,
    pub exits: Arc<Exits>,
    pub devices: Arc<Devices>,
    pub privilege: Privilege,
    /// The folder of devices that every root gets at /dev.
    pub dev: PathBuf,
    /// Where roots are assembled, a folder each.
    pub roots: PathBuf,
    /// By what containers' CPU time is held.
    pub means: Arc<Means>,
}
