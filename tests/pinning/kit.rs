//! What the tests of pinning look at: the threads of a container as the kernel has them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wasmpod::proto::cri;

use crate::support::{Container, Daemon, Pod, container};

/// The way that CPU time is held in a test.
pub const WAYS: [&str; 2] = ["cgroup", "epoch"];

/// A daemon whose shims hold CPU time that way; `None` where this machine cannot.
pub async fn daemon(way: &str) -> Option<Daemon> {
    if way == "cgroup" && !has_cgroups() {
        eprintln!("SKIPPED: CPU time by cgroups needs root and a cpu controller");
        return None;
    }
    Some(Daemon::start_with(&format!("[shim]\ncpu_control = {way:?}\n")).await)
}

pub fn has_cgroups() -> bool {
    rustix::process::geteuid().is_root() && (v1().is_dir() || v2_has_cpu())
}

fn v1() -> PathBuf {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let lists = own.lines().filter_map(|line| line.split(':').nth(1));
    let cpu = lists.into_iter().find(|list| list.split(',').any(|name| name == "cpu"));
    PathBuf::from("/sys/fs/cgroup").join(cpu.unwrap_or("none"))
}

fn v2_has_cpu() -> bool {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|list| list.contains("cpu "))
}

/// The groups that the daemon's shims made for containers.
pub fn groups(daemon: &Daemon) -> Vec<String> {
    let names = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let shims = daemon.shim_names();
    let beside = names(v1().join("wasmpod"));
    let beside = beside
        .into_iter()
        .filter(|name| shims.iter().any(|shim| name.starts_with(&format!("{shim}."))));
    let below = shims.iter().flat_map(|shim| {
        let names = names(PathBuf::from("/sys/fs/cgroup/wasmpod").join(shim));
        names.into_iter().filter(|name| name.len() == 64)
    });
    beside.chain(below).collect()
}

/// Runs the probe with these arguments and resources.
pub async fn run(
    pod: &Pod,
    (name, image): (&str, &str),
    args: &[&str],
    resources: cri::LinuxContainerResources,
) -> Container {
    let mut config = container(name, image);
    config.args = args.iter().map(|word| (*word).to_owned()).collect();
    config.linux =
        Some(cri::LinuxContainerConfig { resources: Some(resources), ..Default::default() });
    pod.run(config).await
}

pub fn cpus(list: &str) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources { cpuset_cpus: list.to_owned(), ..Default::default() }
}

/// So many percent of a CPU.
pub fn percent(percent: i64) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        cpu_quota: percent * 1000,
        cpu_period: 100_000,
        ..Default::default()
    }
}

pub async fn update(
    of: &Container,
    resources: cri::LinuxContainerResources,
) -> Result<(), tonic::Status> {
    let request = cri::UpdateContainerResourcesRequest {
        container_id: of.id.clone(),
        linux: Some(resources),
        ..Default::default()
    };
    of.pod.client.clone().update_container_resources(request).await.map(drop)
}

/// What ContainerStatus says.
pub async fn applied(of: &Container) -> cri::LinuxContainerResources {
    of.status().await.unwrap().resources.unwrap().linux.unwrap()
}

/// One thread of a shim.
#[derive(Clone, Debug)]
pub struct Thread {
    pub name: String,
    pub allowed: String,
    /// Where it ran last.
    pub cpu: usize,
    /// How long it has run.
    pub ran: Duration,
    /// How long it was ready to run and had no CPU.
    pub waited: Duration,
    pub folder: PathBuf,
}

/// The threads of the shims that work for a container: their names end in its id.
pub fn threads(daemon: &Daemon, of: &Container) -> BTreeMap<u32, Thread> {
    let tasks = daemon
        .shims()
        .into_iter()
        .flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten());
    tasks.filter_map(|task| thread(task.path())).filter(|(_, t)| is_of(t, of)).collect()
}

fn is_of(thread: &Thread, of: &Container) -> bool {
    thread.name.get(2..).is_some_and(|id| id.len() >= 12 && of.id.starts_with(id))
}

/// `None` when it has ended meanwhile.
fn thread(folder: PathBuf) -> Option<(u32, Thread)> {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let (status, stat) = (read("status")?, read("stat")?);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().to_owned())
    };
    // Behind the name, which may hold anything: proc_pid_stat(5)'s fields from the third on.
    let cpu = stat.rsplit(')').next()?.split_whitespace().nth(36)?.parse().ok()?;
    let schedule = read("schedstat")?;
    let mut nanos = schedule.split_whitespace().map_while(|number| number.parse().ok());
    let thread = Thread {
        name: field("Name:")?,
        allowed: field("Cpus_allowed_list:")?,
        cpu,
        ran: Duration::from_nanos(nanos.next()?),
        waited: Duration::from_nanos(nanos.next()?),
        folder: folder.clone(),
    };
    Some((folder.file_name()?.to_str()?.parse().ok()?, thread))
}

/// How long all threads of a container have run, ended ones included, as its stats say.
pub async fn ran(of: &Container) -> (Instant, Duration) {
    let request = cri::ContainerStatsRequest { container_id: of.id.clone() };
    let stats = of.pod.client.clone().container_stats(request).await.unwrap().into_inner();
    let nanos = stats.stats.unwrap().cpu.unwrap().usage_core_nano_seconds.unwrap().value;
    (Instant::now(), Duration::from_nanos(nanos))
}

/// Percent of a CPU that it gets in a window of so long at least.
pub async fn share(of: &Container, window: Duration) -> f64 {
    let (begun, before) = ran(of).await;
    loop {
        // Its end is a moment, not a guess: what is measured is how much ran until then.
        tokio::time::sleep_until((begun + window).into()).await;
        let (now, after) = ran(of).await;
        if now - begun >= window {
            return 100.0 * (after - before).as_secs_f64() / (now - begun).as_secs_f64();
        }
    }
}

/// As [`share`], and how many percent its threads were ready to run meanwhile and had no CPU: on
/// a busy machine they get less than their quota.
pub async fn share_and_wait(daemon: &Daemon, of: &Container, window: Duration) -> (f64, f64) {
    let waited = || threads(daemon, of).values().map(|thread| thread.waited).sum::<Duration>();
    let (begun, before) = (Instant::now(), waited());
    let share = share(of, window).await;
    let waited = waited().saturating_sub(before).as_secs_f64();
    (share, 100.0 * waited / begun.elapsed().as_secs_f64())
}

/// What the kernel says of the group that holds a thread's CPU time, in version 1's file or
/// version 2's; `None` where that is not there.
pub fn group_file(thread: &Thread, one: &str, two: &str) -> Option<String> {
    let groups = fs::read_to_string(thread.folder.join("cgroup")).ok()?;
    let path = |controllers: &str| {
        let mut lines = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        lines.find(|(list, _)| *list == controllers).map(|(_, path)| path.trim_start_matches('/'))
    };
    let of_cpu = v1();
    let file = match of_cpu.is_dir() {
        true => of_cpu.join(path(of_cpu.file_name()?.to_str()?)?).join(one),
        false => PathBuf::from("/sys/fs/cgroup").join(path("")?).join(two),
    };
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}
