//! What a container runs and with what: Kubernetes' and OCI's rules for command, environment,
//! working directory, stop signal, mounts and log path. Pure but for [`host_paths`]; knows
//! nothing of shims or records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::user::{self, Possible};
use crate::error::{Error, Result, cut};
use crate::image::{Image, ImageConfig, ImageProgram, Search};
use crate::model::container::{ContainerConfig, MountAccess};
use crate::model::cpu_time::CpuTime;
use crate::model::cpuset::CpuSet;
use crate::model::resources::Resources;
use crate::model::sandbox::SandboxConfig;
use crate::model::signal;
use crate::model::user::User;

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that the image and the request decide together.
#[derive(Debug)]
pub struct Launch {
    pub program: ImageProgram,
    /// The program's name first.
    pub argv: Vec<String>,
    /// NAME=value.
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: User,
    /// Linux number.
    pub stop_signal: u32,
}

impl Launch {
    /// The error is one sentence that names what is wrong and, for an unknown program, what can
    /// be run instead.
    pub fn plan(config: &ContainerConfig, image: &Image, hostname: &str) -> Result<Self> {
        let user = user::resolve(&config.user, image, Possible::here())?;
        Self::plan_as(user, config, image, hostname)
    }

    /// For a user who was found before: the image's files are not looked at.
    pub fn plan_as(
        user: User,
        config: &ContainerConfig,
        image: &Image,
        hostname: &str,
    ) -> Result<Self> {
        let argv = argv(config, &image.config)?;
        let working_dir = working_dir(config, &image.config)?;
        let env = environment(config, &image.config, hostname)?;
        let path = env.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
        let search = Search { working_dir: &working_dir, path };
        let program = program(argv.first().map_or("", String::as_str), search, image)?;
        Ok(Self {
            program: program.clone(),
            env,
            working_dir,
            user,
            stop_signal: stop_signal(config, &image.config)?,
            argv,
        })
    }
}

/// Kubernetes' rule: `command` replaces the entrypoint and drops the image's cmd; `args`
/// replaces the cmd.
fn argv(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>> {
    let mut argv =
        if config.command.is_empty() { &image.entrypoint } else { &config.command }.clone();
    if !config.args.is_empty() {
        argv.extend_from_slice(&config.args);
    } else if config.command.is_empty() {
        argv.extend_from_slice(&image.cmd);
    }
    if argv.first().is_some_and(String::is_empty) {
        let whose = if config.command.is_empty() { "image's entrypoint" } else { "command" };
        return Err(Error::Invalid(format!(
            "the {whose} begins with an empty word: name a program there, or nothing at all"
        )));
    }
    if argv.is_empty() {
        return Err(Error::Invalid(format!(
            "image {} has no entrypoint and the container names no command",
            spoken_image(config)
        )));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(Error::Invalid("a word of the command holds a NUL byte".to_owned()));
    }
    Ok(argv)
}

/// The image as its user wrote it.
pub fn spoken_image(config: &ContainerConfig) -> &str {
    let spec = &config.image;
    if spec.user_specified_image.is_empty() { &spec.image } else { &spec.user_specified_image }
}

/// The error says what can be run instead.
fn program<'a>(name: &str, search: Search<'_>, image: &'a Image) -> Result<&'a ImageProgram> {
    image.program(name, search).ok_or_else(|| {
        let paths: Vec<&str> = image.programs.iter().map(|p| p.path.as_str()).collect();
        Error::Invalid(match paths.as_slice() {
            [] => format!("{name:?} cannot be run: the image holds no wasm file"),
            _ => format!("no program {name:?} in the image; it can run {}", paths.join(", ")),
        })
    })
}

/// The path without `.`, `..` and doubled slashes, from the root on.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    format!("/{}", parts.join("/"))
}

/// The image's variables, then the request's, a later one replacing an earlier one in its
/// place; PATH and HOSTNAME where absent.
fn environment(
    config: &ContainerConfig,
    image: &ImageConfig,
    hostname: &str,
) -> Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let defaults = [("PATH", DEFAULT_PATH), ("HOSTNAME", hostname)];
    let of_image = image.env.iter().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let asked = config.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in defaults.into_iter().chain(of_image).chain(asked) {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Error::Invalid(format!("{name:?} is no name for an environment variable")));
        }
        if values.insert(name.to_owned(), value.to_owned()).is_none() {
            order.push(name.to_owned());
        }
    }
    order.retain(|name| !config.adjusted.removed_env.contains(name));
    let pair = |name: String| values.get(&name).map(|value| format!("{name}={value}"));
    Ok(order.into_iter().filter_map(pair).collect())
}

fn working_dir(config: &ContainerConfig, image: &ImageConfig) -> Result<String> {
    let asked = [&config.working_dir, &image.working_dir].into_iter().find(|dir| !dir.is_empty());
    let dir = asked.map_or("/", String::as_str);
    if dir.contains('\0') {
        return Err(Error::Invalid("the working directory holds a NUL byte".to_owned()));
    }
    Ok(normal(Path::new(dir)))
}

fn stop_signal(config: &ContainerConfig, image: &ImageConfig) -> Result<u32> {
    let unknown = |what: String| Error::Invalid(format!("{what} is no signal"));
    if config.stop_signal != 0 {
        return signal::from_cri(config.stop_signal)
            .ok_or_else(|| unknown(format!("stop signal {}", config.stop_signal)));
    }
    match image.stop_signal.as_str() {
        "" => Ok(signal::TERM),
        text => {
            signal::parse(text).ok_or_else(|| unknown(format!("the image's stop signal {text:?}")))
        }
    }
}

