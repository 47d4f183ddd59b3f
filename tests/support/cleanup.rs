//! Leaves nothing of a test's daemon behind, and touches nothing that is not its.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use wasmpod::cri::client::connect;
use wasmpod::proto::cri;
use wasmpod::proto::cri::runtime_service_client::RuntimeServiceClient;

const PATIENCE: Duration = Duration::from_secs(20);
const BUSY: Duration = Duration::from_secs(1);

/// Stops and removes every pod, both realms', through the daemon while it lives.
pub fn remove_pods(sockets: &[PathBuf]) {
    // Dropping happens inside a test's runtime as well as outside of one: a thread has none.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for socket in sockets {
                let removal = async { tokio::time::timeout(PATIENCE, remove_all(socket)).await };
                if runtime.block_on(removal).is_err() {
                    eprintln!("pods of {} could not be removed in time", socket.display());
                }
            }
        });
    });
}

async fn remove_all(socket: &Path) {
    let Ok(channel) = connect(socket).await else { return };
    let mut client = RuntimeServiceClient::new(channel).max_decoding_message_size(16 << 20);
    let Ok(pods) = client.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await else {
        return;
    };
    for pod in pods.into_inner().items {
        let removed = client
            .remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() })
            .await;
        if let Err(status) = removed {
            eprintln!("removing pod {}: {status}", pod.id);
        }
    }
}

/// Kills what still runs on this folder and the CNI plugins that work for it, unmounts what is still mounted under it, removes the
/// cgroups that its processes leave.
pub fn sweep(folder: &Path) {
    let mut cgroups = cgroups_of(&shim_folders(folder));
    let begun = Instant::now();
    loop {
        let pids = [processes_on(folder), plugins_of(folder)].concat();
        if pids.is_empty() || begun.elapsed() > PATIENCE {
            break;
        }
        for pid in pids {
            cgroups.extend(own_cgroups(pid));
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for mount in mounts_under(folder).into_iter().rev() {
        let _ = unmount(&mount, UnmountFlags::DETACH);
    }
    // Deepest first; a group is free a moment after its last process, and one that is still
    // somebody's stays.
    for cgroup in cgroups.iter().rev() {
        let begun = Instant::now();
        while fs::remove_dir(cgroup).is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
            && begun.elapsed() < BUSY
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The names of the shims' folders under a state folder.
pub fn shim_folders(state: &Path) -> Vec<String> {
    let entries = fs::read_dir(state.join("shims")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The groups of these names that are there, in every hierarchy, and their containers'.
pub fn cgroups_of(names: &[String]) -> BTreeSet<PathBuf> {
    let roots = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let roots = roots.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let is_named = |name: &str| {
        names.iter().any(|n| {
            name.strip_prefix(n.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    let groups: BTreeSet<_> = roots
        .flat_map(|root| entries(root.join("wasmpod")))
        .filter(|entry| is_named(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    let below: Vec<_> =
        groups.iter().cloned().flat_map(entries).map(|entry| entry.path()).collect();
    groups.into_iter().chain(below).filter(|group| group.is_dir()).collect()
}

/// Pids of the shims whose folders are under a state folder, sorted.
pub fn shims(state: &Path) -> Vec<u32> {
    processes_on(state)
        .into_iter()
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"shim")
        })
        .collect()
}

/// wasmpod processes that name the folder, or one in it, on their command line.
fn processes_on(folder: &Path) -> Vec<u32> {
    let mut pids: Vec<u32> = processes().filter(|pid| is_on(*pid, folder)).collect();
    pids.sort_unstable();
    pids
}

fn is_on(pid: u32, folder: &Path) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().as_encoded_bytes();
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // An executable built anew meanwhile is "wasmpod (deleted)".
    name.starts_with(b"wasmpod")
        && line
            .split(|byte| *byte == 0)
            .any(|word| Path::new(std::ffi::OsStr::from_bytes(word)).starts_with(folder))
}

/// CNI plugins, and what they began, that were told of this folder: a daemon's root or state, or
/// one with plugins.
pub fn plugins_of(folder: &Path) -> Vec<u32> {
    let folder = folder.as_os_str().as_bytes();
    let names_it = |variable: &[u8]| {
        [&b"CNI_"[..], b"WASMPOD_NETWORK="].iter().any(|name| variable.starts_with(name))
            && variable.windows(folder.len()).any(|part| part == folder)
    };
    processes()
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(names_it)
        })
        .collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A process's cgroups that wasmpod made for it, in every hierarchy.
fn own_cgroups(pid: u32) -> Vec<PathBuf> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    for line in table.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if path.contains("wasmpod") {
            let base = Path::new("/sys/fs/cgroup").join(controllers.trim_start_matches("name="));
            found.push(base.join(path.trim_start_matches('/')));
        }
    }
    found
}

fn mounts_under(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .filter(|mount| mount.starts_with(folder))
        .collect()
}
