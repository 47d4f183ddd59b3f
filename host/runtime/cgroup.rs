//! The cgroups of shims: a shim leaves the daemon's group, so that whoever ends the daemon's
//! group (a service manager) does not end the pods. Works on version 1 hierarchies, version 2
//! and both together; touches only groups that it makes itself, but for saying above them, in
//! version 2, that they have the `cpu` controller.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::model::ids::{SandboxId, ShimId};
use crate::retry;

const BASE: &str = "/sys/fs/cgroup";

/// Below each hierarchy's root: the group of all shims' groups.
const HOME: &str = "wasmpod";

/// How long a group may be empty because its process has not come yet.
const YOUNG: Duration = Duration::from_secs(60);

/// How long a group that is to go may be busy.
const PATIENCE: Duration = Duration::from_millis(500);

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
            Self::Shim(id) => Ok(Path::new(HOME).join(id.as_str())),
            Self::Pod { parent: "", sandbox } => Ok(Path::new(HOME).join(format!("pod-{sandbox}"))),
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

/// The memory limit of the group that a pod's creator made for it, in bytes; `None` where there is
/// no such group or it has none.
pub fn memory_limit(parent: &str) -> Result<Option<i64>> {
    if parent.is_empty() {
        return Ok(None);
    }
    let path = parent_path(parent)?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Ok(roots(&own, Path::new(BASE)).iter().find_map(|root| limit_in(&root.join(&path))))
}

/// What version 2 or 1 says; "max" and version 1's largest number are no limit.
fn limit_in(group: &Path) -> Option<i64> {
    const NONE_FROM: i64 = i64::MAX / 2;
    let files = ["memory.max", "memory.limit_in_bytes"];
    let text = files.iter().find_map(|file| fs::read_to_string(group.join(file)).ok())?;
    text.trim().parse().ok().filter(|limit| (1..NONE_FROM).contains(limit))
}

/// Removes empty groups that shims left: those whose daemon lost its records, or could not wait
/// for the kernel to let them go. `known` groups stay, and young ones: another daemon's shim may
/// be on its way in.
pub fn sweep(known: &BTreeSet<PathBuf>) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for root in roots(&own, Path::new(BASE)) {
        sweep_in(&root.join(HOME), known, YOUNG);
    }
}

fn sweep_in(home: &Path, known: &BTreeSet<PathBuf>, young: Duration) {
    let Ok(entries) = fs::read_dir(home) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(age);
        if path.is_dir() && !known.contains(&path) && age.is_some_and(|age| age >= young) {
            // The kernel refuses where a process or a group is in it.
            let _ = fs::remove_dir(&path);
        }
    }
}

fn age(since: SystemTime) -> Option<Duration> {
    since.elapsed().ok()
}

/// What [`enter`] will make above `folders`, the deepest first: what is not there, or is `ours`.
pub fn missing_above(folders: &[PathBuf], ours: &BTreeSet<&PathBuf>) -> Vec<PathBuf> {
    let above = |folder: &PathBuf| -> Vec<PathBuf> {
        let above = folder.ancestors().skip(1).map(Path::to_owned);
        above.take_while(|folder| !folder.is_dir() || ours.contains(folder)).collect()
    };
    folders.iter().flat_map(above).collect()
}

