//! A shim as a process: its folder `<state>/shims/<id>/` (shim.sock, shim.log, pid, the exits
//! journal), how it is begun and how it is ended. Knows nothing of pods or records.
//!
//! The daemon binds the listening socket and hands it over as descriptor 0, so that the socket
//! is there before the process, and a connection is refused as soon as the process is gone.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::client::is_gone;
use crate::error::{Error, Result};
use crate::model::cpu_time::CpuControl;
use crate::model::exits::{self, ExitRecord};
use crate::model::ids::ShimId;

/// What a shim is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    /// Sandboxes it takes at most.
    pub max_pods: u32,
    /// By what it holds containers to their CPU time.
    pub cpu_control: CpuControl,
}

/// A shim's folder.
#[derive(Clone, Debug)]
pub struct ShimFolder(PathBuf);

impl ShimFolder {
    /// `folders` is `<state>/shims`.
    pub fn of(folders: &Path, id: &ShimId) -> Self {
        Self(folders.join(id.as_str()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }

    /// Where it listens for sessions.
    pub fn streams(&self) -> PathBuf {
        self.0.join("streams.sock")
    }

    /// How its containers ended, as the shim wrote it down, oldest first.
    pub fn exits(&self) -> Vec<ExitRecord> {
        fs::read(self.0.join(exits::JOURNAL)).map(|text| exits::parse(&text)).unwrap_or_default()
    }

    /// The end of what the shim last said, for an error.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(self.0.join("shim.log")).unwrap_or_default();
        log.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing")
            .to_owned()
    }

    /// Makes the folder and begins the shim in it. The child is to be waited for.
    pub fn begin(&self, program: &Path, orders: Orders) -> Result<Child> {
        let doing = |what: &str| Error::io(format!("{what} of shim folder {}", self.0.display()));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(doing("making"))?;
        let listener = UnixListener::bind(self.socket()).map_err(doing("binding the socket"))?;
        fs::set_permissions(self.socket(), fs::Permissions::from_mode(0o600))
            .map_err(doing("setting the mode of the socket"))?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.0.join("shim.log"))
            .map_err(doing("opening the log"))?;
        let errors = log.try_clone().map_err(doing("opening the log"))?;

        let mut command = Command::new(program);
        command.arg0("wasmpod").arg("shim").arg("--dir").arg(&self.0);
        command.arg("--max-pods").arg(orders.max_pods.to_string());
        command.arg("--cpu-control").arg(orders.cpu_control.name());
        command.env_clear();
        for name in ["PATH", crate::speech::VARIABLE] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.current_dir("/").kill_on_drop(false);
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener))).stdout(log).stderr(errors);
        let child = command
            .spawn()
            .map_err(Error::io(format!("starting a shim with {}", program.display())))?;
        // For people and tests; the daemon asks the shim itself.
        let pid = child.id().unwrap_or_default();
        fs::write(self.0.join("pid"), format!("{pid}\n")).map_err(doing("writing the pid"))?;
        Ok(child)
    }

    /// Kills the process `pid` if it still is this folder's shim.
    pub async fn kill(&self, pid: u32) {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let folder = self.0.as_os_str().as_encoded_bytes();
        let ours = command.split(|byte| *byte == 0).any(|word| word == folder);
        if ours && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may have ended this moment, which is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Waits `polls` times 5 ms at most until no process listens any more; whether none does.
    pub async fn wait_gone(&self, polls: u32) -> bool {
        for _ in 0..polls {
            if is_gone(&self.socket()).await {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        false
    }
}

/// The program that is a shim when told so: this very executable, even when its file was
/// replaced meanwhile by an upgrade.
pub fn own_program() -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let proc = PathBuf::from("/proc/self/exe");
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    match std::env::current_exe() {
        Ok(path) if identity(&path).is_some() && identity(&path) == identity(&proc) => path,
        _ => proc,
    }
}
