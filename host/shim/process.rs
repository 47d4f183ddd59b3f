//! The shim process from its start to its end. It outlives the daemon that started it: the
//! socket it serves comes from there already listening, and whoever holds the path may connect.
#![allow(unsafe_code)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::mount::UnmountFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;
use tonic::transport::Server as Transport;
use wasmtime::Engine;

use super::connections::LONELY;
use super::cpu::Means;
use super::exits::Exits;
use super::host::Host;
use super::memories::Memories;
use super::programs::Programs;
use super::registry::Registry;
use super::server::Server;
use super::stacks::Stacks;
use super::ticker::Ticker;
use super::wasi::fs::Devices;
use super::{connections, cpu, kill, mounts, namespace, streaming};
use crate::engine::{Engines, Purpose};
use crate::error::{Error, Result};
use crate::model::cpu_time::CpuControl;
use crate::proto::shim::shim_server::ShimServer;

/// Bytes of one message: an exec's two outputs of 16 MiB and room around them.
const MAX_MESSAGE: usize = 64 << 20;
/// Calls that the daemon may have under way at once.
const MAX_STREAMS: u32 = 10_000;

/// How long calls that are under way may take once the shim is to end.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// What the daemon decides about a shim.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sandboxes it takes at most.
    pub max_pods: u32,
    /// By what it holds containers to their CPU time.
    pub cpu_control: CpuControl,
}

/// Serves on the listening unix socket that is standard input until told to end, or until
/// nobody needs it. `dir` is the shim's own folder; it is removed at the end.
pub fn main(dir: &Path, options: Options) -> Result<()> {
    let dir = std::fs::canonicalize(dir)
        .map_err(Error::io(format!("opening the shim's folder {}", dir.display())))?;
    let listener = take_listener()?;
    // The daemon points standard error at the shim's log file.
    crate::speech::to_stderr();
    // What guests make has the mode that Kubernetes' volumes count on, whoever began the daemon.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Guests have the user that the shim has and nothing besides: what ContainerStatus tells.
    if rustix::process::geteuid().is_root()
        && let Err(error) = rustix::thread::set_thread_groups(&[])
    {
        tracing::warn!(%error, "the shim keeps the daemon's supplemental groups");
    }
    // A session of its own, so that no terminal's signal reaches it; a session leader has one.
    let _ = rustix::process::setsid();
    raise_descriptor_limit();
    share_heaps();
    let host = Arc::new(prepare(&dir, options.cpu_control)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("starting the shim's runtime"))?;
    let registry = Arc::new(Registry::new(host));
    let sessions = streaming::listen(&dir)?;
    runtime.block_on(async {
        tokio::select! {
            served = serve(registry.clone(), listener, options) => served,
            served = streaming::serve(registry, sessions) => served,
        }
    })?;
    runtime.shutdown_background();
    tidy(&dir);
    Ok(())
}

/// Everything that has to be there before the first thread is.
pub(super) fn prepare(dir: &Path, cpu_control: CpuControl) -> Result<Host> {
    let privilege = namespace::enter()?;
    let folder = |name: &str| -> Result<PathBuf> {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).map_err(Error::io(format!("making {}", path.display())))?;
        Ok(path)
    };
    let (dev, roots) = (folder("dev")?, folder("roots")?);
    mounts::mount_tmpfs(&dev)?;
    let devices = Devices::make(&dev).map_err(Error::io("making the devices"))?;
    kill::install_wake_signal();
    cpu::install_beat_signal();
    let engines = engines()
        .map_err(|error| Error::Internal(format!("this machine cannot run wasm: {error:#}")))?;
    Ok(Host {
        programs: Programs::new(engines.clone()),
        means: Means::new(cpu_control, &engines),
        ticker: Ticker::new(engines.clone()),
        engines,
        exits: Arc::new(Exits::open(dir)?),
        devices: Arc::new(devices),
        privilege,
        dev,
        roots,
    })
}

fn engines() -> wasmtime::Result<Engines> {
    let mut mapped = crate::engine::config(Purpose::Mapped);
    mapped.with_host_stack(Arc::new(Stacks));
    let mut copied = crate::engine::config(Purpose::Copied);
    copied.with_host_stack(Arc::new(Stacks)).with_host_memory(Arc::new(Memories));
    Ok(Engines { mapped: Engine::new(&mapped)?, copied: Engine::new(&copied)? })
}

pub(super) async fn serve(
    registry: Arc<Registry>,
    listener: UnixListener,
    options: Options,
) -> Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)
        .map_err(Error::io("taking over the listening socket"))?;
    let closing = watch::Sender::new(false);
    let count = watch::Sender::new(0);
    let lonely = connections::lonely(LONELY, count.subscribe(), registry.sandbox_count());
    let host = registry.host.clone();
    let server = Server::new(registry, options.max_pods, closing.clone());
    let service = ShimServer::new(server)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let mut told = closing.subscribe();
    let end = async {
        tokio::select! {
            () = lonely => tracing::info!("ends: no sandbox and no connection"),
            // The sender lives in this function.
            _ = told.wait_for(|closing| *closing) => tracing::info!("ends: told so"),
        }
        closing.send_replace(true);
    };
    let mut over = closing.subscribe();
    let incoming = connections::incoming(listener, count);
    let serving = Transport::builder()
        // One connection carries all of the daemon's calls, patient stops and execs among them.
        .max_concurrent_streams(Some(MAX_STREAMS))
        .serve_with_incoming_shutdown(service, incoming, end);
    tokio::select! {
        () = host.programs.let_go() => Ok(()),
        served = serving => {
            served.map_err(|error| Error::Internal(format!("serving the shim's socket: {error}")))
        }
        () = async {
            let _ = over.wait_for(|closing| *closing).await;
            tokio::time::sleep(LAST_CALLS).await;
        } => Ok(()),
    }
}

/// Takes standard input over as what it is, a listening socket, and leaves /dev/null there.
fn take_listener() -> Result<UnixListener> {
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(Error::sys("taking the listening socket from standard input"))?;
    let null = std::fs::File::open("/dev/null").map_err(Error::io("opening /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(Error::sys("closing standard input"))?;
    let listening = rustix::net::sockopt::socket_acceptconn(&socket)
        .map_err(Error::sys("standard input has to be a listening unix socket"))?;
    if !listening {
        return Err(Error::Invalid("standard input is a socket that does not listen".to_owned()));
    }
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true).map_err(Error::io("setting the listening socket up"))?;
    Ok(listener)
}

fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the descriptor limit");
    }
}

/// A heap per thread would cost every idle pod tens of kilobytes.
fn share_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes plain numbers; no other thread is there yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// The namespace's mounts go with the process; the folder goes now.
fn tidy(dir: &Path) {
    let _ = rustix::mount::unmount(dir.join("dev"), UnmountFlags::DETACH);
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "cannot remove the shim's folder");
    }
}
