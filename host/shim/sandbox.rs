//! A sandbox: what a pod's containers share, and the thread with the pod's own Store, in the
//! pod's network namespace and on its CPUs. Knows no container.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use tokio::sync::{oneshot, watch};
use wasmtime::Engine;

use super::cpu::{self, Threads};
use super::hooks::{Home, Hooks, HooksSpec};
use super::ledger::Budget;
use super::lock;
use super::loopback::Loopback;
use super::pinning::Pinning;
use super::ports::{self, PortsSpec, Proxy};
use super::processes::Table;
use super::traffic::{self, Interface};
use crate::engine::THREAD_STACK;
use crate::error::{Error, Result};
use crate::model::cpuset::CpuSet;
use crate::model::ids::SandboxId;
use crate::model::sockets::Protocol;
use crate::netns;

/// What CreateSandbox asked for.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    pub id: SandboxId,
    pub network: NetworkMode,
    /// A layer above every container's image.
    pub etc_layer: Option<PathBuf>,
    /// `None` leaves the shim's own. Those that it begins with, as `memory`.
    pub cpus: Option<CpuSet>,
    /// Bytes for all containers together; `u64::MAX` sets no limit.
    pub memory: u64,
    pub ports: PortsSpec,
    pub hooks: Option<HooksSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    Host,
    /// A namespace that the sandbox makes, with loopback alone; as [`NetworkMode::Virtual`] where
    /// that is not permitted.
    Own,
    /// The host's, in which the sandbox has an address of its own of the loopback network.
    Virtual,
    /// The namespace of that file, which somebody else made and furnished.
    Given(PathBuf),
}

pub struct Sandbox {
    pub spec: SandboxSpec,
    pub memory: Arc<Budget>,
    pub cpus: Arc<Pinning>,
    /// Its own thread's CPU time and that of containers which were removed.
    pub threads: Threads,
    pub processes: Table,
    stopping: AtomicBool,
    /// Held until the sandbox has stopped, then the namespace goes.
    namespace: Mutex<Option<Arc<OwnedFd>>>,
    own_network: OnceLock<bool>,
    /// The sandbox's thread.
    tid: OnceLock<i32>,
    /// Of one that has no namespace of its own and is not on the host's network.
    loopback: OnceLock<Arc<Loopback>>,
    /// Serves its ports on the host, where it has any.
    proxy: Mutex<Option<Proxy>>,
    /// Dropped to end the thread.
    work: Mutex<Option<mpsc::Sender<Work>>>,
    ended: watch::Sender<bool>,
}

/// Something for the sandbox's thread to do with its Store.
pub type Work = Box<dyn FnOnce(&mut Home) + Send>;

impl Sandbox {
    /// Starts the sandbox's thread; returns once it stands in its namespace and on its CPUs, and
    /// its ports are open. The calling thread stands in the host's namespace.
    pub async fn start(
        engine: &Engine,
        spec: SandboxSpec,
        hooks: Option<Hooks>,
    ) -> Result<Arc<Self>> {
        // First: who asks for a port that is in use is told so at once.
        let bound = ports::bind(&spec.ports.ports)?;
        let (sender, work) = mpsc::channel();
        let sandbox = Arc::new(Self {
            memory: Arc::new(Budget::new(spec.memory)),
            cpus: Arc::new(Pinning::new(spec.cpus.clone())),
            threads: Threads::default(),
            processes: Table::default(),
            stopping: AtomicBool::new(false),
            namespace: Mutex::new(None),
            own_network: OnceLock::new(),
            tid: OnceLock::new(),
            loopback: OnceLock::new(),
            proxy: Mutex::new(None),
            work: Mutex::new(Some(sender)),
            ended: watch::Sender::new(false),
            spec,
        });
        let (ready, is_ready) = oneshot::channel();
        let (own, engine) = (sandbox.clone(), engine.clone());
        std::thread::Builder::new()
            .name(thread_name('s', sandbox.spec.id.as_str()))
            .stack_size(THREAD_STACK)
            .spawn(move || own.live((&engine, hooks), ready, &work))
            .map_err(|error| Error::Exhausted(format!("starting a sandbox's thread: {error}")))?;
        is_ready.await.unwrap_or_else(|_| {
            Err(Error::Internal("a sandbox's thread ended early".to_owned()))
        })?;
        if !bound.is_empty() {
            match Proxy::start(sandbox.clone(), bound).await {
                Ok(proxy) => *lock(&sandbox.proxy) = Some(proxy),
                Err(error) => {
                    sandbox.end().await;
                    return Err(error);
                }
            }
        }
        Ok(sandbox)
    }

    fn live(
        self: Arc<Self>,
        (engine, hooks): (&Engine, Option<Hooks>),
        ready: oneshot::Sender<Result<()>>,
        work: &mpsc::Receiver<Work>,
    ) {
        let settled = {
            let _counted = self.threads.enter();
            let home = self.settle().and_then(|()| Home::new(engine, self.clone(), hooks));
            let (settled, home) = match home {
                Ok(home) => (Ok(()), Some(home)),
                Err(error) => (Err(error), None),
            };
            // The caller may have gone: then the registry stops this sandbox.
            let _ = ready.send(settled);
            let is_settled = home.is_some();
            if let Some(mut home) = home {
                while let Ok(work) = work.recv() {
                    work(&mut home);
                }
            }
            is_settled
        };
        tracing::debug!(sandbox = %self.spec.id, settled, "sandbox thread ends");
        self.ended.send_replace(true);
    }

