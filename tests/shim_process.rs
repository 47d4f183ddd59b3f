//! The shim as the process that a daemon starts: on a listening socket as standard input, in a
//! folder of its own, without anybody's help until it is told to end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use wasmpod::model::exits;
use wasmpod::model::ids::{ContainerId, SandboxId};
use wasmpod::proto::SHIM_PROTOCOLS;
use wasmpod::proto::shim::shim_client::ShimClient;
use wasmpod::proto::shim::{self as wire};

const DEADLINE: Duration = Duration::from_secs(20);

const EXIT_3: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 3))))"#;

struct Shim {
    process: Child,
    dir: TempDir,
}

impl Shim {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("shim");
        std::fs::create_dir(&folder).expect("the shim's folder");
        let listener = UnixListener::bind(dir.path().join("shim.sock")).expect("binds");
        let log = File::create(dir.path().join("shim.log")).expect("a log");
        // Begun by a daemon that keeps its files to itself.
        let process = Command::new("sh")
            .args(["-c", "umask 077; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_wasmpod")])
            .args(["shim", "--max-pods", "3", "--dir"])
            .arg(&folder)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starts");
        Self { process, dir }
    }

    async fn connect(&self) -> ShimClient<Channel> {
        let socket = format!("unix://{}", self.dir.path().join("shim.sock").display());
        let channel = Endpoint::try_from(socket).expect("a socket").connect().await;
        let mut client = ShimClient::new(channel.expect("connects"));
        let hello = wire::HelloRequest { versions: SHIM_PROTOCOLS.to_vec() };
        let said = std::fs::read_to_string(self.dir.path().join("shim.log")).unwrap_or_default();
        client.hello(hello).await.unwrap_or_else(|error| panic!("{error}: {said}"));
        client
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("shim")
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn run(client: &mut ShimClient<Channel>, dir: &Path) -> ContainerId {
    let (sandbox, id) = (SandboxId::random(), ContainerId::random());
    let request = wire::CreateSandboxRequest { id: sandbox.to_string(), ..Default::default() };
    client.create_sandbox(request).await.expect("a sandbox");
    let engine = wasmpod::engine::new().expect("an engine");
    let wasm = wat::parse_str(EXIT_3).expect("parses");
    let code = engine.precompile_module(&wasm).expect("compiles");
    let path = dir.join("code");
    std::fs::write(&path, &code).expect("writes");
    let folder = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir(&path).expect("a folder");
        path.display().to_string()
    };
    let request = wire::CreateContainerRequest {
        id: id.to_string(),
        sandbox_id: sandbox.to_string(),
        code: Some(wire::Code {
            path: path.display().to_string(),
            sha256: hex::encode(Sha256::digest(&code)),
            module: "sha256:exit".to_owned(),
            form: wire::code::Form::Module.into(),
            ..Default::default()
        }),
        root: Some(wire::RootFs {
            layers: vec![folder("layer")],
            upper: folder("upper"),
            work: folder("work"),
            readonly: false,
        }),
        argv: vec!["app".to_owned()],
        limits: Some(wire::Limits { descriptors: 64, handles: 64, ..Default::default() }),
        ..Default::default()
    };
    client.create_container(request).await.expect("creates");
    let request = wire::ContainerRequest { id: id.to_string() };
    client.start_container(request).await.expect("starts");
    id
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_shim_lives_on_without_connections_until_it_is_told_to_end() {
    let mut shim = Shim::start();
    drop(shim.connect().await);
    let mut client = shim.connect().await;
    client.shutdown(wire::Empty {}).await.expect("is empty");
    drop(client);
    wait_until("the shim ends", || shim.process.try_wait().expect("is a child").is_some());
    assert!(shim.process.wait().expect("has ended").success());
    assert!(!shim.folder().exists());
}

#[tokio::test]
async fn a_killed_shim_leaves_the_exits_behind_and_no_mount() {
    let mut shim = Shim::start();
    let mut client = shim.connect().await;
    let id = run(&mut client, shim.dir.path()).await;
    let journal = shim.folder().join(exits::JOURNAL);
    let read = || exits::parse(&std::fs::read(&journal).unwrap_or_default());
    wait_until("the exit is in the journal", || !read().is_empty());
    shim.process.kill().expect("is a child");
    shim.process.wait().expect("ends");
    let records = read();
    assert_eq!(records[0].container, id.as_str());
    assert_eq!(records[0].exit.code, 3);
    std::fs::remove_dir_all(shim.folder()).expect("nothing is mounted below it");
}

#[tokio::test]
async fn an_idle_shim_uses_no_cpu_and_is_a_session_of_its_own() {
    let shim = Shim::start();
    let _client = shim.connect().await;
    let pid = shim.process.id();
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let after_name = |stat: String| stat.rsplit(") ").next().map(str::to_owned).expect("a name");
    let session = after_name(stat()).split(' ').nth(3).map(str::to_owned);
    assert_eq!(session, Some(pid.to_string()));
    // Voluntary switches count every time it wakes up and waits again.
    let wakes = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        status.lines().find(|line| line.starts_with("voluntary_")).map(str::to_owned)
    };
    let mut seen = wakes();
    let mut quiet_since = Instant::now();
    wait_until("the shim sleeps for a second", || {
        let now = wakes();
        if now != seen {
            (seen, quiet_since) = (now, Instant::now());
        }
        quiet_since.elapsed() >= Duration::from_secs(1)
    });
}

#[tokio::test]
async fn guests_files_have_kubernetes_modes_and_guests_no_groups_of_the_daemons() {
    let shim = Shim::start();
    let _client = shim.connect().await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.process.id()));
    let status = status.expect("it lives");
    let told = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(told("Umask:"), Some("0022"));
    if rustix::process::geteuid().is_root() {
        assert_eq!(told("Groups:"), Some(""));
    }
}
