//! The configuration: one TOML file, strict, and the folders and sockets that flags override.

mod exec;
pub mod folders;
mod guests;
mod network;
mod plugins;
mod registry;
mod streaming;
mod telemetry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::cpu_time::CpuControl;
use crate::model::handler::{self, Handler};

pub use exec::ExecConfig;
pub use guests::{GuestsConfig, Permission};
pub use network::{Collection, GuestSockets, Isolation, NetworkConfig, WithoutPlugins};
pub use plugins::{CpusConfig, FailPolicy, PluginConfig, PodHooksConfig};
pub use registry::{RegistryConfig, RegistryHost, RegistryMirror};
pub use streaming::StreamingConfig;
pub use telemetry::{MetricsConfig, TracingConfig};

/// The CRI socket's name in the state folder.
const LISTEN: &str = "wasmpod.sock";

/// Everything a daemon is told. Every field has a default; an unknown key is an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Images, machine code, writable roots, the agent's desired state.
    pub root: PathBuf,
    /// Runtime state: database, shims, agent socket. Best on a tmpfs.
    pub state: PathBuf,
    /// CRI socket of the kubelet's realm.
    pub listen: PathBuf,
    /// RuntimeClass handlers by name, besides the built-in ones.
    pub handlers: BTreeMap<String, Handler>,
    pub shim: ShimConfig,
    pub limits: LimitsConfig,
    pub compile: CompileConfig,
    pub exec: ExecConfig,
    pub guests: GuestsConfig,
    pub agent: AgentConfig,
    /// Which images have to be signed by whom to be pulled (image/signature/policy.rs); without
    /// the file's name none has to.
    pub signature_policy: Option<PathBuf>,
    pub registry: RegistryConfig,
    pub network: NetworkConfig,
    pub streaming: StreamingConfig,
    pub cpus: CpusConfig,
    /// Lifecycle plugins by name.
    pub plugins: BTreeMap<String, PluginConfig>,
    pub pod_hooks: PodHooksConfig,
    pub metrics: MetricsConfig,
    pub tracing: TracingConfig,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShimConfig {
    /// Pods in one shared shim.
    pub max_pods: u32,
    /// By what containers are held to cpu quotas and shares; of shims that begin from now on.
    pub cpu_control: CpuControl,
}

/// Limits of each container.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Open descriptors, sockets included.
    pub descriptors: u32,
    /// Resource handles of a component.
    pub handles: u32,
}

/// Limits of one compile child.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompileConfig {
    /// MiB of address space that is written to.
    pub memory_mib: u64,
    /// Seconds of CPU time, and as many again for every 30 MiB of the wasm file.
    pub seconds: u64,
    /// The wasmpod program to compile with; by default this very one.
    pub program: Option<PathBuf>,
}

/// The pod agent's ways, as a kubelet's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// Milliseconds that the second restart of a crashed container waits; the wait doubles.
    pub back_off_ms: u64,
    /// Milliseconds that no restart waits longer than.
    pub max_back_off_ms: u64,
}

impl AgentConfig {
    pub fn first_wait(&self) -> Duration {
        Duration::from_millis(self.back_off_ms)
    }

    pub fn longest_wait(&self) -> Duration {
        Duration::from_millis(self.max_back_off_ms)
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self { back_off_ms: 10_000, max_back_off_ms: 300_000 }
    }
}

impl Default for ShimConfig {
    fn default() -> Self {
        Self { max_pods: 250, cpu_control: CpuControl::Auto }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { descriptors: 1024, handles: 10_000 }
    }
}

impl Default for CompileConfig {
    fn default() -> Self {
        Self { memory_mib: 4096, seconds: 120, program: None }
    }
}

impl Default for Config {
    /// As root the system's folders, as a user the XDG data and runtime ones.
    fn default() -> Self {
        let (root, state) = if rustix::process::geteuid().is_root() {
            (PathBuf::from("/var/lib/wasmpod"), PathBuf::from("/run/wasmpod"))
        } else {
            user_folders()
        };
        let listen = state.join(LISTEN);
        Self {
            root,
            state,
            listen,
            handlers: BTreeMap::new(),
            shim: ShimConfig::default(),
            limits: LimitsConfig::default(),
            compile: CompileConfig::default(),
            exec: ExecConfig::default(),
            guests: GuestsConfig::default(),
            agent: AgentConfig::default(),
            signature_policy: None,
            registry: RegistryConfig::default(),
            network: NetworkConfig::default(),
            streaming: StreamingConfig::default(),
            cpus: CpusConfig::default(),
            plugins: BTreeMap::new(),
            pod_hooks: PodHooksConfig::default(),
            metrics: MetricsConfig::default(),
            tracing: TracingConfig::default(),
        }
    }
}

