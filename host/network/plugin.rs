//! Runs one CNI plugin: its environment, its input, its time, and what of its output is taken.
//! Knows nothing of chains or pods' records.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::group::Groups;
use super::orphans::Owner;
use super::result;
use super::version::Version;
use crate::config::NetworkConfig;
use crate::error::{Error, Result};
use crate::telemetry::metrics;
use crate::telemetry::trace::phase;

/// A result is not longer; host networks with thousands of routes stay below it.
const STDOUT_MOST: usize = 1 << 20;
/// The rest is read and dropped.
const STDERR_MOST: usize = 64 << 10;
/// For a killed plugin to be gone; one in a system call that nothing ends is left behind.
const REAPING: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Add,
    Check,
    Del,
    Gc,
    Status,
    Version,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One call of a plugin.
#[derive(Debug)]
pub struct Call<'a> {
    pub verb: Verb,
    /// For messages.
    pub network: &'a str,
    /// The plugin's file name.
    pub kind: &'a str,
    /// CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS, as far as the verb has them.
    pub environment: Vec<(&'static str, String)>,
    pub input: Vec<u8>,
}

impl Call<'_> {
    fn fault(&self, what: impl fmt::Display) -> Error {
        Error::Network(format!(
            "CNI plugin {} of network {}: {} {what}",
            self.kind, self.network, self.verb
        ))
    }
}

pub struct Plugins {
    folders: Vec<PathBuf>,
    limit: Duration,
    status_limit: Duration,
    owner: Owner,
    groups: Arc<Groups>,
    versions: Mutex<HashMap<PathBuf, Known>>,
}

/// What a plugin's VERSION said, and of which state of its file.
#[derive(Clone)]
struct Known {
    file: (u64, Option<SystemTime>),
    versions: Vec<Version>,
}

impl Plugins {
    pub fn new(config: &NetworkConfig, owner: Owner) -> Self {
        Self {
            folders: config.bin_dirs.clone(),
            limit: config.plugin_limit(),
            status_limit: config.status_limit(),
            owner,
            groups: Arc::default(),
            versions: Mutex::default(),
        }
    }

    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Where plugins are looked for.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Ends every call, and lets no other begin.
    pub fn end(&self) {
        self.groups.end();
    }

    /// The plugin's file, in the first folder that has it.
    pub fn find(&self, network: &str, kind: &str) -> Result<PathBuf> {
        let found = self.folders.iter().map(|folder| folder.join(kind)).find(|path| path.is_file());
        found.ok_or_else(|| {
            let folders: Vec<_> =
                self.folders.iter().map(|folder| folder.display().to_string()).collect();
            Error::Network(format!(
                "CNI plugin {kind} of network {network} is in none of {}: install it, or name \
                 its folder in network.bin_dirs",
                folders.join(", ")
            ))
        })
    }

