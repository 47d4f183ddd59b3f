//! A chain's adjustments of one container, one after the other: who set what, and that no two
//! plugins set the same. Pure.

use super::bindings::types as wit;
use super::manifest::Grants;
use crate::error::{Error, Result};
use crate::model::container::{ContainerConfig, Mount, MountAccess, Propagation};
use crate::model::cpuset::CpuSet;
use crate::model::resources::Resources;

/// Annotations that a kubelet keeps for itself.
const KUBELETS: &str = "io.kubernetes.";

/// What one plugin changes of a container that is being created.
pub struct Adjusting<'a> {
    pub plugin: &'a str,
    pub grants: &'a Grants,
    pub config: &'a mut ContainerConfig,
}

impl Adjusting<'_> {
    /// All of it, or an error that names the plugin and the field; then `config` is no good any
    /// more.
    pub fn apply(&mut self, adjustment: wit::Adjustment) -> Result<()> {
        if let Some(setting) = adjustment.other.first() {
            return Err(self.fault(format!(
                "{} has no meaning for a WebAssembly container (wanted {:?})",
                setting.field, setting.value
            )));
        }
        for name in adjustment.remove_env {
            self.own("env", &format!("env {name}"))?;
            self.config.env.retain(|(known, _)| *known != name);
            self.config.adjusted.removed_env.insert(name);
        }
        for (name, value) in adjustment.set_env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(self.fault(format!("{name:?} is no name for an environment variable")));
            }
            self.own("env", &format!("env {name}"))?;
            self.config.adjusted.removed_env.remove(&name);
            self.config.env.push((name, value));
        }
        if let Some(args) = adjustment.args {
            self.own("args", "args")?;
            let mut words = args.into_iter();
            self.config.command = words.next().into_iter().collect();
            self.config.args = words.collect();
            if self.config.command.is_empty() {
                return Err(self.fault("args must name the program first".to_owned()));
            }
        }
        for path in adjustment.remove_mounts {
            self.own("mounts", &format!("mount {path}"))?;
            self.config.mounts.retain(|mount| mount.container_path != path);
        }
        for mount in adjustment.add_mounts {
            self.own("mounts", &format!("mount {}", mount.container_path))?;
            if mount.host_path.is_empty() {
                return Err(self.fault(format!("mount {} has no host path", mount.container_path)));
            }
            self.config.mounts.retain(|known| known.container_path != mount.container_path);
            self.config.mounts.push(Mount {
                container_path: mount.container_path,
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
        self.annotations(adjustment.set_annotations, adjustment.remove_annotations)?;
        for rlimit in adjustment.rlimits {
            self.rlimit(&rlimit)?;
        }
        if let Some(change) = adjustment.resources {
            for field in fields(&change) {
                self.own(field, field)?;
            }
            check(&change).map_err(|why| self.fault(why))?;
            change_resources(&mut self.config.resources, &change);
        }
        if !adjustment.updates.is_empty() && !self.grants.field("updates") {
            return Err(self.ungranted("updates"));
        }
        Ok(())
    }

    fn annotations(&mut self, set: Vec<(String, String)>, remove: Vec<String>) -> Result<()> {
        let keys = set.iter().map(|(key, _)| key).chain(&remove);
        for key in keys {
            if key.starts_with(KUBELETS) {
                return Err(self.fault(format!("annotation {key} is the kubelet's")));
            }
            self.own("annotations", &format!("annotation {key}"))?;
        }
        for key in remove {
            self.config.annotations.remove(&key);
        }
        self.config.annotations.extend(set);
        Ok(())
    }

    fn rlimit(&mut self, rlimit: &wit::Rlimit) -> Result<()> {
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

    /// `field` is granted, and `what` of it nobody else's.
    fn own(&mut self, field: &str, what: &str) -> Result<()> {
        if !self.grants.field(field) {
            return Err(self.ungranted(field));
        }
        let owners = &mut self.config.adjusted.owners;
        match owners.insert(what.to_owned(), self.plugin.to_owned()) {
            Some(other) if other != self.plugin => Err(Error::Precondition(format!(
                "plugins {other} and {} both set {what} of container {}",
                self.plugin, self.config.name.name
            ))),
            _ => Ok(()),
        }
    }

    fn ungranted(&self, field: &str) -> Error {
        self.fault(format!("changes {field}, which it did not ask for or was not granted"))
    }

    fn fault(&self, what: String) -> Error {
        let container = &self.config.name.name;
        Error::Precondition(format!("plugin {}: container {container}: {what}", self.plugin))
    }
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

/// Whether CPU and node lists can be read. What the machine lacks, the shim finds.
pub fn check(change: &wit::ResourceChange) -> Result<(), String> {
    for list in [&change.cpuset_cpus, &change.cpuset_mems].into_iter().flatten() {
        CpuSet::parse(list)?;
    }
    match change.memory_limit {
        Some(limit) if limit < 0 => Err(format!("memory limit {limit} is negative")),
        _ => Ok(()),
    }
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
