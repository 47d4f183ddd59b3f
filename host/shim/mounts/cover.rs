//! Paths of a root that its container may not see, or not write: CRI's masked_paths and
//! readonly_paths, as runc does them. What is not there needs neither.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::{Reach, clone_tree, in_root, put, set_attributes};
use crate::error::{Error, Result};

/// Absolute paths inside the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covers {
    pub masked: Vec<String>,
    pub read_only: Vec<String>,
}

/// Covers them, at the end of all mounts. `dev` is the folder of devices.
pub fn cover(root: BorrowedFd<'_>, covers: &Covers, dev: &Path) -> Result<()> {
    for path in &covers.read_only {
        let doing = || format!("making {path} read-only");
        let Some(at) = find(root, path).map_err(Error::sys(doing()))? else { continue };
        make_read_only(&at).map_err(Error::sys(doing()))?;
    }
    for path in &covers.masked {
        let doing = || format!("masking {path}");
        let Some(at) = find(root, path).map_err(Error::sys(doing()))? else { continue };
        mask(&at, dev).map_err(Error::sys(doing()))?;
    }
    Ok(())
}

/// Links are followed inside the root.
fn find(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<Option<OwnedFd>> {
    match in_root(root, Path::new(path)) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// With all that is mounted below it.
fn make_read_only(at: &OwnedFd) -> rustix::io::Result<()> {
    let tree = clone_tree(at)?;
    set_attributes(tree.as_fd(), Reach::Below, libc::MOUNT_ATTR_RDONLY, None)?;
    put(tree.as_fd(), at.as_fd())
}

/// A folder becomes an empty one that nothing can be put into, a file the null device.
fn mask(at: &OwnedFd, dev: &Path) -> rustix::io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(at)?.st_mode);
    let over = if kind == FileType::Directory { nothing()? } else { clone_tree(&null(dev)?)? };
    put(over.as_fd(), at.as_fd())
}

fn null(dev: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(dev.join("null"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

fn nothing() -> rustix::io::Result<OwnedFd> {
    let tmpfs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&tmpfs, "mode", "0755")?;
    rustix::mount::fsconfig_set_string(&tmpfs, "nr_inodes", "1")?;
    rustix::mount::fsconfig_create(&tmpfs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    rustix::mount::fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{in_namespace, is_read_only};
    use super::super::{MountAccess, assemble};
    use super::*;

    #[test]
    fn covered_paths_are_empty_or_read_only_and_absent_ones_stay_absent() {
        in_namespace(|dir, mut spec| {
            fs::create_dir_all(dir.join("layer/secrets/deep")).unwrap();
            fs::write(dir.join("layer/etc/shadow"), "hashes").unwrap();
            fs::create_dir(dir.join("layer/tmp")).unwrap();
            spec.mounts = vec![super::super::tests::mount(
                &dir.join("volume"),
                "/tmp/volume",
                MountAccess::ReadWrite,
            )];
            let text = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
            spec.covers = Covers {
                masked: text(&[
                    "/secrets",
                    "/etc/shadow",
                    "/proc/kcore",
                    "/etc/motd/x",
                    "/../etc/motd",
                ]),
                read_only: text(&["/tmp", "/proc/sys", "/secrets"]),
            };
            let at = dir.join("root");
            let tree = assemble(&at, &spec).unwrap();
            assert_eq!(fs::read_dir(at.join("secrets")).unwrap().count(), 0);
            assert!(fs::write(at.join("secrets/new"), "x").is_err());
            assert_eq!(fs::read_to_string(at.join("etc/shadow")).unwrap(), "");
            assert_eq!(fs::read_to_string(at.join("etc/motd")).unwrap(), "");
            assert!(is_read_only(fs::write(at.join("tmp/new"), "x")));
            assert!(is_read_only(fs::write(at.join("tmp/volume/new"), "x")));
            assert!(!at.join("proc").exists());
            fs::write(at.join("etc/new"), "x").unwrap();
            tree.take_down().unwrap();
            assert_eq!(fs::read_to_string(dir.join("layer/etc/shadow")).unwrap(), "hashes");
        });
    }
}