    /// The versions that a plugin speaks, asked once for each state of its file.
    pub async fn versions(&self, network: &str, kind: &str) -> Result<Vec<Version>> {
        let path = self.find(network, kind)?;
        let file = state_of(&path);
        let known =
            self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
        if let Some(known) = known.filter(|known| known.file == file) {
            return Ok(known.versions);
        }
        let input = format!("{{\"cniVersion\": \"{}\"}}", Version::V100.text());
        let call = Call {
            verb: Verb::Version,
            network,
            kind,
            // Plugins of the first versions want these for every verb.
            environment: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]
                .map(|name| (name, "none".to_owned()))
                .to_vec(),
            input: input.into_bytes(),
        };
        let output = self.call(&call).await?;
        let versions = result::supported(&output).map_err(|why| call.fault(why))?;
        let known = Known { file, versions: versions.clone() };
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(path, known);
        Ok(versions)
    }

    /// Runs a plugin to its end and gives its standard output; every failure is one sentence
    /// that names plugin, network and verb. One that takes longer than it may is killed with
    /// the processes that it began.
    pub async fn call(&self, call: &Call<'_>) -> Result<Vec<u8>> {
        let (begun, verb) = (Instant::now(), call.verb.name());
        let told = [("cni.plugin", call.kind), ("cni.verb", verb), ("cni.network", call.network)];
        let outcome = phase("cni", &told, self.run(call)).await;
        metrics().plugin((call.kind, verb), &outcome, begun.elapsed());
        outcome
    }

    async fn run(&self, call: &Call<'_>) -> Result<Vec<u8>> {
        let path = self.find(call.network, call.kind)?;
        let limit = match call.verb {
            Verb::Status | Verb::Version => self.status_limit,
            _ => self.limit,
        };
        let (mut child, group) = self
            .groups
            .spawn(&mut self.command(call, &path)?)
            .map_err(|error| call.fault(format!("cannot be run ({}): {error}", path.display())))?;
        let heard = tokio::time::timeout(limit, hear(&mut child, &call.input)).await;
        let why = match heard {
            Ok(Ok((status, stdout, stderr))) if status.success() => {
                group.forget();
                if !stderr.is_empty() {
                    tracing::debug!(plugin = call.kind, said = result::brief(&stderr), "CNI");
                }
                return Ok(stdout);
            }
            Ok(Ok((status, stdout, stderr))) => {
                group.forget();
                let why = result::failure(&stdout, &stderr, &status.to_string());
                return Err(call.fault(format!("failed: {why}")));
            }
            Ok(Err(why)) => call.fault(why),
            Err(_) => Error::DeadlineExceeded(
                call.fault(format!("took longer than {} s and was killed", limit.as_secs()))
                    .to_string(),
            ),
        };
        drop(group);
        if tokio::time::timeout(REAPING, child.wait()).await.is_err() {
            tracing::warn!(plugin = call.kind, "a killed CNI plugin does not end");
        }
        Err(why)
    }

    fn command(&self, call: &Call<'_>, path: &Path) -> Result<Command> {
        let folders = std::env::join_paths(&self.folders)
            .map_err(|error| Error::Invalid(format!("network.bin_dirs: {error}")))?;
        let mut command = Command::new(path);
        command
            .env("CNI_COMMAND", call.verb.to_string())
            .env("CNI_PATH", folders)
            .envs(call.environment.iter().map(|(name, value)| (name, value)))
            .envs([self.owner.mark()])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }
}

fn state_of(path: &Path) -> (u64, Option<SystemTime>) {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or((0, None), |found| (found.ino(), found.modified().ok()))
}

/// Gives the plugin its input and takes what it says, until it has closed both outputs and
/// ended. The error continues "ADD ...".
async fn hear(child: &mut Child, input: &[u8]) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), String> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let tell = async move {
        if let Some(mut stdin) = stdin {
            // One that does not read its input may still answer.
            let _ = stdin.write_all(input).await;
        }
        Ok(())
    };
    let ((), stdout, stderr) =
        tokio::try_join!(tell, whole(stdout), async { Ok(head(stderr).await) })?;
    let status = child.wait().await.map_err(|error| format!("cannot be waited for: {error}"))?;
    Ok((status, stdout, stderr))
}

async fn whole(from: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, String> {
    let mut read = Vec::new();
    let Some(from) = from else { return Ok(read) };
    let most = u64::try_from(STDOUT_MOST).unwrap_or(u64::MAX);
    from.take(most + 1)
        .read_to_end(&mut read)
        .await
        .map_err(|error| format!("cannot be read: {error}"))?;
    if read.len() > STDOUT_MOST {
        return Err(format!("printed more than {STDOUT_MOST} bytes and was killed"));
    }
    Ok(read)
}

async fn head(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut read = Vec::new();
    let Some(mut from) = from else { return read };
    let mut part = [0u8; 4096];
    while let Ok(count @ 1..) = from.read(&mut part).await {
        let room = STDERR_MOST.saturating_sub(read.len()).min(count);
        read.extend_from_slice(part.get(..room).unwrap_or_default());
    }
    read
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
