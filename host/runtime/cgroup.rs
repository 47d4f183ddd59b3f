//! The cgroups of shims: a shim leaves the daemon's group, so that whoever ends the daemon's
//! group (a service manager) does not end the pods. Works on version 1 hierarchies, version 2
//! and both together; touches only groups that it makes itself.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::ids::{SandboxId, ShimId};

const BASE: &str = "/sys/fs/cgroup";

/// Which group a shim belongs into.
#[derive(Clone, Copy, Debug)]
pub enum Group<'a> {
    /// A group beside all pods'.
    Shim(&'a ShimId),
    /// A pod's own group, inside the one its creator made for it ("" when there is none).
    Pod { parent: &'a str, sandbox: &'a SandboxId },
}

impl Group<'_> {
    /// The group's path below each hierarchy's root.
    fn path(self) -> Result<PathBuf> {
        match self {
            Self::Shim(id) => Ok(Path::new("wasmpod").join(id.as_str())),
            Self::Pod { parent: "", sandbox } => {
                Ok(Path::new("wasmpod").join(format!("pod-{sandbox}")))
            }
            Self::Pod { parent, sandbox } => {
                Ok(parent_path(parent)?.join(format!("wasmpod-{sandbox}")))
            }
        }
    }
}

/// A cgroup parent as kubelets write it: a path (cgroupfs driver), or a systemd slice's name,
/// whose dashes say where it lies.
fn parent_path(parent: &str) -> Result<PathBuf> {
    let path = Path::new(parent.trim_start_matches('/'));
    if path.components().any(|part| !matches!(part, Component::Normal(_))) || parent.contains('\0')
    {
        return Err(Error::Invalid(format!("cgroup parent {parent:?} is no plain path")));
    }
    let Some(slice) = parent.strip_suffix(".slice").filter(|name| !name.contains('/')) else {
        return Ok(path.to_owned());
    };
    let dashes = slice.char_indices().filter(|(_, c)| *c == '-').map(|(at, _)| at);
    let ends = dashes.chain([slice.len()]);
    let parts = ends.filter_map(|end| slice.get(..end)).filter(|part| !part.is_empty());
    Ok(parts.map(|part| format!("{part}.slice")).collect())
}

/// The folders of `group`, one in each hierarchy that is mounted; none for a user other than
/// root, whose groups the service manager owns.
pub fn folders(group: Group<'_>) -> Result<Vec<PathBuf>> {
    let path = group.path()?;
    if !rustix::process::geteuid().is_root() {
        return Ok(Vec::new());
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Ok(roots(&own, Path::new(BASE)).into_iter().map(|root| root.join(&path)).collect())
}

/// The roots of the hierarchies that /proc/self/cgroup names, where they are mounted below
/// `base`.
fn roots(own: &str, base: &Path) -> Vec<PathBuf> {
    let root = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_number, controllers) = (fields.next()?, fields.next()?);
        let root = match controllers.strip_prefix("name=").unwrap_or(controllers) {
            "" if base.join("cgroup.controllers").exists() => base.to_owned(),
            "" => base.join("unified"),
            name => base.join(name),
        };
        root.join("cgroup.procs").exists().then_some(root)
    };
    own.lines().filter_map(root).collect()
}

/// Makes the groups and moves process `pid` into them. Goes on after a failure and returns the
/// first one: some hierarchies may be read-only or out of reach.
pub fn enter(folders: &[PathBuf], pid: u32) -> Result<()> {
    let mut outcome = Ok(());
    for folder in folders {
        let moved = make(folder).and_then(|()| {
            let procs = folder.join("cgroup.procs");
            fs::write(&procs, pid.to_string())
                .map_err(Error::io(format!("moving a shim into {}", folder.display())))
        });
        if outcome.is_ok() {
            outcome = moved;
        }
    }
    outcome
}

fn make(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(BASE));
    make(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::io(format!("making cgroup {}", folder.display()))(error));
        }
        _ => {}
    }
    // A version 1 cpuset takes no process before it has CPUs and memory nodes.
    for setting in ["cpuset.cpus", "cpuset.mems"] {
        let (above, own) = (parent.join(setting), folder.join(setting));
        if folder.join("cgroup.clone_children").exists()
            && let Ok(value) = fs::read_to_string(&above)
        {
            fs::write(&own, value.trim())
                .map_err(Error::io(format!("setting {}", own.display())))?;
        }
    }
    Ok(())
}

/// Removes the groups. The kernel lets a group go a moment after its last process.
pub async fn remove(folders: &[PathBuf]) {
    for folder in folders {
        for _ in 0..50 {
            match fs::remove_dir(folder) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(cgroup = %folder.display(), %error, "a cgroup cannot be removed");
                    break;
                }
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systemd_slice_lies_where_its_dashes_say() {
        for (parent, path) in [
            ("/kubepods/besteffort/pod1", "kubepods/besteffort/pod1"),
            ("kubepods.slice", "kubepods.slice"),
            (
                "kubepods-besteffort-pod1_2.slice",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice",
            ),
            ("/a/b-c.slice", "a/b-c.slice"),
        ] {
            assert_eq!(parent_path(parent).unwrap(), Path::new(path), "{parent}");
        }
        for bad in ["../x", "/a/../b", "a/./b/.."] {
            assert!(parent_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_mounted_hierarchy_is_found() {
        let base = tempfile::tempdir().unwrap();
        for name in ["systemd", "cpu,cpuacct", "unified"] {
            fs::create_dir(base.path().join(name)).unwrap();
            fs::write(base.path().join(name).join("cgroup.procs"), "").unwrap();
        }
        let own = "9:name=systemd:/\n8:pids:/\n1:cpu,cpuacct:/x\n0::/\n";
        let expected = ["systemd", "cpu,cpuacct", "unified"].map(|name| base.path().join(name));
        assert_eq!(roots(own, base.path()), expected);

        fs::write(base.path().join("cgroup.controllers"), "").unwrap();
        fs::write(base.path().join("cgroup.procs"), "").unwrap();
        assert_eq!(roots("0::/system.slice\n", base.path()), [base.path()]);
    }
}
