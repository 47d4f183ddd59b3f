//! A chain's adjustments of one container, one after the other: who set what, and that no two
//! plugins set the same. What one wants that cannot be is found here, where it is known whose wish
//! it is. Pure.

use std::path::{Component, Path};

use super::bindings::types as wit;
use super::manifest::Grants;
use crate::error::{Error, Result, cut};
use crate::model::container::{ContainerConfig, Mount, MountAccess, Propagation};
use crate::model::cpu_time::CpuTime;
use crate::model::cpuset::CpuSet;
use crate::model::resources::Resources;
use crate::model::weight::{self, ANNOTATIONS, FRAME, MOUNTS, PATH, WORDS};

/// Annotations that a kubelet keeps for itself.
const KUBELETS: &str = "io.kubernetes.";

/// Bytes of a plugin's texts that an error repeats.
const SHOWN: usize = 128;

/// Why an adjustment is not made.
#[derive(Debug)]
pub enum Fault {
    /// It cannot be, whatever other plugins want.
    Own(Error),
    /// Another plugin has set the same.
    Conflict(Error),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Own(error) | Fault::Conflict(error) => error,
        }
    }
}

type Outcome = Result<(), Fault>;

/// What one plugin changes of a container that is being created.
pub struct Adjusting<'a> {
    pub plugin: &'a str,
    pub grants: &'a Grants,
    pub config: &'a mut ContainerConfig,
}

