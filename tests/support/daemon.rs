//! A `wasmpod serve` of a test's own, on folders of its own.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};

use tempfile::TempDir;
use tonic::transport::Channel;
use wasmpod::cri::client::{MAX_MESSAGE, connect};
use wasmpod::proto::cri;
use wasmpod::proto::cri::image_service_client::ImageServiceClient;
use wasmpod::proto::cri::runtime_service_client::RuntimeServiceClient;
use wasmpod::proto::pod::pod_agent_client::PodAgentClient;

use super::pods::Pod;
use super::user::User;
use super::{cleanup, eventually, eventually_async, guest};

/// Dropping it ends everything that it began: pods, shims, mounts, folders.
pub struct Daemon {
    /// Configuration, root, logs; and the state, on a tmpfs where there is one, as on a node.
    folders: Vec<TempDir>,
    path: PathBuf,
    state: PathBuf,
    user: User,
    child: Option<Child>,
    channel: Channel,
    agent: Channel,
}

impl Daemon {
    /// Starts one with the default configuration and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts one with this text as its configuration file.
    pub async fn start_with(configuration: &str) -> Self {
        Self::start_by(|_| User::own(), configuration).await
    }

    /// As [`Daemon::start_with`], by an ordinary user, who runs its commands too.
    pub async fn start_as_user(configuration: &str) -> Self {
        Self::start_by(User::ordinary, configuration).await
    }

    async fn start_by(whose: fn(&[&Path]) -> User, configuration: &str) -> Self {
        // Sockets have paths of at most 107 bytes, so the folders' are short.
        let short =
            |folder: &Path| tempfile::Builder::new().prefix("wp").tempdir_in(folder).unwrap();
        let folders = vec![short(&std::env::temp_dir()), short(&memory_folder())];
        let (path, state) = (folders[0].path().to_path_buf(), folders[1].path().to_path_buf());
        fs::create_dir(path.join("logs")).unwrap();
        // Whatever network this machine has is not the tests'.
        let own = match configuration.contains("[network]") {
            true => String::new(),
            false => format!("\n[network]\nconf_dir = {:?}\n", path.join("net.d")),
        };
        fs::write(path.join("config.toml"), format!("{configuration}{own}")).unwrap();
        let user = whose(&[&path, &state]);
        let mut child = Some(spawn(&user, &path, &state));
        let channel = dial(&path.join("kubelet.sock"), &path, &mut child).await;
        let agent = dial(&state.join("agent.sock"), &path, &mut child).await;
        let daemon = Self { folders, path, state, user, child, channel, agent };
        daemon.ready().await;
        daemon
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// CRI socket of the kubelet's realm.
    pub fn listen(&self) -> PathBuf {
        self.path.join("kubelet.sock")
    }

    /// CRI socket of the agent's realm, which serves the pod agent too.
    pub fn agent_socket(&self) -> PathBuf {
        self.state.join("agent.sock")
    }

    /// Folder for pods' log directories.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub fn user(&self) -> &User {
        &self.user
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon was killed").id()
    }

    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        sized(RuntimeServiceClient::new(self.channel.clone()))
    }

    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// CRI in the agent's realm.
    pub fn agent_runtime(&self) -> RuntimeServiceClient<Channel> {
        sized(RuntimeServiceClient::new(self.agent.clone()))
    }

    pub fn pod_agent(&self) -> PodAgentClient<Channel> {
        PodAgentClient::new(self.agent.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// `wasmpod ARGUMENTS` against this daemon.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.user.command();
        command.args(arguments).env("WASMPOD_ENDPOINT", self.agent_socket());
        command
    }

    /// Runs [`Daemon::command`] to its end, whatever that is.
    pub async fn try_cli(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// As [`Daemon::try_cli`]; a failure is a panic with what was printed.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        let output = self.try_cli(arguments).await;
        assert!(
            output.status.success(),
            "wasmpod {arguments:?}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Imports a guest of examples/ and gives the image's name.
    pub async fn import(&self, name: &str) -> String {
        self.import_file(&guest(name), name).await
    }

    /// Imports a file as "tests/NAME:1" and gives that.
    pub async fn import_file(&self, file: &Path, name: &str) -> String {
        let image = format!("tests/{name}:1");
        self.cli(&["import", &file.display().to_string(), &image]).await;
        image
    }

    /// RunPodSandbox with handler "", its log directory made.
    pub async fn run_pod(&self, config: cri::PodSandboxConfig) -> Pod {
        self.run_pod_with(config, "").await
    }

    pub async fn run_pod_with(&self, config: cri::PodSandboxConfig, handler: &str) -> Pod {
        self.try_run_pod(config, handler).await.unwrap()
    }

    pub async fn try_run_pod(
        &self,
        mut config: cri::PodSandboxConfig,
        handler: &str,
    ) -> Result<Pod, tonic::Status> {
        if config.log_directory.is_empty() {
            let metadata = config.metadata.clone().unwrap_or_default();
            let folder = self.logs().join(format!("{}_{}", metadata.name, metadata.uid));
            fs::create_dir_all(&folder).unwrap();
            self.user.own_folder(&folder);
            config.log_directory = folder.display().to_string();
        }
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        let mut client = self.runtime();
        let id = client.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
        Ok(Pod { id, config, client })
    }

    /// SIGKILL. Pods live on.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon was killed");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        eventually("the daemon ends after SIGTERM", || child.try_wait().unwrap()).await
    }

    /// Waits, whether it lives or not, until a shim has written a container's end down.
    pub async fn exit_is_in_the_journal(&self, id: &str) {
        eventually("the exit is in the shim's journal", || {
            std::fs::read_dir(self.state.join("shims")).unwrap().find_map(|shim| {
                let text = std::fs::read_to_string(shim.unwrap().path().join("exits")).ok()?;
                text.contains(id).then_some(())
            })
        })
        .await;
    }

    /// Starts it again on the same folders (killing it first) and waits until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = Some(spawn(&self.user, &self.path, &self.state));
        self.ready().await;
    }

    /// As a reboot of the node: every process dies, the state folder is empty, the rest stays.
    pub async fn reboot(&mut self) {
        self.kill();
        cleanup::sweep(&self.path);
        cleanup::sweep(&self.state);
        for entry in fs::read_dir(&self.state).unwrap() {
            let path = entry.unwrap().path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.unwrap();
        }
        self.restart().await;
        // The agent's socket is another file now.
        self.agent = dial(&self.state.join("agent.sock"), &self.path, &mut self.child).await;
    }

    /// The pids of its shims, sorted.
    pub fn shims(&self) -> Vec<u32> {
        cleanup::shims(&self.state())
    }

    /// The names of its shims' folders, which are those of their cgroups.
    pub fn shim_names(&self) -> Vec<String> {
        cleanup::shim_folders(&self.state())
    }

    /// The cgroups of these names that are there, in every hierarchy.
    pub fn cgroups(&self, names: &[String]) -> Vec<PathBuf> {
        cleanup::cgroups_of(names).into_iter().collect()
    }

    /// The daemon's own log so far.
    pub fn own_log(&self) -> String {
        fs::read_to_string(self.path.join("daemon.log")).unwrap_or_default()
    }

    async fn ready(&self) {
        for channel in [&self.channel, &self.agent] {
            eventually_async("the daemon answers", || async {
                let mut client = RuntimeServiceClient::new(channel.clone());
                client.version(cri::VersionRequest::default()).await.ok()
            })
            .await;
        }
    }
}

