//! A pod's own hooks: a component in its sandbox's Store. A call is a dialogue, since whoever calls
//! a hook answers what the hook asks for meanwhile. A trap ends the call and the Store's content,
//! never the sandbox.

mod dialogue;
mod functions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use wasmtime::component::Linker;
use wasmtime::{Engine, Store};

pub use dialogue::converse;
use functions::{Line, Talk};

use super::host::Host;
use super::programs::Code;
use super::sandbox::Sandbox;
use super::ticker::Ticker;
use crate::error::{Error, Result};
use crate::interface::own::{PodHooks, PodHooksPre};
use crate::interface::{Answer, Bounds, Call, State, ask, brief, imports, link, store};

/// What CreateSandbox asked for.
#[derive(Clone, Debug)]
pub struct HooksSpec {
    pub code: Code,
    /// Bytes of memories and tables; they count as the pod's too.
    pub memory: u64,
    /// What the component may import of the interface.
    pub functions: Vec<String>,
    /// For its instantiation.
    pub patience: Duration,
}

/// A component that may be some pod's hooks, with all its imports found.
pub struct Hooks {
    pre: PodHooksPre<State<Line>>,
    engine: Engine,
    ticker: Arc<Ticker>,
    runtime: Runtime,
    spec: HooksSpec,
}

impl Hooks {
    /// Reads and hashes the file, so it belongs on a thread of its own. Errors are one sentence.
    pub fn load(host: &Host, spec: HooksSpec) -> Result<Self> {
        let component = host.programs.component(&spec.code)?;
        let engine = component.engine().clone();
        imports(&component, "own-hooks", &spec.functions)?;
        let unlinked = |error: wasmtime::Error| Error::Invalid(format!("{error:#}"));
        let mut linker = Linker::new(&engine);
        link(&mut linker).map_err(unlinked)?;
        let pre = linker.instantiate_pre(&component).and_then(PodHooksPre::new);
        let runtime = Builder::new_current_thread().enable_time().build();
        Ok(Self {
            pre: pre.map_err(unlinked)?,
            engine,
            ticker: host.ticker.clone(),
            runtime: runtime.map_err(Error::io("making a runtime for hooks"))?,
            spec,
        })
    }
}

/// What a sandbox's thread has: the pod's Store, and the hooks that live in it.
pub struct Home {
    sandbox: Arc<Sandbox>,
    store: Store<State<Line>>,
    hooks: Option<Hooks>,
    instance: Option<PodHooks>,
}

impl Home {
    /// Begins the hooks, where there are any.
    pub fn new(engine: &Engine, sandbox: Arc<Sandbox>, hooks: Option<Hooks>) -> Result<Self> {
        let engine = hooks.as_ref().map_or(engine, |hooks| &hooks.engine);
        let store = empty(engine, &sandbox, hooks.as_ref().map(|hooks| &hooks.spec));
        let mut home = Self { sandbox, store, hooks, instance: None };
        if let Some(patience) = home.hooks.as_ref().map(|hooks| hooks.spec.patience) {
            let begun = home.within(Instant::now() + patience, async |_| Ok(()));
            begun.map_err(|why| Error::Precondition(format!("it cannot be begun: {why}")))?;
        }
        Ok(home)
    }

    /// Calls a hook; an error says in a clause why it gave no answer.
    fn call(&mut self, call: &Call, talk: Talk, deadline: Instant) -> Result<Answer, String> {
        if Instant::now() >= deadline {
            return Err("was not reached in time".to_owned());
        }
        self.store.data_mut().view.talk = Some(talk);
        let answer = self.within(deadline, async |home| home.ask(call).await);
        self.store.data_mut().view.talk = None;
        if answer.is_err() {
            // What is left of an instance that broke down is no good; the next call has a new one.
            self.instance = None;
            let spec = self.hooks.as_ref().map(|hooks| &hooks.spec);
            let engine = self.store.engine().clone();
            self.store = empty(&engine, &self.sandbox, spec);
        }
        answer
    }

    /// Does something with the Store that ends by `deadline`, whatever the component does.
    fn within<T>(
        &mut self,
        deadline: Instant,
        work: impl AsyncFnOnce(&mut Self) -> wasmtime::Result<T>,
    ) -> Result<T, String> {
        // Taken out meanwhile: what is done borrows the rest.
        let Some(hooks) = self.hooks.take() else { return Err("is not there".to_owned()) };
        let ticking = hooks.ticker.tick();
        self.store.data_mut().limit(deadline);
        self.store.set_epoch_deadline(1);
        let done = hooks.runtime.block_on(async {
            let whole = async {
                if self.instance.is_none() {
                    self.instance = Some(instantiate(&hooks, &mut self.store).await?);
                }
                work(self).await
            };
            tokio::time::timeout_at(deadline.into(), whole).await?
        });
        drop(ticking);
        self.hooks = Some(hooks);
        done.map_err(|error: wasmtime::Error| match Instant::now() >= deadline {
            true => "gave no answer in time".to_owned(),
            false => format!("broke down: {}", brief(&error)),
        })
    }

    async fn ask(&mut self, call: &Call) -> wasmtime::Result<Answer> {
        let Some(instance) = &self.instance else { return Ok(Answer::Done) };
        ask(instance, &mut self.store, call).await
    }
}

async fn instantiate(hooks: &Hooks, store: &mut Store<State<Line>>) -> wasmtime::Result<PodHooks> {
    let line = &mut store.data_mut().view;
    // Given back when the Store's content goes.
    if !line.take(hooks.spec.code.footprint) {
        return Err(wasmtime::Error::msg("it takes more memory than the pod has left"));
    }
    hooks.pre.instantiate_async(store).await
}

/// The pod's Store with nothing in it.
fn empty(engine: &Engine, sandbox: &Arc<Sandbox>, spec: Option<&HooksSpec>) -> Store<State<Line>> {
    let memory = spec.map_or(0, |spec| spec.memory);
    store(engine, Line::new(sandbox.clone()), Bounds { memory, deadline: Instant::now() })
}
