//! Named network namespaces: files of `<state>/netns/` with a namespace mounted on each, as
//! `ip netns` has them. Knows nothing of plugins or records.

use std::fs::{self, File};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use crate::error::{Error, Result};
use crate::model::ids::SandboxId;
use crate::netns;

/// What statfs says of a file with a namespace mounted on it (the kernel's NSFS_MAGIC).
const NSFS: i64 = 0x6e73_6673;

/// This thread's network namespace.
const OWN: &str = "/proc/thread-self/ns/net";

#[derive(Clone, Debug)]
pub struct Namespaces {
    folder: PathBuf,
}

/// A namespace that others can reach as long as this lives.
#[derive(Debug)]
pub struct Door {
    file: File,
}

impl Door {
    /// A path to the namespace for any process of this user, whatever mounts it sees: the
    /// folder may be mounted later than a shim's mount namespace was made.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

impl Namespaces {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where that sandbox's namespace is, or would be.
    pub fn path(&self, id: &SandboxId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    /// Makes a sandbox's namespace, loopback up. Blocks.
    pub fn make(&self, id: &SandboxId) -> Result<()> {
        self.ready()?;
        let path = self.path(id);
        File::create(&path).map_err(Error::io(format!("making {}", path.display())))?;
        let made = {
            let path = path.clone();
            // A thread of its own, since a thread stays in the namespace that it makes.
            on_a_thread(move || {
                netns::make()?.ok_or_else(|| {
                    Error::Precondition(
                        "a pod's network namespace cannot be made: that needs \
                                         CAP_SYS_ADMIN, and room below user.max_net_namespaces"
                            .to_owned(),
                    )
                })?;
                rustix::mount::mount_bind(OWN, &path)
                    .map_err(Error::sys(format!("mounting {}", path.display())))
            })
        };
        if made.is_err() {
            let _ = fs::remove_file(&path);
        }
        made
    }

    /// Opens a namespace for others; [`Error::NotFound`] when it is gone.
    pub fn open(&self, id: &SandboxId) -> Result<Door> {
        let path = self.path(id);
        if !is_namespace(&path) {
            return Err(Error::not_found("network namespace", id.as_str()));
        }
        File::open(&path)
            .map(|file| Door { file })
            .map_err(Error::io(format!("opening {}", path.display())))
    }

    /// The path, where the namespace is there.
    pub fn find(&self, id: &SandboxId) -> Option<PathBuf> {
        Some(self.path(id)).filter(|path| is_namespace(path))
    }

    /// Lets a namespace go; succeeds when there is none. Blocks.
    pub fn remove(&self, id: &SandboxId) -> Result<()> {
        remove(&self.path(id))
    }

    /// Removes every namespace that `keep` does not want, and what was half made. Blocks.
    pub fn sweep(&self, keep: impl Fn(&SandboxId) -> bool) -> Result<()> {
        let doing = || Error::io(format!("reading {}", self.folder.display()));
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(doing())?,
        };
        for entry in entries {
            let path = entry.map_err(doing())?.path();
            let id = path.file_name().and_then(|name| SandboxId::parse(name.to_str()?));
            if !id.is_some_and(|id| keep(&id)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// The folder is a mount of its own that shares its mounts, so that namespaces which are
    /// let go leave every mount namespace that was copied from this one.
    fn ready(&self) -> Result<()> {
        let folder = &self.folder;
        let doing = || Error::sys(format!("mounting {}", folder.display()));
        if is_mount(folder) {
            return Ok(());
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(folder)
            .map_err(Error::io(format!("making {}", folder.display())))?;
        rustix::mount::mount_bind(folder, folder).map_err(doing())?;
        rustix::mount::mount_change(folder, MountPropagationFlags::SHARED).map_err(doing())
    }
}

fn is_mount(path: &Path) -> bool {
    rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn is_namespace(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == NSFS)
}

fn remove(path: &Path) -> Result<()> {
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not there, or nothing mounted on it (any more).
            Err(Errno::NOENT | Errno::INVAL) => break,
            Err(errno) => return Err(Error::sys(format!("unmounting {}", path.display()))(errno)),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Which of `addresses` the namespace does not have, and whether it lacks `interface`: a plugin
/// may say what is not so. Blocks.
pub fn missing(
    namespace: PathBuf,
    interface: String,
    addresses: Vec<IpAddr>,
) -> Result<Option<String>> {
    on_a_thread(move || {
        netns::enter(&namespace)?;
        let table = |name: &str| {
            let file = format!("/proc/thread-self/net/{name}");
            fs::read_to_string(&file).map_err(Error::io(format!("reading {file}")))
        };
        let is_it = |line: &str| line.trim_start().starts_with(&format!("{interface}:"));
        if !table("dev")?.lines().any(is_it) {
            return Ok(Some(interface));
        }
        for address in addresses {
            let is_there = match address {
                IpAddr::V4(_) => UdpSocket::bind((address, 0)).is_ok(),
                // A tentative one cannot be bound yet, and is listed.
                IpAddr::V6(six) => {
                    table("if_inet6")?.contains(&format!("{:032x}", u128::from(six)))
                }
            };
            if !is_there {
                return Ok(Some(address.to_string()));
            }
        }
        Ok(None)
    })
}

/// Whether a namespace could be made: makes one that nobody sees. Blocks.
pub fn try_one() -> Result<()> {
    on_a_thread(|| {
        netns::make()?
            .map(drop)
            .ok_or_else(|| Error::Precondition("that needs CAP_SYS_ADMIN".to_owned()))
    })
}

fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(work)
        .map_err(|error| Error::Exhausted(format!("starting a thread: {error}")))?
        .join()
        .unwrap_or_else(|_| Err(Error::Internal("a namespace's thread panicked".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unmounts what a test mounted.
    struct Folder(tempfile::TempDir);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = rustix::mount::unmount(self.0.path().join("netns"), UnmountFlags::DETACH);
        }
    }

    #[test]
    fn a_namespace_is_made_found_by_another_and_gone_when_removed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: network namespaces need root");
            return;
        }
        let folder = Folder(tempfile::tempdir().unwrap());
        let namespaces = Namespaces::new(folder.0.path().join("netns"));
        let (id, other) = (SandboxId::random(), SandboxId::random());
        for id in [&id, &other] {
            namespaces.make(id).unwrap();
        }
        let again = Namespaces::new(folder.0.path().join("netns"));
        assert_eq!(again.find(&id), Some(namespaces.path(&id)));
        let door = again.open(&id).unwrap();
        let path = PathBuf::from(door.path());
        let joined = std::thread::spawn(move || {
            netns::enter(&path).unwrap();
            std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            fs::read_to_string("/proc/thread-self/net/dev").unwrap()
        });
        assert!(joined.join().unwrap().contains("lo:"));
        let named = |interface: &str, address: &str| {
            let addresses = vec![address.parse().unwrap()];
            missing(again.path(&id), interface.to_owned(), addresses).unwrap()
        };
        assert_eq!(named("lo", "127.0.0.1"), None);
        assert_eq!(named("lo", "::1"), None);
        assert_eq!(named("lo", "10.1.2.3"), Some("10.1.2.3".to_owned()));
        assert_eq!(named("eth0", "127.0.0.1"), Some("eth0".to_owned()));
        again.sweep(|kept| *kept == id).unwrap();
        assert_eq!(again.find(&other), None);
        again.remove(&id).unwrap();
        again.remove(&id).unwrap();
        assert!(again.open(&id).is_err());
    }
}
