//! Every integration test, one file per topic. One program, because each would be linked with
//! the whole of wasmtime.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

mod conformance;
mod cri_containers;
mod cri_descriptor;
mod cri_sandboxes;
mod crictl;
mod crictl_watch;
mod ends;
mod examples;
mod exec;
mod files;
mod images;
mod input;
mod limits;
mod logs;
mod metrics;
mod network;
mod pinning;
mod plugin_cli;
mod plugin_run;
mod plugins;
mod pod_resources;
mod ports;
mod recovery;
mod registry;
mod run;
mod runtime_operations;
mod runtime_recovery;
mod services;
mod shim_descriptor;
mod shim_pool;
mod shim_process;
mod sockets;
mod streaming;
mod stuck;
mod telemetry;
mod toolbox;
mod users;
mod walls;
mod working_dir;