/// A user's folder: the XDG variable's, else this one in the home folder.
fn xdg(variable: &str, in_home: &str) -> PathBuf {
    absolute_variable(variable)
        .unwrap_or_else(|| absolute_variable("HOME").unwrap_or_else(|| "/".into()).join(in_home))
}

fn absolute_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The file that is read when none is named.
fn default_file() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        PathBuf::from("/etc/wasmpod/config.toml")
    } else {
        xdg("XDG_CONFIG_HOME", ".config").join("wasmpod/config.toml")
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path)
        .map_err(Error::io(format!("making {:?} an absolute path", path.display())))
}

fn without_scheme(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_prefix("unix://")) {
        Some(rest) => PathBuf::from(rest),
        None => path,
    }
}

/// Reads TOML. The error names the file, the line and the key.
fn parse<T: serde::de::DeserializeOwned>(file: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let place = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(String::new(), |head| format!(" line {}", head.matches('\n').count() + 1));
        Error::Invalid(format!(
            "configuration {}{place}: {}",
            file.display(),
            error.message().replace('\n', " ")
        ))
    })
}

fn user_folders() -> (PathBuf, PathBuf) {
    let data = xdg("XDG_DATA_HOME", ".local/share");
    let state = absolute_variable("XDG_RUNTIME_DIR").map(|runtime| runtime.join("wasmpod"));
    // Right in the shared folder, where nobody can take away what `folders` found safe.
    let state = state.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("wasmpod-{}", rustix::process::geteuid().as_raw()))
    });
    (data.join("wasmpod"), state)
}

/// What flags say instead of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub root: Option<PathBuf>,
    pub state: Option<PathBuf>,
    /// `unix://` in front is taken off.
    pub listen: Option<PathBuf>,
}

/// The keys that the folders' defaults hang on.
#[derive(Deserialize)]
struct Given {
    listen: Option<PathBuf>,
}

impl Config {
    /// The effective configuration: defaults, then `file` (or the default file, where there is
    /// one), then `overrides`. Paths become absolute; a socket that nobody names lies in the
    /// state folder.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Self> {
        let file = match file {
            Some(file) => Some(file.to_path_buf()),
            None => Some(default_file()).filter(|file| file.exists()),
        };
        let (mut config, mut listen) = match &file {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(Error::io(format!("reading configuration {}", file.display())))?;
                let given: Given = parse(file, &text)?;
                (parse(file, &text)?, given.listen)
            }
            None => (Self::default(), None),
        };
        config.root = absolute(overrides.root.unwrap_or(config.root))?;
        config.state = absolute(overrides.state.unwrap_or(config.state))?;
        listen = overrides.listen.or(listen);
        config.listen = match listen {
            Some(path) => absolute(without_scheme(path))?,
            None => config.state.join(LISTEN),
        };
        if config.shim.max_pods == 0 {
            return Err(Error::Invalid(
                "configuration: shim.max_pods = 0 leaves no place for any pod, the least is 1"
                    .to_owned(),
            ));
        }
        config.tracing.check()?;
        Ok(config)
    }

    /// The socket of the agent's realm.
    pub fn agent_socket(&self) -> PathBuf {
        self.state.join("agent.sock")
    }

    /// The handler of that RuntimeClass handler name; "" is the default one.
    pub fn handler(&self, name: &str) -> Option<Handler> {
        let name = if name.is_empty() { handler::DEFAULT } else { name };
        let built_in = || {
            handler::BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, handler)| *handler)
        };
        self.handlers.get(name).copied().or_else(built_in)
    }

    /// Every handler's name, configured and built in, sorted.
    pub fn handler_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.handlers.keys().cloned().collect();
        names.extend(handler::BUILT_IN.iter().map(|(name, _)| (*name).to_owned()));
        names.sort();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, overrides: Overrides) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file), overrides)
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it_and_its_line() {
        let error = load("root = \"/a\"\n\n[shim]\nmax_pod = 3\n", Overrides::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("max_pod") && error.contains("line 4"), "{error}");
    }

    #[test]
    fn a_shim_without_a_place_for_a_pod_is_refused() {
        let error = load("[shim]\nmax_pods = 0\n", Overrides::default()).unwrap_err().to_string();
        assert!(error.contains("shim.max_pods = 0"), "{error}");
    }

    #[test]
    fn the_socket_follows_the_state_folder_unless_it_is_named() {
        let state = Overrides { state: Some("/s".into()), ..Overrides::default() };
        assert_eq!(load("", state.clone()).unwrap().listen, Path::new("/s/wasmpod.sock"));
        let named = "listen = \"unix:///l.sock\"";
        assert_eq!(load(named, state).unwrap().listen, Path::new("/l.sock"));
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let text = toml::to_string(&Config::default()).unwrap();
        let config = load(&text, Overrides::default()).unwrap();
        assert_eq!(toml::to_string(&config).unwrap(), text);
    }
}
