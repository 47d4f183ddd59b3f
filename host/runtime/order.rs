//! What a shim is told to make a container of: the plan in the shim's words.

use super::Runtime;
use super::containers::Plan;
use super::exec::cpu_time;
use crate::image::{Code, CodeForm};
use crate::lifecycle::{Shown, about};
use crate::model::container::{Container, MountAccess, Propagation};
use crate::model::user::User;
use crate::proto::shim as wire;

impl Runtime {
    pub(super) fn container_request(
        &self,
        container: &Container,
        plan: &Plan,
    ) -> wire::CreateContainerRequest {
        let root = self.folders.root_of(&container.id);
        let sandbox = self.records.sandbox(&container.sandbox);
        let shown = Shown { container, argv: &plan.launch.argv, env: &plan.launch.env };
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let pairs = container.config.mounts.iter().zip(&plan.mounts).zip(&plan.volumes);
        let mounts = pairs.map(|((asked, planned), volume)| wire::Mount {
            image: volume.as_ref().map(|image| wire::ImageVolume {
                layers: image.own_layers().map(text).collect(),
                sub_path: asked
                    .image
                    .as_ref()
                    .map_or(String::new(), |image| image.sub_path.clone()),
            }),
            container_path: planned.container_path.clone(),
            host_path: text(&planned.host_path),
            readonly: planned.access != MountAccess::ReadWrite,
            recursive: planned.access == MountAccess::RecursiveReadOnly,
            propagation: match asked.propagation {
                Propagation::Private => wire::mount::Propagation::Private,
                Propagation::HostToContainer => wire::mount::Propagation::HostToContainer,
            }
            .into(),
        });
        wire::CreateContainerRequest {
            id: container.id.to_string(),
            sandbox_id: container.sandbox.to_string(),
            code: Some(wire_code(&plan.code)),
            root: Some(wire::RootFs {
                layers: plan.image.layers.iter().map(|layer| text(layer)).collect(),
                upper: text(&root.join("upper")),
                work: text(&root.join("work")),
                readonly: container.config.readonly_rootfs,
            }),
            mounts: mounts.collect(),
            argv: plan.launch.argv.clone(),
            env: plan.launch.env.clone(),
            working_dir: plan.launch.working_dir.clone(),
            entry_path: plan.launch.program.path.clone(),
            stdin: container.config.stdin,
            stdin_once: container.config.stdin_once,
            terminal: container.config.tty,
            log_path: container.log_path.clone(),
            limits: Some(self.limits(container)),
            network: Some(plan.network.clone()),
            user: Some(wire_user(&container.user)),
            masked_paths: container.config.covers.masked.clone(),
            readonly_paths: container.config.covers.read_only.clone(),
            programs: plan.programs.iter().map(wire_code).collect(),
            about: sandbox.map_or(Vec::new(), |sandbox| about(&sandbox, shown)).into(),
        }
    }

    pub(super) fn limits(&self, container: &Container) -> wire::Limits {
        let (resources, adjusted) = (&container.resources, &container.config.adjusted);
        let least = |own: Option<u32>, most: u32| own.map_or(most, |own| own.min(most));
        wire::Limits {
            memory: resources.memory_limit,
            descriptors: least(adjusted.descriptors, self.config.limits.descriptors),
            handles: self.config.limits.handles,
            processes: least(adjusted.processes, self.config.guests.most_processes()),
            cpuset_cpus: resources.cpuset_cpus.clone(),
            cpuset_mems: resources.cpuset_mems.clone(),
            cpu_time: Some(cpu_time(resources)),
        }
    }
}

fn wire_user(user: &User) -> wire::User {
    wire::User {
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
        name: user.name.clone(),
    }
}

pub(super) fn wire_code(code: &Code) -> wire::Code {
    wire::Code {
        path: code.path.to_string_lossy().into_owned(),
        sha256: code.sha256.clone(),
        module: code.module.clone(),
        form: match code.form {
            CodeForm::Module => wire::code::Form::Module,
            CodeForm::Component => wire::code::Form::Component,
        }
        .into(),
        footprint: code.footprint,
    }
}
