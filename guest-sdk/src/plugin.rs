//! What a plugin's author writes: one trait, whose hooks do nothing unless they are written.

use crate::{
    Adjustment, Container, Hooks, Image, Pod, ResourceChange, Resources, Result, RuntimeInfo,
    Settings, Update,
};

/// A plugin of the node; [`plugin!`](crate::plugin) exports it.
///
/// An error or a panic of a hook that is asked beforehand (`run_`, `update_`, `pre_`, `validate_`)
/// fails what was asked for, if the plugin's fail policy is closed; of the others it is logged.
#[expect(unused_variables, reason = "their names are for whoever writes a hook")]
pub trait Plugin: Default + 'static {
    /// Those that are called. The others are not, though they may be written.
    const HOOKS: Hooks;

    /// First, once for each instance.
    fn configure(&mut self, info: &RuntimeInfo, settings: &Settings) -> Result<()> {
        Ok(())
    }

    /// Second: all ready pods and their containers. Also after a panic, when the plugin begins
    /// anew.
    fn synchronize(&mut self, pods: &[Pod], containers: &[Container]) -> Result<Vec<Update>> {
        Ok(Vec::new())
    }

    /// Last, before the daemon ends in order or a changed plugin takes its place.
    fn shutdown(&mut self) {}

    /// The pod has its network; no container yet. An error ends the pod.
    fn run_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        Ok(())
    }

    /// Its containers have ended; its network is still there.
    fn stop_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        Ok(())
    }

    fn remove_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        Ok(())
    }

    /// Before the pod's resources change to these.
    fn update_pod_sandbox(
        &mut self,
        pod: &Pod,
        overhead: Option<&Resources>,
        wanted: Option<&Resources>,
    ) -> Result<()> {
        Ok(())
    }

    fn post_update_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        Ok(())
    }

    /// Before the container is made. It shows what was asked for.
    fn pre_create_container(&mut self, pod: &Pod, container: &Container) -> Result<Adjustment> {
        Ok(Adjustment::new())
    }

    fn post_create_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// Before its first instruction. An error fails the start.
    fn pre_start_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    fn post_start_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// Before its resources change to `wanted`, which is what they would be, whole. What the
    /// plugin changes stands over it.
    fn update_container(
        &mut self,
        pod: &Pod,
        container: &Container,
        wanted: &Resources,
    ) -> Result<ResourceChange> {
        Ok(ResourceChange::new())
    }

    fn post_update_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// Before it is asked to end; it has its whole grace still. Not for one that ends by itself.
    fn pre_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// It was stopped. Others may be given what it had.
    fn post_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<Vec<Update>> {
        Ok(Vec::new())
    }

    fn remove_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// However it ended; the container's `exit` says how.
    fn container_exited(&mut self, pod: &Pod, container: &Container) -> Result<Vec<Update>> {
        Ok(Vec::new())
    }

    fn image_pulled(&mut self, image: &Image) -> Result<()> {
        Ok(())
    }

    /// After every plugin's adjustment, which `container` shows, with the names of the plugins
    /// that made them. An error refuses the container.
    fn validate_container(
        &mut self,
        pod: &Pod,
        container: &Container,
        adjusted_by: &[String],
    ) -> Result<()> {
        Ok(())
    }
}

/// Hooks that a pod brings for itself; [`pod_hooks!`](crate::pod_hooks) exports them. Every one is
/// called. Errors count as a plugin's with the fail policy closed, panics are logged.
#[expect(unused_variables, reason = "their names are for whoever writes a hook")]
pub trait PodHooks: Default + 'static {
    /// Before the container is made. It shows what was asked for.
    fn pre_create_container(&mut self, pod: &Pod, container: &Container) -> Result<Adjustment> {
        Ok(Adjustment::new())
    }

    fn post_create_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// Before its first instruction. An error fails the start.
    fn pre_start_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    fn post_start_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// Before its resources change to `wanted`, which is what they would be, whole. What is
    /// changed here stands over it.
    fn update_container(
        &mut self,
        pod: &Pod,
        container: &Container,
        wanted: &Resources,
    ) -> Result<ResourceChange> {
        Ok(ResourceChange::new())
    }

    /// Before it is asked to end; it has its whole grace still. Not for one that ends by itself.
    fn pre_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    fn post_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// However it ended; the container's `exit` says how.
    fn container_exited(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }
}