fn sized(client: RuntimeServiceClient<Channel>) -> RuntimeServiceClient<Channel> {
    client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}

/// Where files are memory.
fn memory_folder() -> PathBuf {
    const TMPFS: i64 = 0x0102_1994;
    let shared = PathBuf::from("/dev/shm");
    let is_memory = rustix::fs::statfs(&shared).is_ok_and(|found| found.f_type == TMPFS);
    if is_memory { shared } else { std::env::temp_dir() }
}

fn spawn(user: &User, path: &Path, state: &Path) -> Child {
    let log = |name: &str| -> File {
        OpenOptions::new().create(true).append(true).open(path.join(name)).unwrap()
    };
    user.command()
        .arg("serve")
        .arg("--config")
        .arg(path.join("config.toml"))
        .arg("--root")
        .arg(path.join("root"))
        .arg("--state")
        .arg(state)
        .arg("--listen")
        .arg(path.join("kubelet.sock"))
        // None but the configuration's, whatever is installed here.
        .env("WASMPOD_TOOLBOX", "")
        .stdin(std::process::Stdio::null())
        .stdout(log("daemon.log"))
        .stderr(log("daemon.log"))
        .spawn()
        .unwrap()
}

async fn dial(socket: &Path, path: &Path, child: &mut Option<Child>) -> Channel {
    let told = || fs::read_to_string(path.join("daemon.log")).unwrap_or_default();
    let begun = std::time::Instant::now();
    loop {
        if let Ok(channel) = connect(socket).await {
            return channel;
        }
        if let Some(status) = child.as_mut().and_then(|child| child.try_wait().unwrap()) {
            panic!("the daemon ended ({status}) before it answered:\n{}", told());
        }
        assert!(begun.elapsed() < super::DEADLINE, "the daemon does not answer:\n{}", told());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.own_log();
            let from = log.lines().count().saturating_sub(60);
            eprintln!("--- the daemon's log, its end ---");
            log.lines().skip(from).for_each(|line| eprintln!("{line}"));
            eprintln!("---");
        }
        if self.child.is_some() {
            cleanup::remove_pods(&[self.listen(), self.agent_socket()]);
        }
        self.kill();
        cleanup::sweep(&self.path);
        cleanup::sweep(&self.state);
        if std::env::var_os("WASMPOD_TEST_KEEP").is_some() {
            eprintln!("kept: {} and {}", self.path.display(), self.state.display());
            self.folders.drain(..).for_each(|folder| drop(folder.keep()));
        }
    }
}
