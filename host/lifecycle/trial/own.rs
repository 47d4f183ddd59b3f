//! A pod's own hooks in a trial: their component in a Store and on a thread of its own, for each
//! call anew. Bounded as in a sandbox.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::config::PodHooksConfig;
use crate::error::{Error, Result};
use crate::image::ImageStore;
use crate::interface::own::PodHooks;
use crate::interface::{Answer, Bounds, Call, Hook, ask, brief, imports, link, store};
use crate::lifecycle::load::compiled;
use crate::lifecycle::{View, settle};

/// How long after its deadline a spinning guest is ended.
const SLACK: Duration = Duration::from_millis(1);

const HOOKS: [Hook; 8] = [
    Hook::PreCreateContainer,
    Hook::PostCreateContainer,
    Hook::PreStartContainer,
    Hook::PostStartContainer,
    Hook::UpdateContainer,
    Hook::PreStopContainer,
    Hook::PostStopContainer,
    Hook::ContainerExited,
];

/// Those that a pod's own hooks may have.
pub fn names() -> [&'static str; 8] {
    HOOKS.map(Hook::name)
}

pub struct Hooks {
    component: Component,
    engine: Engine,
    memory: u64,
    /// That they may change.
    pub fields: Vec<String>,
}

impl Hooks {
    /// The error is a clause that says why they cannot be used.
    pub async fn load(
        path: &Path,
        config: &PodHooksConfig,
        images: &Arc<ImageStore>,
    ) -> Result<Self> {
        let engine = crate::engine::new()
            .map_err(|error| Error::Internal(format!("hooks cannot run here: {error:#}")))?;
        let (component, manifest) = compiled(path, std::slice::from_ref(&engine), images).await?;
        imports(&component, "own-hooks", &manifest.functions)?;
        settle(&manifest, config)?;
        Ok(Self { component, engine, memory: config.memory, fields: manifest.fields })
    }

    /// The error says in a clause why there is no answer.
    pub async fn call(&self, call: Call, view: View, within: Duration) -> Result<Answer, String> {
        let deadline = Instant::now() + within;
        let late = || "gave no answer in time".to_owned();
        let (answer, answered) = oneshot::channel();
        let bounds = Bounds { memory: self.memory, deadline };
        let (component, engine) = (self.component.clone(), self.engine.clone());
        let thread = std::thread::Builder::new().name("hooks".to_owned());
        let spawned = thread.stack_size(crate::engine::THREAD_STACK).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let done = runtime.map_err(|error| format!("has no runtime: {error}"));
            // Whoever asked may have gone by now.
            drop(answer.send(done.and_then(|runtime| {
                let called = called(&engine, (&component, view), bounds, &call);
                let within = async { tokio::time::timeout_at(deadline.into(), called).await };
                let called = runtime.block_on(within);
                match called {
                    Ok(Ok(answer)) => Ok(answer),
                    Ok(Err(error)) if Instant::now() < deadline => {
                        Err(format!("broke down: {}", brief(&error)))
                    }
                    _ => Err(late()),
                }
            })));
        });
        spawned.map_err(|error| format!("has no thread: {error}"))?;
        match tokio::time::timeout_at((deadline + SLACK).into(), answered).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err("ended without an answer".to_owned())),
            Err(_) => {
                // Wakes a guest that spins, whose time is over now.
                self.engine.increment_epoch();
                Err(late())
            }
        }
    }
}

async fn called(
    engine: &Engine,
    (component, view): (&Component, View),
    bounds: Bounds,
    call: &Call,
) -> wasmtime::Result<Answer> {
    let mut linker = Linker::new(engine);
    link(&mut linker)?;
    let mut store = store(engine, view, bounds);
    let instance = PodHooks::instantiate_async(&mut store, component, &linker).await?;
    ask(&instance, &mut store, call).await
}