impl Adjusting<'_> {
    /// All of it, or an error that names the plugin and the field; then `config` is no good any
    /// more.
    pub fn apply(&mut self, adjustment: wit::Adjustment) -> Outcome {
        if let Some(setting) = adjustment.other.first() {
            return Err(self.fault(&format!(
                "{} has no meaning for a WebAssembly container (wanted {:?})",
                plain(&setting.field),
                plain(&setting.value)
            )));
        }
        self.env(adjustment.set_env, adjustment.remove_env)?;
        if let Some(args) = adjustment.args {
            self.args(args)?;
        }
        self.mounts(adjustment.add_mounts, &adjustment.remove_mounts)?;
        self.annotations(adjustment.set_annotations, adjustment.remove_annotations)?;
        for rlimit in adjustment.rlimits {
            self.rlimit(&rlimit)?;
        }
        if let Some(change) = adjustment.resources {
            self.resources(&change)?;
        }
        if !adjustment.updates.is_empty() && !self.grants.field("updates") {
            return Err(self.ungranted("updates"));
        }
        self.weigh().map_err(|why| self.fault(&why))
    }

    fn env(&mut self, set: Vec<(String, String)>, remove: Vec<String>) -> Outcome {
        for name in remove {
            self.own("env", &format!("env {name}"))?;
            self.config.env.retain(|(known, _)| *known != name);
            self.config.adjusted.removed_env.insert(name);
        }
        for (name, value) in set {
            if name.is_empty() || name.contains(['=', '\0']) {
                let name = plain(&name);
                return Err(self.fault(&format!("{name:?} is no name for an environment variable")));
            }
            if value.contains('\0') {
                let name = plain(&name);
                return Err(self.fault(&format!("the value of env {name} holds a NUL byte")));
            }
            self.own("env", &format!("env {name}"))?;
            self.config.adjusted.removed_env.remove(&name);
            self.config.env.push((name, value));
        }
        Ok(())
    }

    fn args(&mut self, args: Vec<String>) -> Outcome {
        self.own("args", "args")?;
        if args.first().is_none_or(String::is_empty) {
            return Err(self.fault("args must name the program first"));
        }
        if args.iter().any(|word| word.contains('\0')) {
            return Err(self.fault("a word of args holds a NUL byte"));
        }
        let mut words = args.into_iter();
        self.config.command = words.next().into_iter().collect();
        self.config.args = words.collect();
        Ok(())
    }

    fn mounts(&mut self, add: Vec<wit::Mount>, remove: &[String]) -> Outcome {
        for path in remove {
            let path = self.inside(path)?;
            self.take_place(&path)?;
        }
        for mount in add {
            let container_path = self.inside(&mount.container_path)?;
            self.check_path("host path", &mount.host_path)?;
            self.take_place(&container_path)?;
            self.config.mounts.push(Mount {
                container_path,
                host_path: mount.host_path,
                access: match mount.access {
                    wit::MountAccess::ReadWrite => MountAccess::ReadWrite,
                    wit::MountAccess::ReadOnly => MountAccess::ReadOnly,
                    wit::MountAccess::RecursiveReadOnly => MountAccess::RecursiveReadOnly,
                },
                propagation: Propagation::Private,
                selinux_relabel: false,
                image: None,
            });
        }
        Ok(())
    }

    /// What is mounted there is not any more.
    fn take_place(&mut self, path: &str) -> Outcome {
        self.own("mounts", &format!("mount {path}"))?;
        self.config.mounts.retain(|mount| normal(&mount.container_path) != path);
        Ok(())
    }

    /// A container's path as it is compared.
    fn inside(&self, path: &str) -> Result<String, Fault> {
        self.check_path("container path", path)?;
        let climbs = Path::new(path).components().any(|part| part == Component::ParentDir);
        let path = normal(path);
        if climbs || path == "/" {
            let shown = plain(&path);
            return Err(self.fault(&format!("container path {shown:?} is no place for a mount")));
        }
        Ok(path)
    }

    fn check_path(&self, what: &str, path: &str) -> Outcome {
        let wrong = match path {
            _ if !path.starts_with('/') => "is not absolute",
            _ if path.contains('\0') => "holds a NUL byte",
            _ if path.len() >= PATH => "is longer than any path",
            _ => return Ok(()),
        };
        Err(self.fault(&format!("the {what} {:?} of a mount {wrong}", plain(path))))
    }

    fn annotations(&mut self, set: Vec<(String, String)>, remove: Vec<String>) -> Outcome {
        for key in set.iter().map(|(key, _)| key).chain(&remove) {
            if key.is_empty() || key.contains(char::is_control) {
                return Err(self.fault(&format!("{:?} is no annotation's key", plain(key))));
            }
            if key.starts_with(KUBELETS) {
                return Err(self.fault(&format!("annotation {} is the kubelet's", plain(key))));
            }
            self.own("annotations", &format!("annotation {key}"))?;
        }
        for key in remove {
            self.config.annotations.remove(&key);
        }
        self.config.annotations.extend(set);
        Ok(())
    }

    fn rlimit(&mut self, rlimit: &wit::Rlimit) -> Outcome {
        let field = match rlimit.kind {
            wit::RlimitKind::Descriptors => "rlimits.descriptors",
            wit::RlimitKind::Processes => "rlimits.processes",
        };
        self.own(field, field)?;
        let most = u32::try_from(rlimit.most).unwrap_or(u32::MAX);
        let adjusted = &mut self.config.adjusted;
        match rlimit.kind {
            wit::RlimitKind::Descriptors => adjusted.descriptors = Some(most),
            wit::RlimitKind::Processes => adjusted.processes = Some(most),
        }
        Ok(())
    }

    fn resources(&mut self, change: &wit::ResourceChange) -> Outcome {
        for field in fields(change) {
            self.own(field, field)?;
        }
        check(change, &self.config.resources).map_err(|why| self.fault(&why))?;
        change_resources(&mut self.config.resources, change);
        Ok(())
    }

    /// Within what a request may ask for.
    fn weigh(&self) -> Result<(), String> {
        let ContainerConfig { command, args, env, annotations, mounts, adjusted, .. } =
            &*self.config;
        let pairs = env.iter().flat_map(|(name, value)| [name, value]);
        let words = weight::of(command.iter().chain(args).chain(pairs));
        weight::at_most("command, args and env together", words, WORDS)?;
        let pairs = annotations.iter().flat_map(|(key, value)| [key, value]);
        weight::at_most("annotations", weight::of(pairs), ANNOTATIONS)?;
        let paths = mounts.iter().flat_map(|mount| [&mount.container_path, &mount.host_path]);
        weight::at_most("mounts", weight::of(paths) + mounts.len() * FRAME, MOUNTS)?;
        let known = adjusted.owners.keys().chain(&adjusted.removed_env);
        weight::at_most("what is set and removed", weight::of(known), 2 * WORDS)
    }

    /// `field` is granted, and `what` of it nobody else's.
    fn own(&mut self, field: &str, what: &str) -> Outcome {
        if !self.grants.field(field) {
            return Err(self.ungranted(field));
        }
        let owners = &mut self.config.adjusted.owners;
        match owners.insert(what.to_owned(), self.plugin.to_owned()) {
            Some(other) if other != self.plugin => {
                Err(Fault::Conflict(Error::Precondition(format!(
                    "plugins {other} and {} both set {} of container {}",
                    self.plugin,
                    plain(what),
                    self.config.name.name
                ))))
            }
            _ => Ok(()),
        }
    }

    fn ungranted(&self, field: &str) -> Fault {
        self.fault(&format!("changes {field}, which it did not ask for or was not granted"))
    }

    fn fault(&self, what: &str) -> Fault {
        Fault::Own(wrong((self.plugin, &self.config.name.name), what))
    }
}