    fn settle(&self) -> Result<()> {
        let namespace = match &self.spec.network {
            NetworkMode::Own => netns::make()?,
            NetworkMode::Given(path) => Some(netns::enter(path)?),
            NetworkMode::Host | NetworkMode::Virtual => None,
        };
        if namespace.is_none() && self.spec.network != NetworkMode::Host {
            let _ = self.loopback.set(Arc::new(Loopback::claim()?));
        }
        let _ = self.own_network.set(namespace.is_some());
        let _ = self.tid.set(rustix::thread::gettid().as_raw_nonzero().get());
        *lock(&self.namespace) = namespace.map(Arc::new);
        self.cpus.with_pods(|cpus| cpus.map_or(Ok(()), cpu::pin_self))
    }

    /// Has the sandbox's thread do something, after what was asked before.
    pub fn work(&self, work: Work) -> Result<()> {
        let stopped = || Error::Precondition(format!("sandbox {} is stopped", self.spec.id));
        let sender = lock(&self.work).clone().ok_or_else(stopped)?;
        sender.send(work).map_err(|_| stopped())
    }

    /// Moves the calling thread into the sandbox's network namespace.
    pub fn join(&self) -> Result<()> {
        if !self.has_own_network() {
            return Ok(());
        }
        let namespace = lock(&self.namespace).clone();
        match namespace {
            Some(namespace) => netns::join(&namespace),
            None => Err(Error::Precondition(format!("sandbox {} is stopped", self.spec.id))),
        }
    }

    /// A container has CPUs of its pod's alone.
    pub fn allows(&self, cpus: Option<&CpuSet>) -> Result<()> {
        self.cpus.with_pods(|own| {
            let (Some(own), Some(cpus)) = (own, cpus) else { return Ok(()) };
            match cpus.iter().find(|&cpu| !own.contains(cpu)) {
                Some(absent) => Err(Error::Invalid(format!(
                    "cpu list {cpus} names CPU {absent}, the pod has {own}"
                ))),
                None => Ok(()),
            }
        })
    }

    pub fn loopback(&self) -> Option<Arc<Loopback>> {
        self.loopback.get().cloned()
    }

    /// Where in the calling thread's namespace, once it has joined the sandbox's, the pod's server
    /// is that listens on `known`, 127.0.0.1 or ::1 with a port; `None`: nowhere.
    pub fn server(&self, protocol: Protocol, known: SocketAddr) -> Option<SocketAddr> {
        match self.loopback.get() {
            Some(own) => own.server(protocol, known),
            None => Some(known),
        }
    }

    /// Whether an own network namespace was asked for and could be made.
    pub fn has_own_network(&self) -> bool {
        self.own_network.get().copied().unwrap_or(false)
    }

    /// What its network namespace's interfaces carried; none where it has no namespace.
    pub fn traffic(&self) -> Vec<Interface> {
        let Some(tid) = self.tid.get().filter(|_| self.has_own_network()) else {
            return Vec::new();
        };
        let interfaces = traffic::of_thread(*tid);
        // The number of a thread that has ended may be another one's.
        if self.is_ended() { Vec::new() } else { interfaces }
    }

    /// No container may be added from now on.
    pub fn close(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn is_closed(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Whether a thread of its own serves its ports.
    pub fn has_proxy(&self) -> bool {
        lock(&self.proxy).is_some()
    }

    /// Ends the threads, gives its ports back and lets the network namespace go. Its containers
    /// have ended before.
    pub async fn end(&self) {
        let proxy = lock(&self.proxy).take();
        if let Some(proxy) = proxy {
            proxy.end().await;
        }
        drop(lock(&self.work).take());
        let mut ended = self.ended.subscribe();
        // The sender lives in self, so waiting ends by the thread's end alone.
        let _ = ended.wait_for(|ended| *ended).await;
        drop(lock(&self.namespace).take());
    }
}

/// A thread's name within the kernel's 15 bytes: what it runs and the short id.
pub fn thread_name(what: char, id: &str) -> String {
    format!("{what}-{}", id.get(..12).unwrap_or(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(network: NetworkMode, cpus: Option<CpuSet>) -> SandboxSpec {
        let (id, ports) = (SandboxId::random(), PortsSpec::default());
        let memory = u64::MAX;
        SandboxSpec { id, network, etc_layer: None, cpus, memory, ports, hooks: None }
    }

    #[tokio::test]
    async fn a_sandbox_ends_when_told_and_lets_its_namespace_go() {
        let engine = crate::engine::new().expect("an engine");
        let sandbox =
            Sandbox::start(&engine, spec(NetworkMode::Own, None), None).await.expect("starts");
        assert_eq!(sandbox.threads.count(), 1);
        sandbox.end().await;
        assert!(sandbox.is_ended());
        assert_eq!(sandbox.threads.count(), 0);
        assert_eq!(sandbox.join().is_err(), sandbox.has_own_network());
    }

    #[tokio::test]
    async fn a_sandbox_thread_works_on_its_cpus() {
        let engine = crate::engine::new().expect("an engine");
        let last: CpuSet = cpu::own().iter().last().into_iter().collect();
        let asked = spec(NetworkMode::Host, Some(last.clone()));
        let sandbox = Sandbox::start(&engine, asked, None).await.expect("starts");
        let (told, tells) = oneshot::channel();
        let work: Work = Box::new(move |_| told.send(cpu::own()).expect("somebody listens"));
        sandbox.work(work).expect("it works");
        assert_eq!(tells.await.expect("it answers"), last);
        sandbox.end().await;
    }
}
