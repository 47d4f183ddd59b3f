//! A shim under test and what a test wants of it in a line.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::model::cpu_time::CpuControl;
use crate::model::ids::{ContainerId, SandboxId};
use crate::proto::shim::shim_client::ShimClient;
use crate::proto::shim::{self as wire};
use crate::shim::process::{Options, prepare, serve};
use crate::shim::registry::Registry;

pub const DEADLINE: Duration = Duration::from_secs(20);

pub struct Bench {
    pub client: ShimClient<Channel>,
    pub registry: Arc<Registry>,
    pub dir: TempDir,
}

/// Runs a test against a shim of its own.
pub fn with_shim(test: impl AsyncFnOnce(Bench) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: needs root");
        return;
    }
    let thread = std::thread::spawn(move || {
        let dir = tempfile::tempdir().expect("a folder");
        let state = dir.path().join("shim");
        std::fs::create_dir(&state).expect("the shim's folder");
        let host = prepare(&state, CpuControl::Auto).expect("a namespace of its own");
        let registry = Arc::new(Registry::new(Arc::new(host)));
        let socket = dir.path().join("shim.sock");
        let listener = UnixListener::bind(&socket).expect("binds");
        listener.set_nonblocking(true).expect("sets up");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let held = registry.clone();
            let served = tokio::spawn(serve(
                held,
                listener,
                Options { max_pods: 10, cpu_control: CpuControl::Auto },
            ));
            let client = ShimClient::new(connect(&socket).await);
            let finished = tokio::time::timeout(
                DEADLINE * 2,
                test(Bench { client, registry: registry.clone(), dir }),
            );
            finished.await.expect("the test ends in time");
            served.abort();
            for sandbox in registry.sandboxes() {
                registry.remove_sandbox(&sandbox.spec.id).await;
            }
            // The folder goes with the test, and with it must go what is mounted below it.
            rustix::mount::unmount(state.join("dev"), rustix::mount::UnmountFlags::DETACH)
                .expect("unmounts");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

async fn connect(socket: &Path) -> Channel {
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).expect("a socket");
    endpoint.connect().await.expect("connects")
}

impl Bench {
    pub async fn sandbox(&mut self) -> SandboxId {
        let id = SandboxId::random();
        let request = wire::CreateSandboxRequest { id: id.to_string(), ..Default::default() };
        self.client.create_sandbox(request).await.expect("a sandbox");
        id
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Machine code of a text module, as the daemon would have it.
    pub fn code(&self, wat: &str) -> wire::Code {
        let wasm = wat::parse_str(wat).expect("parses");
        let bytes = self.registry.host.engines.mapped.precompile_module(&wasm).expect("compiles");
        let module = format!("sha256:{}", hex::encode(Sha256::digest(&wasm)));
        let path = self.file(&module.replace(':', "-"));
        std::fs::write(&path, &bytes).expect("writes");
        wire::Code {
            path: path.display().to_string(),
            sha256: hex::encode(Sha256::digest(&bytes)),
            module,
            form: wire::code::Form::Module.into(),
            ..Default::default()
        }
    }

    /// What CreateContainer is asked for a program of `sandbox`; its log is at [`Bench::log`].
    pub fn request(&self, sandbox: &SandboxId, wat: &str) -> wire::CreateContainerRequest {
        let id = ContainerId::random();
        let folder = |name: &str| {
            let path = self.file(&format!("{id}-{name}"));
            std::fs::create_dir(&path).expect("a folder");
            path.display().to_string()
        };
        wire::CreateContainerRequest {
            id: id.to_string(),
            sandbox_id: sandbox.to_string(),
            code: Some(self.code(wat)),
            root: Some(wire::RootFs {
                layers: vec![folder("layer")],
                upper: folder("upper"),
                work: folder("work"),
                readonly: false,
            }),
            argv: vec!["app".to_owned()],
            working_dir: "/".to_owned(),
            entry_path: "/app.wasm".to_owned(),
            log_path: self.file(&format!("{id}.log")).display().to_string(),
            limits: Some(wire::Limits { descriptors: 64, handles: 64, ..Default::default() }),
            ..Default::default()
        }
    }

    /// The whole log of a container.
    pub fn log(&self, id: &str) -> String {
        std::fs::read_to_string(self.file(&format!("{id}.log"))).expect("a log")
    }

    /// Creates and starts a program in `sandbox`.
    pub async fn run(&mut self, sandbox: &SandboxId, wat: &str) -> String {
        let request = self.request(sandbox, wat);
        let id = request.id.clone();
        self.client.create_container(request).await.expect("creates");
        self.start(&id).await.expect("starts");
        id
    }

    pub async fn start(&mut self, id: &str) -> Result<i64, Status> {
        let request = wire::ContainerRequest { id: id.to_owned() };
        self.client.start_container(request).await.map(|started| started.get_ref().started_at)
    }

    pub async fn stop(&mut self, id: &str, signal: u32, grace_ms: u64) -> wire::Exit {
        let request = wire::StopContainerRequest {
            id: id.to_owned(),
            signal,
            grace_ms,
            patience: wire::stop_container_request::Patience::All.into(),
        };
        let stopped = self.client.stop_container(request).await.expect("stops").into_inner();
        assert_eq!(stopped.stuck_threads, 0);
        stopped.exit.expect("it is known")
    }

    /// The next exit, from the first that is not acknowledged on.
    pub async fn next_exit(&mut self) -> wire::Event {
        let events = self.client.events(wire::EventsRequest {}).await.expect("listens");
        events.into_inner().next().await.expect("goes on").expect("an event")
    }

    /// The exit of the container that runs alone.
    pub async fn exit_of(&mut self, id: &str) -> wire::Exit {
        let event = self.next_exit().await;
        assert_eq!(event.container_id, id);
        let ack = wire::AckExitsRequest { container_ids: vec![id.to_owned()] };
        self.client.ack_exits(ack).await.expect("acknowledges");
        event.exit.expect("an exit")
    }

    /// The mount points below the shim's roots.
    pub fn mounted_roots(&self) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("reads");
        let roots = self.registry.host.roots.display().to_string();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with(&roots)).map(str::to_owned).collect()
    }
}
