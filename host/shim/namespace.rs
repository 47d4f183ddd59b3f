//! The shim's mount namespace, and the way back into the host's. Knows nothing of containers.
//!
//! It is a slave of the host's: what the host unmounts goes, and nothing made in it is seen
//! outside. It dies with the shim, so a killed shim leaves no mount behind.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::error::{Error, Result};

/// What the shim may do on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Real root: overlays need no user namespace.
    Root,
    /// Root of a user namespace of the shim's own.
    UserNamespace,
}

/// The host's mount namespace, where the shim may go back to it.
static HOST: OnceLock<OwnedFd> = OnceLock::new();

/// Gives the calling process a mount namespace of its own, and as an ordinary user a user
/// namespace first. Once, before any other thread exists.
pub fn enter() -> Result<Privilege> {
    let unshare = |flags| {
        // SAFETY: the caller promises that this is the only thread; no descriptor table or
        // memory is unshared.
        unsafe { rustix::thread::unshare_unsafe(flags) }
    };
    let host = own_namespace()?;
    let privilege = match unshare(UnshareFlags::NEWNS) {
        Ok(()) => {
            HOST.get_or_init(|| host);
            Privilege::Root
        }
        Err(Errno::PERM) => {
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(forbidden)?;
            let map = |file: &str, text: String| {
                std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| {
                    match Errno::from_io_error(&error) {
                        Some(errno @ (Errno::PERM | Errno::ACCESS)) => forbidden(errno),
                        _ => Error::io(format!("writing /proc/self/{file}"))(error),
                    }
                })
            };
            map("setgroups", "deny".to_owned())?;
            map("uid_map", format!("0 {} 1", uid.as_raw()))?;
            map("gid_map", format!("0 {} 1", gid.as_raw()))?;
            Privilege::UserNamespace
        }
        Err(errno) => return Err(Error::sys("making a mount namespace")(errno)),
    };
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .map_err(Error::sys("making the mount namespace a slave of the host's"))?;
    Ok(privilege)
}

/// Why an ordinary user has no user namespace of its own, without which nothing can be mounted.
fn forbidden(errno: Errno) -> Error {
    let why = match errno {
        Errno::NOSPC => "user.max_user_namespaces is 0 or used up",
        Errno::PERM | Errno::ACCESS => {
            "kernel.unprivileged_userns_clone is 0, or AppArmor or seccomp forbids them to users"
        }
        Errno::INVAL => "this kernel has none",
        errno => return Error::sys("making a user namespace")(errno),
    };
    Error::Precondition(format!(
        "an ordinary user's pods need a user namespace, and none can be made: {why}; `wasmpod \
         doctor` says what to do"
    ))
}

/// The calling thread's mount namespace.
fn own_namespace() -> Result<OwnedFd> {
    rustix::fs::open("/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::sys("opening the own mount namespace"))
}

/// Runs `work` in the host's mount namespace and comes back. In a user namespace of the shim's
/// own there is no way out: then the slave copy has to do.
pub fn in_host<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(host) = HOST.get() else { return work() };
    let own = own_namespace()?;
    // SAFETY: only the working directory, root and umask stop being shared with other threads;
    // the kernel wants that of a thread that changes its mount namespace.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }
        .map_err(Error::sys("leaving the shared working directory"))?;
    let enter = |namespace: &OwnedFd| {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
            .map_err(Error::sys("changing the mount namespace"))
    };
    enter(host)?;
    let outcome = work();
    enter(&own)?;
    outcome
}
