//! Containers' groups of threads in the kernel's `cpu` controller: version 1, or version 2's
//! threaded groups. Touches only groups that it makes itself, beside or below the shim's own.
//! Knows nothing of containers but their names.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::cpu_time::{CpuTime, PERIOD, SHARES};
use crate::retry;
use crate::shim::lock;

const BASE: &str = "/sys/fs/cgroup";

/// How long threads may take to leave a group.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Groups stand beside the shim's, so that all containers of the node compete with each other
    /// whichever shim holds them.
    One,
    /// Threads cannot leave their process' group, so groups stand below it.
    Two,
}

/// Where this shim's containers have their groups.
#[derive(Debug)]
pub struct Groups {
    version: Version,
    /// The shim's own group.
    shim: PathBuf,
    leaving: OnceLock<Mutex<mpsc::Sender<PathBuf>>>,
}

impl Groups {
    /// `None` where the shim has no group of its own with a `cpu` controller that it may write to.
    pub fn find() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let groups = Self::among(&own, Path::new(BASE))?;
        let probe = groups.folder("probe");
        let works = groups.make_folder(&probe).is_ok();
        let removed = fs::remove_dir(&probe).is_ok();
        (works && removed).then_some(groups)
    }

    fn among(own: &str, base: &Path) -> Option<Self> {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let (version, root) = match controllers {
                "" => (Version::Two, base.to_owned()),
                list if list.split(',').any(|name| name == "cpu") => {
                    (Version::One, base.join(list))
                }
                _ => return None,
            };
            let shim = root.join(path.strip_prefix('/')?);
            let offers = match version {
                Version::One => shim.join("tasks").exists(),
                // It is offered to groups below only where it is there.
                Version::Two => fs::read_to_string(shim.join("cgroup.controllers"))
                    .is_ok_and(|list| list.split_whitespace().any(|name| name == "cpu")),
            };
            (is_wasmpods(Path::new(path)) && offers).then_some(Self {
                version,
                shim,
                leaving: OnceLock::new(),
            })
        })
    }

    fn folder(&self, name: &str) -> PathBuf {
        match self.version {
            Version::One => {
                let mut folder = self.shim.clone().into_os_string();
                folder.push(format!(".{name}"));
                folder.into()
            }
            Version::Two => self.shim.join(name),
        }
    }

    fn make_folder(&self, folder: &Path) -> Result<()> {
        let doing = || Error::io(format!("making cgroup {}", folder.display()));
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(doing()(error)),
            _ => {}
        }
        if self.version == Version::Two {
            write(&folder.join("cgroup.type"), "threaded")?;
            write(&self.shim.join("cgroup.subtree_control"), "+cpu")?;
        }
        Ok(())
    }

    /// A container's group.
    pub fn make(self: &Arc<Self>, name: &str, time: CpuTime) -> Result<Arc<Group>> {
        let folder = self.folder(name);
        self.make_folder(&folder)?;
        let tasks = folder.join(match self.version {
            Version::One => "tasks",
            Version::Two => "cgroup.threads",
        });
        let opened = fs::OpenOptions::new().write(true).open(&tasks);
        let made =
            opened.map_err(Error::io(format!("opening {}", tasks.display()))).and_then(|tasks| {
                let group = Group {
                    groups: self.clone(),
                    tail: format!("/{}", folder.file_name().unwrap_or_default().display()),
                    folder: folder.clone(),
                    tasks,
                    held: Mutex::new(Held { time: CpuTime::default(), lifts: 0 }),
                };
                group.set(time)?;
                Ok(Arc::new(group))
            });
        if made.is_err() {
            let _ = fs::remove_dir(&folder);
        }
        made
    }

    /// Removes a group as soon as its last thread has gone. The thread that does so is none of
    /// any group's: begun by one of a container it would stand in its group.
    fn remove(&self, folder: PathBuf) {
        if fs::remove_dir(&folder).is_ok() {
            return;
        }
        match self.leaving.get() {
            Some(leaving) => {
                // Who receives lives as long as the process.
                let _ = lock(leaving).send(folder);
            }
            None => {
                tracing::warn!(folder = %folder.display(), "a cgroup stays until its shim ends")
            }
        }
    }

    /// Begins the thread that removes groups. To be called by a thread of no container.
    pub fn begin_removing(&self) {
        self.leaving.get_or_init(|| {
            let (leaving, left) = mpsc::channel::<PathBuf>();
            let spawned = std::thread::Builder::new()
                .name("w-groups".to_owned())
                .stack_size(64 << 10)
                .spawn(move || left.iter().for_each(|folder| remove(&folder)));
            if let Err(error) = spawned {
                tracing::error!(%error, "containers' cgroups stay until their shim ends");
            }
            Mutex::new(leaving)
        });
    }
}

fn remove(folder: &Path) {
    if let Err(error) = retry::remove_busy(folder, PATIENCE) {
        tracing::warn!(folder = %folder.display(), %error, "a stuck thread keeps its cgroup");
    }
}

