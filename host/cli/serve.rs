//! `wasmpod serve`: the daemon's flags, its folders and lock, its log, its signals.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use rustix::fs::FlockOperation;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::agent::Agent;
use crate::config::{Config, Overrides, folders};
use crate::cri::server::{self, Socket};
use crate::cri::streaming::Streaming;
use crate::error::{Error, Result};
use crate::image::ImageStore;
use crate::model::sandbox::Realm;
use crate::runtime::{Filter, Runtime};
use crate::telemetry::exposition;
use crate::telemetry::trace::Tracing;

/// How long running calls may take to finish after SIGTERM.
const LAST_CALLS: Duration = Duration::from_secs(10);
/// How long a private daemon waits for the next pod.
const IDLE: Duration = Duration::from_secs(30);

/// Run the daemon: CRI on a unix socket.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// End by itself when no pod has been there for a while: what `wasmpod run` starts.
    #[arg(long, hide = true)]
    until_idle: bool,
}

/// What says which configuration is used.
#[derive(Debug, Args)]
pub struct Settings {
    /// Configuration file; else the default one, where it exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of images, machine code and writable roots.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Folder of the runtime state.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// CRI socket of the kubelet's pods; follows --state unless told.
    #[arg(long, value_name = "SOCKET")]
    listen: Option<PathBuf>,
}

impl Settings {
    pub fn config(self) -> Result<Config> {
        let overrides = Overrides { root: self.root, state: self.state, listen: self.listen };
        Config::load(self.config.as_deref(), overrides)
    }
}

impl Serve {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let life = if self.until_idle { Life::UntilIdle } else { Life::UntilStopped };
        let config = self.settings.config()?;
        crate::speech::to_stderr();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers())
            .enable_all()
            .build()
            .context("starting the async runtime")?;
        let outcome = runtime.block_on(serve(config, life));
        // What still runs is either durable already or undone at the next start.
        runtime.shutdown_background();
        outcome?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Threads that move messages, which is all that the daemon does on them: a second one on a small
/// machine mostly wakes the first (measured: 8 clients make 490 pods a second with one on two
/// CPUs, 410 with two).
fn workers() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    (cpus / 2).clamp(1, 4)
}

/// When the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    UntilStopped,
    UntilIdle,
}

async fn serve(config: Config, life: Life) -> anyhow::Result<()> {
    folders::make_root(&config.root)?;
    folders::make_state(&config.state)?;
    if let Some(parent) = config.listen.parent() {
        folders::make(parent)?;
    }
    let _lock = lock(&config.state)?;
    // Bound before the state is put right, so that clients wait instead of being refused.
    let listen = Socket::bind(&config.listen)?;
    let agent = Socket::bind(&config.agent_socket())?;
    let end = watch::Sender::new(false);
    let mut stop = end.subscribe();
    signals(end.clone())?;

    let (pods, records) = Agent::open(&config)?;
    let images = ImageStore::open(&config).await?;
    let traces = Tracing::start(&config.tracing)?;
    let runtime = Runtime::open(config, images.into()).await?;
    let streaming = Streaming::start(runtime.clone()).await?;
    if let Some(address) = runtime.config().metrics.listen {
        let counted = runtime.clone();
        let bound = exposition::start(address, move || counted.census()).await?;
        tracing::info!("metrics on http://{bound}/metrics");
    }
    tracing::info!(
        "serving CRI on unix://{}, agent on unix://{}",
        listen.path().display(),
        agent.path().display()
    );

    pods.start(records).await;
    if life == Life::UntilIdle {
        tokio::spawn(idle(pods.clone(), runtime.clone(), end.clone()));
    }

    let stopped = |mut stop: watch::Receiver<bool>| async move {
        // An error means that nobody can send any more, which is as good as a stop.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let serving = futures::future::try_join(
        listen.serve(
            server::services(runtime.clone(), Realm::Kubelet, &streaming).with(pods.service()),
            stopped(stop.clone()),
        ),
        agent.serve(
            server::services(runtime.clone(), Realm::Agent, &streaming).with(pods.service()),
            stopped(stop.clone()),
        ),
    );
    let overtime = async {
        let _ = stop.wait_for(|stop| *stop).await;
        pods.end_streams();
        tokio::time::sleep(LAST_CALLS).await;
    };
    tokio::select! {
        served = serving => drop(served?),
        () = overtime => tracing::warn!("some calls did not finish in time"),
    }
    tracing::info!("stopping; pods live on");
    runtime.close().await;
    if let Some(traces) = traces {
        traces.end().await;
    }
    Ok(())
}

/// Sets `end` once no pod and no call of the agent has been there for [`IDLE`].
async fn idle(agent: Arc<Agent>, runtime: Arc<Runtime>, end: watch::Sender<bool>) {
    let mut business = agent.business();
    loop {
        // The agent lives as long as this task does.
        let _ = business.wait_for(|count| *count == 0).await;
        tokio::select! {
            _ = business.changed() => continue,
            () = tokio::time::sleep(IDLE) => {}
        }
        // Pods that somebody made over CRI keep the daemon as well.
        if runtime.sandboxes(&Filter::default()).is_empty() {
            tracing::info!("no pod is left");
            end.send_replace(true);
            return;
        }
    }
}

/// Sets `end` at the first SIGTERM or SIGINT.
fn signals(end: watch::Sender<bool>) -> Result<()> {
    let on = |kind| signal(kind).map_err(Error::io("listening for signals"));
    let (mut term, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        end.send_replace(true);
    });
    Ok(())
}

/// Holds the state folder for as long as the file is open.
fn lock(state: &Path) -> Result<File> {
    let path = state.join("daemon.lock");
    let doing = || format!("locking {}", path.display());
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(Error::io(doing()))?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(Error::sys(doing())(error)),
        }
    }
    Err(Error::Precondition(format!(
        "another daemon already uses the state folder {}",
        state.display()
    )))
}

/// How long the remains of a daemon that was just killed may hold the lock.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_has_one_daemon() {
        let state = tempfile::tempdir().unwrap();
        let held = lock(state.path()).unwrap();
        let error = lock(state.path()).unwrap_err().to_string();
        assert!(error.contains("another daemon"), "{error}");
        drop(held);
        lock(state.path()).unwrap();
    }
}
