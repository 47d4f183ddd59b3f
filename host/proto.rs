//! The generated wire messages. `cri`, `agent` and `cli` alone name CRI's; `runtime` and `shim`
//! the shim's; `agent` and `cli` the pod agent's, and `cri` its import of images. A test holds
//! these walls.
#![allow(clippy::all, clippy::pedantic, missing_docs)]

/// CRI v1 (package runtime.v1).
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// wasmpod.shim.v1.
pub mod shim {
    tonic::include_proto!("wasmpod.shim.v1");
}

/// wasmpod.pod.v1.
pub mod pod {
    tonic::include_proto!("wasmpod.pod.v1");
}

/// Every method of these protocols: its service and its name.
pub const METHODS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// CRI's descriptor set, for the test that holds it against the published one.
pub const CRI_DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.binpb"));

/// The descriptor set of wasmpod's own protocols, for the test that holds the shim's against the
/// list of its version.
pub const OWN_DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/own.binpb"));

/// The versions of shim.proto that this build speaks, as daemon and as shim, the newest first.
/// Whoever adds one keeps the one before: an upgraded daemon serves the shims that it finds.
pub const SHIM_PROTOCOLS: [u32; 2] = [2, 1];