/// A mount as the shim wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMount {
    /// Absolute, without `.` or doubled slashes.
    pub container_path: String,
    /// Empty for an image.
    pub host_path: PathBuf,
    pub access: MountAccess,
}

/// Checks the mounts' paths; no path inside may be mounted twice, nor the root itself.
pub fn mounts(config: &ContainerConfig) -> Result<Vec<PlannedMount>> {
    let mut seen = BTreeSet::new();
    let plan = |mount: &crate::model::container::Mount| {
        let (inside, host) = (Path::new(&mount.container_path), Path::new(&mount.host_path));
        let wrong = |what: &str| {
            Err(Error::Invalid(format!(
                "mount {:?} at {:?}: {what}",
                mount.host_path, mount.container_path
            )))
        };
        if !host.is_absolute() && mount.image.is_none() {
            return wrong("the host path must be absolute");
        }
        if [inside, host].iter().any(|path| path.to_string_lossy().contains('\0')) {
            return wrong("a path holds a NUL byte");
        }
        if inside.components().any(|part| part == Component::ParentDir) {
            return wrong("the container path must not hold \"..\"");
        }
        let container_path = normal(inside);
        if container_path == "/" {
            return wrong("the root itself cannot be mounted over");
        }
        if !seen.insert(container_path.clone()) {
            return wrong("the container path is mounted twice");
        }
        Ok(PlannedMount { container_path, host_path: host.to_owned(), access: mount.access })
    };
    config.mounts.iter().map(plan).collect()
}

/// Makes a folder of each host path that is not there (containerd's and Docker's rule). A path
/// that can be no folder's is [`Error::Invalid`].
pub fn host_paths(mounts: &[PlannedMount]) -> Result<()> {
    for mount in mounts.iter().filter(|mount| !mount.host_path.as_os_str().is_empty()) {
        let path = &mount.host_path;
        let failed = |error: std::io::Error| match Errno::from_io_error(&error) {
            // A file or a link to nowhere is in its way, or its links run in a circle.
            Some(Errno::NOTDIR | Errno::EXIST | Errno::LOOP | Errno::NAMETOOLONG) => {
                Error::Invalid(format!(
                    "mount {:?}: the host path {} cannot be made: {error}",
                    mount.container_path,
                    path.display()
                ))
            }
            _ => Error::io(format!("making mount source {}", path.display()))(error),
        };
        if !path.try_exists().map_err(failed)? {
            std::fs::create_dir_all(path).map_err(failed)?;
        }
    }
    Ok(())
}

/// The absolute path of a container's log; empty when nothing is logged.
pub fn log_path(sandbox: &SandboxConfig, config: &ContainerConfig) -> Result<String> {
    let (folder, file) = (Path::new(&sandbox.log_directory), Path::new(&config.log_path));
    if sandbox.log_directory.is_empty() || config.log_path.is_empty() {
        return Ok(String::new());
    }
    let climbs = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    if !folder.is_absolute() || climbs(folder) {
        return Err(Error::Invalid(format!(
            "log directory {:?} must be absolute and without \"..\"",
            sandbox.log_directory
        )));
    }
    if file.is_absolute() || climbs(file) {
        return Err(Error::Invalid(format!(
            "log path {:?} must be relative and without \"..\"",
            config.log_path
        )));
    }
    Ok(folder.join(file).to_string_lossy().into_owned())
}

/// Checks resources and keeps what is applied.
pub fn applied(resources: &Resources) -> Result<Resources> {
    if resources.memory_limit < 0 {
        return Err(Error::Invalid(format!("memory limit {} is negative", resources.memory_limit)));
    }
    check_processor(resources)?;
    Ok(kept(resources))
}

/// What of resources is applied, and so told: the memory limit and a share of the machine's CPUs.
pub fn kept(resources: &Resources) -> Resources {
    Resources {
        oom_score_adj: 0,
        unified: BTreeMap::new(),
        memory_swap_limit: 0,
        ..resources.clone()
    }
}

/// Whether a container's share of the machine can be what it says. Which CPUs there are is the
/// shim's to know.
pub fn check_processor(resources: &Resources) -> Result<()> {
    if !resources.cpuset_cpus.is_empty() {
        CpuSet::parse(&resources.cpuset_cpus).map_err(Error::Invalid)?;
    }
    check_memory_nodes(&resources.cpuset_mems)?;
    let Resources { cpu_quota, cpu_period, cpu_shares, .. } = resources;
    CpuTime::read(*cpu_quota, *cpu_period, *cpu_shares).map(drop).map_err(Error::Invalid)
}

/// Memory nodes that this machine has.
pub fn check_memory_nodes(list: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let shown = cut(list.to_owned(), 64);
    let nodes = CpuSet::parse(list).map_err(|_| {
        Error::Invalid(format!("cpuset_mems {shown:?} is no list of memory nodes like 0-1,3"))
    })?;
    // A kernel without nodes has one.
    let online = std::fs::read_to_string("/sys/devices/system/node/online").unwrap_or_default();
    let machine = CpuSet::parse(&online).unwrap_or_else(|_| CpuSet::from_iter([0]));
    match nodes.iter().find(|node| !machine.contains(*node)) {
        Some(absent) => Err(Error::Invalid(format!(
            "cpuset_mems {shown:?} names memory node {absent}, this machine has {machine}"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