/// Makes the groups and moves process `pid` into them. Goes on after a failure and returns the
/// first one: some hierarchies may be read-only or out of reach.
pub fn enter(folders: &[PathBuf], pid: u32) -> Result<()> {
    let mut outcome = Ok(());
    for folder in folders {
        // Once more when another pod's end removed a parent between two steps.
        let moved = make(folder).or_else(|_| make(folder)).and_then(|()| {
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
    // Version 2 offers a controller to the groups below only where the one above says so. Where it
    // may not be said, containers' shares are held by epochs.
    let offered = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
    if offered.split_whitespace().any(|name| name == "cpu") {
        let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu");
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

/// The groups that a shim made for its containers' threads (shim/cpu/group): below its own in
/// version 2, beside it in version 1, where threads may leave their process' group.
fn containers_of(folder: &PathBuf) -> Vec<PathBuf> {
    let beside = || {
        let prefix = format!("{}.", folder.file_name()?.to_str()?);
        let entries = fs::read_dir(folder.parent()?).ok()?.flatten();
        let named = entries.filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix))
        });
        Some(named.map(|entry| entry.path()).collect::<Vec<_>>())
    };
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let below = below.filter(|path| path.is_dir());
    below.chain(beside().unwrap_or_default()).collect()
}

/// Removes the groups with those of the containers, then those of `parents` that are empty. The
/// kernel lets a group go a moment after its last process: blocks as long.
pub fn remove(folders: &[PathBuf], parents: &[PathBuf]) {
    let containers: Vec<_> = folders.iter().flat_map(containers_of).collect();
    for folder in &containers {
        // What was killed while it had used its quota up ends in its next period, else.
        for (file, none) in [("cpu.cfs_quota_us", "-1"), ("cpu.max", "max")] {
            let file = folder.join(file);
            if file.exists() {
                let _ = fs::write(file, none);
            }
        }
    }
    for folder in containers.into_iter().chain(folders.to_vec()) {
        if let Err(error) = retry::remove_busy(&folder, PATIENCE) {
            // The next start's sweep tries again.
            tracing::warn!(cgroup = %folder.display(), %error, "a cgroup cannot be removed");
        }
    }
    for parent in parents {
        // The kernel refuses where another group is in it: it is that one's to remove.
        let _ = fs::remove_dir(parent);
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
    fn a_pods_memory_limit_is_its_groups() {
        let group = tempfile::tempdir().unwrap();
        assert_eq!(limit_in(group.path()), None);
        for (file, text, limit) in [
            ("memory.limit_in_bytes", "9223372036854771712\n", None),
            ("memory.limit_in_bytes", "67108864\n", Some(64 << 20)),
            ("memory.max", "max\n", None),
            ("memory.max", "1048576\n", Some(1 << 20)),
        ] {
            fs::write(group.path().join(file), text).unwrap();
            assert_eq!(limit_in(group.path()), limit, "{file} {text}");
        }
        assert_eq!(memory_limit("").unwrap(), None);
        assert!(memory_limit("/../x").is_err());
    }

    #[test]
    fn only_old_empty_groups_that_nobody_knows_are_swept() {
        let home = tempfile::tempdir().unwrap();
        for name in ["known", "full/inner", "left"] {
            fs::create_dir_all(home.path().join(name)).unwrap();
        }
        let known = BTreeSet::from([home.path().join("known")]);
        sweep_in(home.path(), &known, Duration::from_secs(3600));
        assert!(home.path().join("left").exists());
        sweep_in(home.path(), &known, Duration::ZERO);
        assert!(home.path().join("known").exists() && home.path().join("full/inner").exists());
        assert!(!home.path().join("left").exists());
    }

    #[test]
    fn parents_go_with_the_last_group_that_they_were_made_for() {
        let base = tempfile::tempdir().unwrap();
        let there = base.path().join("there");
        fs::create_dir(&there).unwrap();
        let [first, second] = ["a/b/first", "a/b/second"].map(|path| [there.join(path)]);
        let parents = missing_above(&first, &BTreeSet::new());
        assert_eq!(parents, [there.join("a/b"), there.join("a")]);
        make(&first[0]).unwrap();
        assert!(missing_above(&second, &BTreeSet::new()).is_empty(), "it is somebody else's");
        assert_eq!(missing_above(&second, &parents.iter().collect()), parents);
        make(&second[0]).unwrap();
        remove(&first, &parents);
        assert!(!first[0].exists() && second[0].exists());
        remove(&second, &parents);
        assert!(there.exists() && !there.join("a").exists());
    }

    #[test]
    fn version_2_groups_have_the_cpu_controller_where_it_is_offered() {
        let base = tempfile::tempdir().unwrap();
        let said = |folder: &Path| fs::read_to_string(folder.join("cgroup.subtree_control")).ok();
        fs::write(base.path().join("cgroup.controllers"), "cpuset memory cpu\n").unwrap();
        make(&base.path().join("home/shim")).unwrap();
        assert_eq!(said(base.path()).unwrap(), "+cpu");
        // The kernel offers it there now; here nobody does.
        assert_eq!(said(&base.path().join("home")), None);
        fs::write(base.path().join("home/cgroup.controllers"), "cpu\n").unwrap();
        make(&base.path().join("home/other")).unwrap();
        assert_eq!(said(&base.path().join("home")).unwrap(), "+cpu");
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
