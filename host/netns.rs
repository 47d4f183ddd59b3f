//! Network namespaces: making one and joining one, both for the calling thread alone. Knows
//! nothing of sandboxes, addresses or CNI.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::error::{Error, Result};

/// The lowest port that anybody may listen on, of the calling thread's namespace.
const FIRST_FREE_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Moves the calling thread into a new network namespace with loopback up, and returns the
/// namespace. `None` where that is not permitted: the thread then stays where it was.
pub fn make() -> Result<Option<OwnedFd>> {
    // SAFETY: only the calling thread's network namespace changes; no memory or descriptor
    // table is unshared.
    match unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) } {
        Ok(()) => {}
        // NOSPC: a user's limit, which may be 0; INVAL: a kernel without them.
        Err(Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::INVAL) => return Ok(None),
        Err(errno) => return Err(Error::sys("making a network namespace")(errno)),
    }
    bring_loopback_up().map_err(Error::sys("bringing loopback up"))?;
    // Ports are the namespace's own, so its containers need not be root for the low ones
    // (containerd's enable_unprivileged_ports). Where /proc/sys is not to be written, they do.
    let _ = std::fs::write(FIRST_FREE_PORT, "0");
    rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map(Some)
        .map_err(Error::sys("opening the network namespace"))
}

/// Moves the calling thread into `namespace`.
pub fn join(namespace: &OwnedFd) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(Error::sys("joining a network namespace"))
}

/// Moves the calling thread into the namespace of that file, and returns it.
pub fn enter(path: &Path) -> Result<OwnedFd> {
    let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::sys(format!("opening the network namespace {}", path.display())))?;
    join(&namespace)?;
    Ok(namespace)
}

fn bring_loopback_up() -> rustix::io::Result<()> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: ifreq is plain data, zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the name and the flags of an ifreq, both set above.
    if unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) } != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_loopback_and_can_be_joined() {
        let served = std::thread::spawn(|| {
            let namespace = make().expect("asks the kernel");
            // Where namespaces are not permitted there is nothing to show.
            let namespace = namespace?;
            if rustix::process::geteuid().is_root() {
                assert_eq!(std::fs::read_to_string(FIRST_FREE_PORT).expect("reads").trim(), "0");
            }
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is up");
            Some((namespace, listener))
        })
        .join()
        .expect("the thread ends well");
        let Some((namespace, listener)) = served else { return };
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            join(&namespace).expect("joins");
            std::net::TcpStream::connect(address).expect("reaches the listener");
        })
        .join()
        .expect("the thread ends well");
    }
}
