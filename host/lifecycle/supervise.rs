//! Who keeps a plugin alive: loads it, begins it anew after a trap, and puts a changed file in its
//! place.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::bindings::types as wit;
use super::instance::{Answering, Instance, asking};
use super::load::{Loaded, Loader};
use super::lock;
use super::miss::{Miss, said};
use super::plugin::{Plugin, SLACK, Seat, Standing};
use super::thread::{self, serve};
use crate::image::ImageStore;

/// How long a plugin that failed waits before it begins anew; doubled each time it fails again.
const AGAIN: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

impl Plugin {
    /// Keeps the plugin alive until `ended`.
    pub async fn supervise(self: Arc<Self>, loader: Loader, images: Arc<ImageStore>) {
        let mut wait = AGAIN;
        let mut watch = loader.watch();
        let mut loaded = None;
        loop {
            self.standing.send_replace(Standing::Starting);
            let next = match loaded.take() {
                Some(loaded) => loaded,
                None => loader.load(&images).await,
            };
            let begun = match next {
                Ok(loaded) => self.begin(&loader, loaded).await,
                Err(error) => Err(error.to_string()),
            };
            match begun {
                Ok(seat) => {
                    wait = AGAIN;
                    lock(&self.past).asked = Some((seat.wanted, seat.grants.clone()));
                    tracing::info!(plugin = self.name, "a plugin is ready");
                    let mut gone = seat.gone.clone();
                    self.standing.send_replace(Standing::Ready(seat.clone()));
                    let is_changed = tokio::select! {
                        _ = gone.wait_for(|gone| *gone) => false,
                        () = loader.changed(&mut watch) => true,
                    };
                    if is_changed {
                        // It answers until the new file is compiled.
                        loaded = Some(loader.load(&images).await);
                        self.standing.send_replace(Standing::Starting);
                        self.retire(&seat).await;
                        self.begin_anew();
                    }
                }
                Err(why) => {
                    tracing::error!(plugin = self.name, why, "a plugin cannot be used");
                    lock(&self.past).fault.clone_from(&why);
                    self.standing.send_replace(Standing::Failed(why));
                    // Again when its file changes, or after a while: what it needs may be there.
                    if tokio::time::timeout(wait, loader.changed(&mut watch)).await.is_ok() {
                        self.begin_anew();
                    }
                    wait = (wait * 2).min(LONGEST);
                }
            }
        }
    }

    /// Starts a thread with the component, and lets it see what there is.
    async fn begin(&self, loader: &Loader, loaded: Loaded) -> Result<Arc<Seat>, String> {
        let (jobs, queue) = thread::queue().map_err(|error| format!("no pipe for it: {error}"))?;
        let (is_gone, gone) = watch::channel(false);
        let deadline = Instant::now() + self.config.deadline();
        let (made, is_made) = oneshot::channel();
        let (memory, view) = (self.config.memory, loader.view(&loaded.grants));
        let component = loaded.component;
        let engine = component.engine().clone();
        let thread = std::thread::Builder::new().name(format!("plugin {}", self.name));
        let spawned = thread.stack_size(crate::engine::THREAD_STACK).spawn(move || {
            let begun = thread::runtime().map_err(|error| error.to_string()).and_then(|runtime| {
                let begun = Instance::new(&component, (view, memory, deadline));
                let begun = async { tokio::time::timeout_at(deadline.into(), begun).await };
                match runtime.block_on(begun) {
                    Ok(begun) => Ok((runtime, begun.map_err(|error| error.to_string())?)),
                    Err(_) => Err("it took too long to begin".to_owned()),
                }
            });
            let (ready, begun) = match begun {
                Ok(begun) => (Ok(()), Some(begun)),
                Err(why) => (Err(why), None),
            };
            // Who waited may have gone: then there are no jobs.
            let _ = made.send(ready);
            if let Some((runtime, instance)) = begun {
                serve(&runtime, instance, queue);
            }
            is_gone.send_replace(true);
        });
        spawned.map_err(|error| format!("no thread for it: {error}"))?;
        match tokio::time::timeout_at((deadline + SLACK).into(), is_made).await {
            Ok(Ok(made)) => made?,
            Ok(Err(_)) => return Err("its thread ended".to_owned()),
            Err(_) => {
                engine.increment_epoch();
                return Err("it took too long to begin".to_owned());
            }
        }
        let (wanted, grants) = (wit::Hooks::empty(), loaded.grants);
        let mut seat = Seat { jobs, engine, wanted, grants, gone };
        seat.wanted = self.configure(&seat).await?;
        loader.synchronize(self, &seat).await?;
        Ok(Arc::new(seat))
    }

    async fn configure(&self, seat: &Seat) -> Result<wit::Hooks, String> {
        let info = wit::RuntimeInfo {
            name: "wasmpod".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plugin: self.name.clone(),
            deadline_milliseconds: self.config.deadline_ms,
        };
        let settings = serde_json::to_string(&self.config.settings).unwrap_or_default();
        let call = asking(move |instance| {
            Box::pin(async move {
                let hooks = instance.plugin.wasmpod_lifecycle_node_hooks();
                hooks.call_configure(&mut instance.store, &info, &settings).await
            })
        });
        said("configure", self.tell(seat, call).await)
    }

    /// Calls what has to be answered before the plugin is ready.
    pub async fn prepare<T: Send + 'static>(
        &self,
        seat: &Seat,
        call: impl for<'a> FnOnce(&'a mut Instance) -> Answering<'a, Result<T, String>> + Send + 'static,
    ) -> Result<T, String> {
        said("synchronize", self.tell(seat, call).await)
    }

    /// A call that is an instance's own affair.
    async fn tell<T: Send + 'static>(
        &self,
        seat: &Seat,
        call: impl for<'a> FnOnce(&'a mut Instance) -> Answering<'a, T> + Send + 'static,
    ) -> Result<T, Miss> {
        let deadline = Instant::now() + self.config.deadline();
        self.call(seat, deadline, &Arc::new(Mutex::new(Some(call)))).await
    }

    /// Its last call, if it wants to hear of it.
    async fn retire(&self, seat: &Seat) {
        let call = asking(move |instance| {
            Box::pin(async move {
                let hooks = instance.plugin.wasmpod_lifecycle_node_hooks();
                hooks.call_shutdown(&mut instance.store).await
            })
        });
        // One that fails at its very end ends too.
        let _ = self.tell(seat, call).await;
    }

    /// For a daemon that ends in order.
    pub async fn end(&self) {
        let standing = self.standing.send_replace(Standing::Ended);
        if let Standing::Ready(seat) = standing {
            self.retire(&seat).await;
        }
    }
}
