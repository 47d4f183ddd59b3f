//! A component Store's data, and what host functions see of it.

use std::sync::Arc;

use rustix::io::Errno;
use wasmtime::component::{HasData, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::descriptor::{Files, Folders};
use super::sockets::Sockets;
use super::stdin::Input;
use super::transfer::{Guarded, Standard};
use crate::model::user::User;
use crate::shim::guest::{Context, Role};
use crate::shim::kill::{Kill, Killed};
use crate::shim::ledger::Limiter;
use crate::shim::network::Guard;
use crate::shim::processes::Process;
use crate::shim::resolver::Resolver;
use crate::shim::this::This;
use crate::shim::wasi::http::{Authorities, Outgoing};
use crate::shim::wasi::processes::View;
use crate::shim::wasi::this::View as ThisView;

/// Bytes of randomness that one call may ask for.
const RANDOM: u64 = 64 * 1024;

/// What the Stores of one run have in common.
#[derive(Clone)]
pub struct Shared {
    folders: Folders,
    authorities: Arc<Authorities>,
}

impl Shared {
    /// `Err` is one sentence.
    pub fn open(context: &Context) -> Result<Self, String> {
        let folders = Folders::open(&context.root, &context.working_dir, &context.kill)?;
        Ok(Self { folders, authorities: Arc::default() })
    }
}

/// Dropping it closes every descriptor that the guest held.
pub struct State {
    wasi: WasiCtx,
    pub table: ResourceTable,
    files: Files,
    pub sockets: Sockets,
    pub resolver: Resolver,
    pub guard: Arc<Guard>,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    user: Arc<User>,
    /// Polls since the runtime last looked for events.
    pub polls: u32,
    pub limiter: Limiter,
    process: Option<Arc<Process>>,
    kill: Arc<Kill>,
    this: Arc<This>,
    role: Role,
}

impl State {
    /// Inside a tokio runtime, because standard input may want to wait. `Err` is one sentence.
    pub fn new(context: Context, shared: Shared) -> Result<Self, String> {
        let guarded = |output| Guarded::new(output, context.kill.clone());
        let (stdout, stderr) = (guarded(context.stdout), guarded(context.stderr));
        let stdin = Input::new(context.stdin, context.kill.clone())
            .map_err(|error| format!("standard input cannot be used: {error}"))?;
        let mut wasi = WasiCtx::builder();
        wasi.stdin(stdin.clone())
            .stdout(Standard(stdout.clone()))
            .stderr(Standard(stderr.clone()))
            .args(&context.argv)
            .initial_cwd(&context.working_dir)
            .max_random_size(RANDOM);
        for variable in &context.env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            wasi.env(name, value);
        }
        // Go, built for p1 and wrapped as a component, knows no other way to learn it.
        if !context.env.iter().any(|variable| variable.starts_with("PWD=")) {
            wasi.env("PWD", &context.working_dir);
        }
        let resolver =
            Resolver::new(context.root.clone(), context.guard.clone(), context.ledger.clone());
        let outgoing = Outgoing {
            resolver: resolver.clone(),
            guard: context.guard.clone(),
            ledger: context.ledger.clone(),
            authorities: shared.authorities,
        };
        let (guard, asked) = (context.guard.clone(), context.guard);
        wasi.allow_tcp(true).allow_udp(true);
        wasi.socket_addr_check(move |address, purpose| {
            let allowed = asked.allows(address, purpose);
            Box::pin(async move { allowed })
        });
        let mut table = ResourceTable::new();
        // Bounds what a guest can make the host keep.
        table.set_max_capacity(context.ledger.handles as usize);
        let (process, kill) = (context.process, context.kill.clone());
        let (this, role) = (context.this, context.role);
        let standard = (stdin, stdout, stderr);
        let files = Files::new(context.root, shared.folders, context.kill, standard);
        Ok(Self {
            wasi: wasi.build(),
            table,
            files,
            sockets: Sockets::new(context.ledger.clone()),
            resolver,
            guard,
            http: WasiHttpCtx::new(),
            outgoing,
            user: context.user,
            polls: 0,
            limiter: Limiter::new(context.ledger),
            process,
            kill,
            this,
            role,
        })
    }

    pub fn files(&mut self) -> FilesView<'_> {
        FilesView { files: &self.files, table: &mut self.table }
    }

    pub fn user(&self) -> &User {
        &self.user
    }

    pub fn processes(&mut self) -> View<'_> {
        View { table: &mut self.table, own: self.process.clone(), kill: self.kill.clone() }
    }

    pub fn this(&mut self) -> ThisView<'_> {
        ThisView { table: &mut self.table, this: self.this.clone(), role: self.role }
    }

    /// What stock sockets see, their count, and who looks names up.
    pub fn sockets(&mut self) -> (WasiSocketsCtxView<'_>, &mut Sockets, &Resolver) {
        let stock = WasiSocketsCtxView { ctx: self.wasi.sockets(), table: &mut self.table };
        (stock, &mut self.sockets, &self.resolver)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

/// What the filesystem interfaces see of a Store.
pub struct FilesView<'a> {
    pub files: &'a Files,
    pub table: &'a mut ResourceTable,
}

/// Names [`FilesView`] to wasmtime.
pub struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = FilesView<'a>;
}

/// The generated bindings name wasmtime-wasi's types for resources. Those are only markers: the
/// entries in the table are ours, found by the same number.
pub fn borrow<Marker: 'static, Ours: 'static>(marker: &Resource<Marker>) -> Resource<Ours> {
    Resource::new_borrow(marker.rep())
}

/// As [`borrow`], for a resource that changes hands, in either direction.
pub fn own<From: 'static, To: 'static>(resource: Resource<From>) -> Resource<To> {
    Resource::new_own(resource.rep())
}

/// Why a host function failed.
#[derive(Debug)]
pub enum Fault {
    /// The guest is told.
    Errno(Errno),
    /// The guest ends.
    Trap(wasmtime::Error),
}

impl From<Errno> for Fault {
    /// EINTR is seen only once the guest is killed (`fs::uninterrupted`).
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::INTR => Self::Trap(wasmtime::Error::new(Killed)),
            errno => Self::Errno(errno),
        }
    }
}

impl From<ResourceTableError> for Fault {
    fn from(error: ResourceTableError) -> Self {
        match error {
            ResourceTableError::Full => Self::Errno(Errno::MFILE),
            error => Self::Trap(error.into()),
        }
    }
}