/// What plugins make of an update that somebody asked for.
pub struct Updating<'a> {
    pub container: &'a str,
    pub resources: Resources,
    /// Who set what of it.
    owners: Vec<(&'static str, String)>,
}

impl<'a> Updating<'a> {
    pub fn new(container: &'a str, wanted: &Resources) -> Self {
        Self { container, resources: wanted.clone(), owners: Vec::new() }
    }

    /// All of a plugin's change, or nothing.
    pub fn apply(
        &mut self,
        plugin: &str,
        grants: &Grants,
        change: &wit::ResourceChange,
    ) -> Result<(), Fault> {
        let container = self.container;
        let fault = |what: String| Fault::Own(wrong((plugin, container), &what));
        let touched = fields(change);
        if let Some(field) = touched.iter().find(|field| !grants.field(field)) {
            return Err(fault(format!("changes {field}, which it was not granted")));
        }
        check(change, &self.resources).map_err(fault)?;
        let other = self.owners.iter().find(|(known, _)| touched.contains(known));
        if let Some((field, other)) = other {
            return Err(Fault::Conflict(Error::Precondition(format!(
                "plugins {other} and {plugin} both set {field} of container {container}"
            ))));
        }
        self.owners.extend(touched.into_iter().map(|field| (field, plugin.to_owned())));
        change_resources(&mut self.resources, change);
        Ok(())
    }
}

fn wrong((plugin, container): (&str, &str), what: &str) -> Error {
    // A plugin's name is one word; a pod's hooks say themselves what they are.
    let kind = if plugin.contains(' ') { "" } else { "plugin " };
    Error::Precondition(format!("{kind}{plugin}: container {container}: {what}"))
}

/// A plugin's text within an error: one short line.
fn plain(text: &str) -> String {
    cut(text.replace(char::is_control, "\u{fffd}"), SHOWN)
}

/// An absolute path without doubled slashes, `.` and a slash at its end.
fn normal(path: &str) -> String {
    let names = path.split('/').filter(|name| !name.is_empty() && *name != ".");
    let path = names.fold(String::new(), |path, name| path + "/" + name);
    if path.is_empty() { "/".to_owned() } else { path }
}

/// The fields that a change touches.
pub fn fields(change: &wit::ResourceChange) -> Vec<&'static str> {
    let all = [
        ("resources.cpu-period", change.cpu_period.is_some()),
        ("resources.cpu-quota", change.cpu_quota.is_some()),
        ("resources.cpu-shares", change.cpu_shares.is_some()),
        ("resources.memory-limit", change.memory_limit.is_some()),
        ("resources.cpuset-cpus", change.cpuset_cpus.is_some()),
        ("resources.cpuset-mems", change.cpuset_mems.is_some()),
    ];
    all.into_iter().filter(|(_, is_touched)| *is_touched).map(|(field, _)| field).collect()
}

/// Whether what a change makes of `resources` can be, as far as numbers tell. What the machine
/// lacks, the shim finds.
pub fn check(change: &wit::ResourceChange, resources: &Resources) -> Result<(), String> {
    for list in [&change.cpuset_cpus, &change.cpuset_mems].into_iter().flatten() {
        CpuSet::parse(list)?;
    }
    if let Some(limit @ ..0) = change.memory_limit {
        return Err(format!("memory limit {limit} is negative"));
    }
    let mut made = resources.clone();
    change_resources(&mut made, change);
    CpuTime::read(made.cpu_quota, made.cpu_period, made.cpu_shares).map(drop)
}

pub fn change_resources(resources: &mut Resources, change: &wit::ResourceChange) {
    let wit::ResourceChange {
        cpu_period,
        cpu_quota,
        cpu_shares,
        memory_limit,
        cpuset_cpus,
        cpuset_mems,
    } = change.clone();
    let numbers = [
        (&mut resources.cpu_period, cpu_period),
        (&mut resources.cpu_quota, cpu_quota),
        (&mut resources.cpu_shares, cpu_shares),
        (&mut resources.memory_limit, memory_limit),
    ];
    for (old, new) in numbers {
        *old = new.unwrap_or(*old);
    }
    let texts =
        [(&mut resources.cpuset_cpus, cpuset_cpus), (&mut resources.cpuset_mems, cpuset_mems)];
    for (old, new) in texts {
        if let Some(new) = new {
            *old = new;
        }
    }
}

#[cfg(test)]
#[path = "adjust_tests.rs"]
mod tests;