/// Whether the daemon made that group for a shim.
fn is_wasmpods(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let above = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    name.starts_with("wasmpod-") || above == Some("wasmpod")
}

/// One container's group.
#[derive(Debug)]
pub struct Group {
    groups: Arc<Groups>,
    folder: PathBuf,
    /// How /proc tells that a thread is in it.
    tail: String,
    /// Opened by the shim's own user: so a thread that has become a container's user may use it.
    tasks: File,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    time: CpuTime,
    /// While there are any, no quota holds.
    lifts: u32,
}

impl Group {
    pub fn set(&self, time: CpuTime) -> Result<()> {
        let mut held = lock(&self.held);
        let shares = |time: CpuTime| time.shares.unwrap_or(SHARES);
        if shares(held.time) != shares(time) {
            self.write_shares(shares(time))?;
        }
        if held.lifts == 0
            && held.time.quota != time.quota
            && let Err(error) = self.write_quota(time)
        {
            // What was there before can be again.
            let _ = self.write_shares(shares(held.time)).and(self.write_quota(held.time));
            return Err(error);
        }
        held.time = time;
        Ok(())
    }

    fn write_shares(&self, shares: u64) -> Result<()> {
        match self.groups.version {
            Version::One => write(&self.folder.join("cpu.shares"), &shares.to_string()),
            Version::Two => write(&self.folder.join("cpu.weight"), &weight(shares).to_string()),
        }
    }

    fn write_quota(&self, time: CpuTime) -> Result<()> {
        let file = |name: &str| self.folder.join(name);
        let taken = |outcome: Result<()>| {
            outcome.map_err(|error| match (&error, time.quota) {
                (Error::Io { source, .. }, Some(quota))
                    if source.kind() == ErrorKind::InvalidInput =>
                {
                    Error::Invalid(format!(
                        "cpu quota {} in periods of {} microseconds is more than the pod's group \
                         has",
                        quota.micros, quota.period
                    ))
                }
                _ => error,
            })
        };
        match (self.groups.version, time.quota) {
            (Version::One, None) => write(&file("cpu.cfs_quota_us"), "-1"),
            (Version::One, Some(quota)) => {
                // A period alone could be refused for the quota that it comes to.
                write(&file("cpu.cfs_quota_us"), "-1")?;
                write(&file("cpu.cfs_period_us"), &quota.period.to_string())?;
                taken(write(&file("cpu.cfs_quota_us"), &quota.micros.to_string()))
            }
            (Version::Two, None) => write(&file("cpu.max"), &format!("max {PERIOD}")),
            (Version::Two, Some(quota)) => {
                taken(write(&file("cpu.max"), &format!("{} {}", quota.micros, quota.period)))
            }
        }
    }

    /// Moves a thread of this process into the group. Takes the kernel some milliseconds, unless
    /// it has done the like a moment ago. One that has ended is no error.
    pub fn take(&self, tid: i32) -> Result<()> {
        // One write each; the position means nothing.
        match (&self.tasks).write_all(tid.to_string().as_bytes()) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                Err(Error::io(format!("moving a thread into {}", self.folder.display()))(error))
            }
            _ => Ok(()),
        }
    }

    /// As [`Group::take`] for the calling thread, which may be in it from birth.
    pub fn take_self(&self) -> Result<()> {
        let own = fs::read_to_string("/proc/thread-self/cgroup").unwrap_or_default();
        if own.lines().any(|line| line.ends_with(&self.tail)) {
            return Ok(());
        }
        self.take(rustix::thread::gettid().as_raw_nonzero().get())
    }

    /// Until the returned value is dropped, no quota holds: threads that have used theirs up run
    /// again at once, to their end.
    pub fn lift(self: &Arc<Self>) -> Lifted {
        let mut held = lock(&self.held);
        held.lifts += 1;
        if held.lifts == 1
            && held.time.quota.is_some()
            && let Err(error) = self.write_quota(CpuTime { quota: None, ..held.time })
        {
            tracing::warn!(%error, "a quota cannot be lifted");
        }
        Lifted(self.clone())
    }

    /// When its threads have gone, so does it.
    pub fn end(&self) {
        self.groups.remove(self.folder.clone());
    }
}

/// See [`Group::lift`].
pub struct Lifted(Arc<Group>);

impl Drop for Lifted {
    fn drop(&mut self) {
        let mut held = lock(&self.0.held);
        held.lifts -= 1;
        // The group may have been removed meanwhile.
        if held.lifts == 0
            && held.time.quota.is_some()
            && self.0.folder.exists()
            && let Err(error) = self.0.write_quota(held.time)
        {
            tracing::warn!(%error, "a lifted quota cannot be set again");
        }
    }
}

/// Version 2's weight for version 1's shares, as Kubernetes and the OCI runtimes have long turned
/// one into the other: 2 is 1, 262144 is 10000.
fn weight(shares: u64) -> u64 {
    1 + shares.saturating_sub(2) * 9999 / 262_142
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(Error::io(format!("writing {text} to {}", file.display())))
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
