//! What a plugin's author writes: one trait, whose hooks do nothing unless they are written.

use crate::{
    Adjustment, Container, Hooks, Image, Pod, ResourceChange, Resources, Result, RuntimeInfo,
    Settings, Update,
};

/// A plugin of the node; [`plugin!`](crate::plugin) exports it.
///
/// Six hooks can refuse what was asked for: `run_pod_sandbox`, `update_pod_sandbox`,
/// `pre_create_container`, `validate_container`, `pre_start_container` and `update_container`. An
/// error of theirs fails the request, whatever the plugin's fail policy. The policy is for a plugin
/// that does not answer (it panics, is late, is not there) or wants what cannot be: closed fails
/// the request, open goes on without it. Nothing fails of the other hooks: what goes wrong with
/// them is logged.
#[expect(unused_variables, reason = "their names are for whoever writes a hook")]
pub trait Plugin: Default + 'static {
    /// Those that are called. The others are not, though they may be written.
    const HOOKS: Hooks;

    /// First, once for each instance. After an error the plugin is begun again after a while, and
    /// meanwhile its fail policy decides.
    fn configure(&mut self, info: &RuntimeInfo, settings: &Settings) -> Result<()> {
        Ok(())
    }

    /// Second: all pods that the plugin may see and their containers, ready or not, running or not.
    /// Also when the plugin begins anew, after a panic or a missed deadline or because its file has
    /// changed. An error is as one of [`configure`](Plugin::configure), and so is an update that
    /// fails and is not ignored.
    fn synchronize(&mut self, pods: &[Pod], containers: &[Container]) -> Result<Vec<Update>> {
        Ok(Vec::new())
    }

    /// Last, before the daemon ends in order or a changed plugin takes its place. Not after a panic
    /// or a missed deadline, nor when the daemon is killed.
    fn shutdown(&mut self) {}

    /// The pod has its sandbox and its network; no container yet. It is still being made: `pods`
    /// and `events` do not find it. An error ends the pod.
    fn run_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        Ok(())
    }

    /// Its containers have ended; its network is still there. Once, when a ready pod is stopped;
    /// not of one whose process has gone.
    fn stop_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        Ok(())
    }

    /// It is gone, and its containers with it, which are not told one by one. `pod` shows it as it
    /// was.
    fn remove_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        Ok(())
    }

    /// Before the pod's resources change. `overhead` and `wanted` are what it would have, whole,
    /// none where nothing was ever said. An error leaves it as it is.
    fn update_pod_sandbox(
        &mut self,
        pod: &Pod,
        overhead: Option<&Resources>,
        wanted: Option<&Resources>,
    ) -> Result<()> {
        Ok(())
    }

    /// The pod's resources have changed; `pod` shows them.
    fn post_update_pod_sandbox(&mut self, pod: &Pod) -> Result<()> {
        Ok(())
    }

    /// Before the container is made. `container` shows what was asked for, and its id, which
    /// [`cpu::allocate`](crate::cpu::allocate) takes; nothing else finds it yet. An error refuses
    /// the container.
    fn pre_create_container(&mut self, pod: &Pod, container: &Container) -> Result<Adjustment> {
        Ok(Adjustment::new())
    }

    /// It is there, with every change, which `container` shows, and not started.
    fn post_create_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// Before its first instruction. An error fails the start: exit 128, StartError.
    fn pre_start_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// It runs, or has already ended.
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

    /// Its resources have changed by such a request; `container` shows them. Not after
    /// [`containers::update`](crate::containers::update).
    fn post_update_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// Before one that runs is asked to end; the request's grace, if it gives one, is still whole.
    /// Not for one that ends by itself.
    fn pre_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// It ran when it was asked to end, and has ended; not one that had ended by itself before.
    /// Others may be given what it had.
    fn post_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<Vec<Update>> {
        Ok(Vec::new())
    }

    /// It is gone; `container` shows it as it was. Not of those that go with their pod, of which
    /// `remove_pod_sandbox` tells.
    fn remove_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// It has ended, however, and its `exit` says how. Not one that ended while the daemon was
    /// away: `synchronize` shows it then. CPUs that were allocated to it are given back afterwards.
    fn container_exited(&mut self, pod: &Pod, container: &Container) -> Result<Vec<Update>> {
        Ok(Vec::new())
    }

    /// After a pull, also one that found the image there already.
    fn image_pulled(&mut self, image: &Image) -> Result<()> {
        Ok(())
    }

    /// After every plugin's adjustment, which `container` shows, and those of the pod's own hooks;
    /// `adjusted_by` names who made them. An error refuses the container.
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
/// called, of the pod's own containers, after the node's plugins.
///
/// An error of `pre_create_container`, `pre_start_container` or `update_container` fails the
/// request, as does an answer that cannot be; one of the others is logged. A panic or a missed
/// deadline ends that call alone: the request goes on, and the pod has a warning `HookFailed` among
/// its events.
#[expect(unused_variables, reason = "their names are for whoever writes a hook")]
pub trait PodHooks: Default + 'static {
    /// Before the container is made. `container` shows what was asked for, and its id, which
    /// [`cpu::allocate`](crate::cpu::allocate) takes; nothing else finds it yet. An error refuses
    /// the container.
    fn pre_create_container(&mut self, pod: &Pod, container: &Container) -> Result<Adjustment> {
        Ok(Adjustment::new())
    }

    /// It is there, with every change, which `container` shows, and not started.
    fn post_create_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// Before its first instruction. An error fails the start: exit 128, StartError.
    fn pre_start_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// It runs, or has already ended.
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

    /// Before one that runs is asked to end; the request's grace, if it gives one, is still whole.
    /// Not for one that ends by itself.
    fn pre_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// It ran when it was asked to end, and has ended.
    fn post_stop_container(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }

    /// It has ended, however, and its `exit` says how. Not one that ended while the daemon was
    /// away.
    fn container_exited(&mut self, pod: &Pod, container: &Container) -> Result<()> {
        Ok(())
    }
}
