//! How a call reaches a component of the world `pod-hooks`.

use wasmtime::Store;

use super::own::PodHooks;
use super::{Answer, Call, Hook};

/// Calls the hook. An error is a trap, or another failure of the component.
pub async fn ask<T: Send + 'static>(
    instance: &PodHooks,
    store: &mut Store<T>,
    call: &Call,
) -> wasmtime::Result<Answer> {
    let hooks = instance.wasmpod_lifecycle_own_hooks();
    let (pod, container) = (&call.pod, &call.container);
    let done = match call.hook {
        Hook::PreCreateContainer => {
            let answer = hooks.call_pre_create_container(store, pod, container).await?;
            return Ok(
                answer.map_or_else(Answer::Refused, |made| Answer::Adjustment(Box::new(made)))
            );
        }
        Hook::UpdateContainer => {
            let wanted = call.wanted.as_ref().unwrap_or(&call.container.resources);
            let answer = hooks.call_update_container(store, pod, container, wanted).await?;
            return Ok(answer.map_or_else(Answer::Refused, Answer::Change));
        }
        Hook::PostCreateContainer => hooks.call_post_create_container(store, pod, container).await,
        Hook::PreStartContainer => hooks.call_pre_start_container(store, pod, container).await,
        Hook::PostStartContainer => hooks.call_post_start_container(store, pod, container).await,
        Hook::PreStopContainer => hooks.call_pre_stop_container(store, pod, container).await,
        Hook::PostStopContainer => hooks.call_post_stop_container(store, pod, container).await,
        Hook::ContainerExited => hooks.call_container_exited(store, pod, container).await,
    };
    Ok(done?.map_or_else(Answer::Refused, |()| Answer::Done))
}
