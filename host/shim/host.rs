//! What all sandboxes and containers of one shim share.

use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::Engine;

use super::exits::Exits;
use super::namespace::Privilege;
use super::programs::Programs;
use super::ticker::Ticker;
use super::wasi::fs::Devices;
use crate::model::cpuset::CpuSet;

pub struct Host {
    pub engine: Engine,
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
    /// The CPUs that threads have where nothing else is said.
    pub cpus: CpuSet,
    /// The CPUs that may be asked for.
    pub machine: CpuSet,
}
