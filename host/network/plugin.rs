//! Runs one CNI plugin: its environment, its input, its time, and what of its output is taken.
//! Knows nothing of chains or pods' records.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::group::Groups;
use super::orphans::Owner;
use super::result;
use super::version::Version;
use crate::config::NetworkConfig;
use crate::error::{Error, Result};

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

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        })
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
mod tests {
    use super::*;

    struct Kit {
        folder: tempfile::TempDir,
        plugins: Plugins,
    }

    /// A plugin "p" that is this shell script, given a second.
    fn kit(script: &str) -> Kit {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = NetworkConfig {
            bin_dirs: vec!["/nowhere".into(), folder.path().into()],
            plugin_seconds: 1,
            status_seconds: 1,
            ..NetworkConfig::default()
        };
        Kit { folder, plugins: Plugins::new(&config, Owner::new("/n".into())) }
    }

    impl Kit {
        async fn call(&self, kind: &str) -> Result<String> {
            let call = Call {
                verb: Verb::Add,
                network: "n",
                kind,
                environment: vec![("CNI_CONTAINERID", "abc".to_owned())],
                input: b"{\"a\": 1}".to_vec(),
            };
            // A script that another test's child still holds open for writing is "busy".
            for _ in 0..50 {
                match self.plugins.call(&call).await {
                    Err(error) if error.to_string().contains("busy") => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    other => return other.map(|out| String::from_utf8(out).unwrap()),
                }
            }
            panic!("busy for ever")
        }

        async fn fails(&self) -> String {
            self.call("p").await.unwrap_err().to_string()
        }
    }

    #[tokio::test]
    async fn a_plugin_has_its_environment_and_its_input() {
        let kit = kit("echo \"$CNI_COMMAND $CNI_CONTAINERID $CNI_PATH $(cat)\"; echo no >&2");
        let said = kit.call("p").await.unwrap();
        let folders = format!("/nowhere:{}", kit.folder.path().display());
        assert_eq!(said, format!("ADD abc {folders} {{\"a\": 1}}\n"));
    }

    #[tokio::test]
    async fn every_failure_is_a_sentence_that_names_plugin_and_network() {
        let begin = "CNI plugin p of network n: ADD ";
        let failed = kit("cat; echo '{\"code\": 7, \"msg\": \"no bridge\"}'; exit 1").fails().await;
        assert!(
            failed.starts_with(&format!("{begin}failed: ended with exit status: 1")),
            "{failed}"
        );
        let failed = kit("echo '{\"code\": 7, \"msg\": \"no bridge\"}'; exit 1").fails().await;
        assert_eq!(failed, format!("{begin}failed: no bridge (code 7)"));
        let failed = kit("exit 1").fails().await;
        assert_eq!(failed, format!("{begin}failed: ended with exit status: 1 and said nothing"));
        let failed = kit("kill -9 $$").fails().await;
        assert!(failed.contains("signal: 9"), "{failed}");
        let failed = kit("cat /dev/zero").fails().await;
        assert!(failed.contains("printed more than 1048576 bytes"), "{failed}");
        let failed = kit("").call("q").await.unwrap_err().to_string();
        assert!(failed.contains("CNI plugin q of network n is in none of /nowhere, "), "{failed}");
    }

    const HANGS: &str = "sleep 1000 & echo $! > \"$(dirname \"$0\")/new\"\n\
         mv \"$(dirname \"$0\")/new\" \"$(dirname \"$0\")/child\"; wait";

    impl Kit {
        /// /proc's line about what the plugin [`HANGS`] began; `None` when that has ended.
        fn child(&self) -> Option<String> {
            let child = std::fs::read_to_string(self.folder.path().join("child")).ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).ok()?;
            Some(stat).filter(|stat| !stat.contains(") Z "))
        }

        async fn until(&self, is_there: impl Fn(Option<String>) -> bool) {
            for _ in 0..1000 {
                if is_there(self.child()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("what the plugin began: {:?}", self.child());
        }
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_what_it_began() {
        let kit = kit(HANGS);
        let failed = kit.fails().await;
        assert!(failed.contains("ADD took longer than 1 s and was killed"), "{failed}");
        kit.until(|child| child.is_none()).await;
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_and_the_daemons_end_take_the_plugin_along() {
        let mut kit = kit(HANGS);
        kit.plugins.limit = Duration::from_secs(1000);
        tokio::select! {
            _ = kit.fails() => panic!("it hangs"),
            () = kit.until(|child| child.is_some()) => {}
        }
        kit.until(|child| child.is_none()).await;
        let (failed, ()) = tokio::join!(kit.fails(), async {
            kit.until(|child| child.is_some()).await;
            kit.plugins.end();
        });
        assert!(failed.contains("signal: 9"), "{failed}");
        kit.until(|child| child.is_none()).await;
        let failed = kit.fails().await;
        assert!(failed.contains("the daemon is ending"), "{failed}");
    }

    #[tokio::test]
    async fn versions_are_asked_once() {
        let kit = kit("echo x >> \"$(dirname \"$0\")/calls\"\n\
             echo '{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [\"0.1.0\", \"0.4.0\", \"1.1.0\"]}'");
        let _ = kit.call("p").await;
        for _ in 0..3 {
            let versions = kit.plugins.versions("n", "p").await.unwrap();
            assert_eq!(versions, [Version::V040, Version::V110]);
        }
        let calls = std::fs::read_to_string(kit.folder.path().join("calls")).unwrap();
        assert_eq!(calls.lines().count(), 2);
    }
}
