//! subPath: a path inside a volume, found without ever leaving the volume, whatever links a
//! container has put there.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// The real path of `sub_path` in `volume`. Missing folders are made, as the kubelet does. A
/// link that leads out of the volume is an error.
pub fn resolve(volume: &Path, sub_path: &str) -> Result<PathBuf> {
    let doing = || format!("resolving subPath {sub_path:?} in {}", volume.display());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root =
        rustix::fs::openat(CWD, volume, flags, Mode::empty()).map_err(Error::sys(doing()))?;
    let mut done = PathBuf::new();
    let mut found: Option<OwnedFd> = None;
    for part in Path::new(sub_path).components() {
        let Component::Normal(name) = part else { continue };
        done.push(name);
        let next = match open_beneath(&root, &done) {
            Err(Errno::NOENT) => {
                let parent = found.as_ref().map_or(root.as_fd(), AsFd::as_fd);
                match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => open_beneath(&root, &done),
                    Err(error) => Err(error),
                }
            }
            other => other,
        };
        found = Some(next.map_err(|error| match error {
            Errno::XDEV | Errno::LOOP => Error::Precondition(format!(
                "subPath {sub_path:?} leads out of its volume {}",
                volume.display()
            )),
            error => Error::sys(doing())(error),
        })?);
    }
    let found = found.as_ref().map_or(root.as_fd(), AsFd::as_fd);
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(Error::io(doing()))
}

fn open_beneath(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // A rename elsewhere in the tree makes the kernel unsure; it says so, and asking again helps.
    for _ in 0..16 {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), within) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn missing_folders_are_made_and_links_inside_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let volume = fs::canonicalize(folder.path()).unwrap();
        assert_eq!(resolve(&volume, "a/b").unwrap(), volume.join("a/b"));
        assert!(volume.join("a/b").is_dir());
        fs::write(volume.join("a/file"), "x").unwrap();
        symlink("a/file", volume.join("link")).unwrap();
        assert_eq!(resolve(&volume, "link").unwrap(), volume.join("a/file"));
        assert_eq!(resolve(&volume, "").unwrap(), volume);
    }

    #[test]
    fn links_that_lead_out_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("v");
        fs::create_dir(&volume).unwrap();
        for (name, target) in [("abs", "/etc"), ("up", "../.."), ("proc", "/proc/self/root")] {
            symlink(target, volume.join(name)).unwrap();
            for path in [name.to_owned(), format!("{name}/x")] {
                let error = resolve(&volume, &path).unwrap_err().to_string();
                assert!(error.contains("leads out"), "{path}: {error}");
            }
        }
    }
}
