//! The exported hooks: arguments to the crate's types, the author's hook, and its answer back.
//! A component has one plugin, and its calls do not overlap.

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;

use super::bindings::plugin::exports::wasmpod::lifecycle::node_hooks;
use super::bindings::plugin::wasmpod::lifecycle::types as wire;
use super::bindings::pod_hooks::exports::wasmpod::lifecycle::own_hooks;
use super::{convert, panic};
use crate::{Plugin, PodHooks, Result, Settings};

thread_local! {
    static AUTHORS: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

/// Calls the author's value, which the first call makes.
fn with<T: Default + 'static, R>(call: impl FnOnce(&mut T) -> R) -> R {
    panic::report();
    AUTHORS.with_borrow_mut(|authors| {
        let value = authors.get_or_insert_with(|| Box::new(T::default()));
        match value.downcast_mut::<T>() {
            Some(value) => call(value),
            None => unreachable!("a component has one plugin"),
        }
    })
}

/// The answer on the wire.
fn answer<T, W>(result: Result<T>, told: impl FnOnce(T) -> W) -> Result<W, String> {
    result.map(told).map_err(|error| error.message().to_owned())
}

/// What [`plugin!`](crate::plugin) exports.
pub struct Export<P>(PhantomData<P>);

impl<P: Plugin> node_hooks::Guest for Export<P> {
    fn configure(info: wire::RuntimeInfo, settings: String) -> Result<wire::Hooks, String> {
        with::<P, _>(|plugin| {
            let settings = Settings::from_json(&settings);
            let told = settings.and_then(|settings| plugin.configure(&info.into(), &settings));
            answer(told, |()| wire::Hooks::from_bits_truncate(P::HOOKS.bits()))
        })
    }

    fn synchronize(
        pods: Vec<wire::Pod>,
        containers: Vec<wire::Container>,
    ) -> Result<Vec<wire::ContainerUpdate>, String> {
        let (pods, containers) = (convert::all(pods), convert::all(containers));
        with::<P, _>(|plugin| answer(plugin.synchronize(&pods, &containers), convert::all))
    }

    fn shutdown() {
        with::<P, _>(P::shutdown);
    }

    fn run_pod_sandbox(pod: wire::Pod) -> Result<(), String> {
        with::<P, _>(|plugin| answer(plugin.run_pod_sandbox(&pod.into()), drop))
    }

    fn stop_pod_sandbox(pod: wire::Pod) -> Result<(), String> {
        with::<P, _>(|plugin| answer(plugin.stop_pod_sandbox(&pod.into()), drop))
    }

    fn remove_pod_sandbox(pod: wire::Pod) -> Result<(), String> {
        with::<P, _>(|plugin| answer(plugin.remove_pod_sandbox(&pod.into()), drop))
    }

    fn update_pod_sandbox(
        pod: wire::Pod,
        overhead: Option<wire::Resources>,
        wanted: Option<wire::Resources>,
    ) -> Result<(), String> {
        let (overhead, wanted) = (overhead.map(Into::into), wanted.map(Into::into));
        with::<P, _>(|plugin| {
            answer(plugin.update_pod_sandbox(&pod.into(), overhead.as_ref(), wanted.as_ref()), drop)
        })
    }

    fn post_update_pod_sandbox(pod: wire::Pod) -> Result<(), String> {
        with::<P, _>(|plugin| answer(plugin.post_update_pod_sandbox(&pod.into()), drop))
    }

    fn pre_create_container(
        pod: wire::Pod,
        container: wire::Container,
    ) -> Result<wire::Adjustment, String> {
        with::<P, _>(|plugin| {
            answer(plugin.pre_create_container(&pod.into(), &container.into()), Into::into)
        })
    }

    fn post_create_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|plugin| {
            answer(plugin.post_create_container(&pod.into(), &container.into()), drop)
        })
    }

    fn pre_start_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|plugin| {
            answer(plugin.pre_start_container(&pod.into(), &container.into()), drop)
        })
    }

    fn post_start_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|plugin| {
            answer(plugin.post_start_container(&pod.into(), &container.into()), drop)
        })
    }

    fn update_container(
        pod: wire::Pod,
        container: wire::Container,
        wanted: wire::Resources,
    ) -> Result<wire::ResourceChange, String> {
        with::<P, _>(|plugin| {
            answer(
                plugin.update_container(&pod.into(), &container.into(), &wanted.into()),
                Into::into,
            )
        })
    }

    fn post_update_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|plugin| {
            answer(plugin.post_update_container(&pod.into(), &container.into()), drop)
        })
    }

    fn pre_stop_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|plugin| {
            answer(plugin.pre_stop_container(&pod.into(), &container.into()), drop)
        })
    }

    fn post_stop_container(
        pod: wire::Pod,
        container: wire::Container,
    ) -> Result<Vec<wire::ContainerUpdate>, String> {
        with::<P, _>(|plugin| {
            answer(plugin.post_stop_container(&pod.into(), &container.into()), convert::all)
        })
    }

    fn remove_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|plugin| answer(plugin.remove_container(&pod.into(), &container.into()), drop))
    }

    fn container_exited(
        pod: wire::Pod,
        container: wire::Container,
    ) -> Result<Vec<wire::ContainerUpdate>, String> {
        with::<P, _>(|plugin| {
            answer(plugin.container_exited(&pod.into(), &container.into()), convert::all)
        })
    }

    fn image_pulled(image: wire::Image) -> Result<(), String> {
        with::<P, _>(|plugin| answer(plugin.image_pulled(&image.into()), drop))
    }

    fn validate_container(
        pod: wire::Pod,
        container: wire::Container,
        adjusted_by: Vec<String>,
    ) -> Result<(), String> {
        with::<P, _>(|plugin| {
            answer(plugin.validate_container(&pod.into(), &container.into(), &adjusted_by), drop)
        })
    }
}

/// What [`pod_hooks!`](crate::pod_hooks) exports.
pub struct PodExport<P>(PhantomData<P>);

impl<P: PodHooks> own_hooks::Guest for PodExport<P> {
    fn pre_create_container(
        pod: wire::Pod,
        container: wire::Container,
    ) -> Result<wire::Adjustment, String> {
        with::<P, _>(|hooks| {
            answer(hooks.pre_create_container(&pod.into(), &container.into()), Into::into)
        })
    }

    fn post_create_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|hooks| {
            answer(hooks.post_create_container(&pod.into(), &container.into()), drop)
        })
    }

    fn pre_start_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|hooks| {
            answer(hooks.pre_start_container(&pod.into(), &container.into()), drop)
        })
    }

    fn post_start_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|hooks| {
            answer(hooks.post_start_container(&pod.into(), &container.into()), drop)
        })
    }

    fn update_container(
        pod: wire::Pod,
        container: wire::Container,
        wanted: wire::Resources,
    ) -> Result<wire::ResourceChange, String> {
        with::<P, _>(|hooks| {
            answer(
                hooks.update_container(&pod.into(), &container.into(), &wanted.into()),
                Into::into,
            )
        })
    }

    fn pre_stop_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|hooks| answer(hooks.pre_stop_container(&pod.into(), &container.into()), drop))
    }

    fn post_stop_container(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|hooks| {
            answer(hooks.post_stop_container(&pod.into(), &container.into()), drop)
        })
    }

    fn container_exited(pod: wire::Pod, container: wire::Container) -> Result<(), String> {
        with::<P, _>(|hooks| answer(hooks.container_exited(&pod.into(), &container.into()), drop))
    }
}
