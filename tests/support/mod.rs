//! What integration tests share: a daemon of their own on folders of its own, clients of its
//! sockets, guests, the messages that make pods, logs read back, and waiting with a deadline.
//!
//!     use crate::support;
//!
//!     #[tokio::test]
//!     async fn a_guest_greets() {
//!         let daemon = support::Daemon::start().await;
//!         let image = daemon.import("hello").await;
//!         let pod = daemon.run_pod(support::sandbox("greets")).await;
//!         let container = pod.run(support::container("hello", &image)).await;
//!         assert_eq!(container.exit().await.exit_code, 0);
//!         assert!(container.log().text("stdout").starts_with("hello, world"));
//!     }
//!
//! Every test has its own daemon, so tests run side by side. When a test fails, the end of its
//! daemon's log follows; `WASMPOD_TEST_KEEP=1` keeps its folder.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod cleanup;
mod daemon;
pub mod descriptor;
mod guests;
mod logs;
mod messages;
mod moments;
mod names;
mod pods;
mod port;
mod tarpit;
mod user;
mod wait;

pub use cleanup::plugins_of;
pub use daemon::Daemon;
pub use guests::{guest, guest_folder};
pub use logs::{Line, Log};
pub use messages::{container, env, host_network, mount, mount_read_only, sandbox};
pub use moments::Moments;
pub use names::NameServer;
pub use pods::{Container, Pod};
pub use port::Port;
pub use tarpit::Tarpit;
pub use user::User;
pub use wait::{DEADLINE, eventually, eventually_async};

/// Says loudly that tests are skipped for want of something that scripts/setup.sh installs; no test
/// is, where WASMPOD_TESTS_SKIP_NOTHING is set.
#[track_caller]
pub fn skipped(why: &str) {
    assert!(std::env::var_os("WASMPOD_TESTS_SKIP_NOTHING").is_none(), "not to be skipped: {why}");
    eprintln!("SKIPPED: {why}");
}

/// Is this process root? If not, says loudly that the test is skipped.
///
///     if !support::root_for("mounts") { return }
pub fn root_for(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: {what} needs root");
    }
    root
}
