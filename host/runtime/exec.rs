//! Work on a running container: programs in it, its limits, its log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::Change;
use super::client::{answer, failure};
use super::containers::by_id;
use super::folders::COPY_SUFFIX;
use super::order::wire_code;
use super::shims::Shim;
use super::{ExecOutput, Runtime, launch};
use crate::error::{Error, Result};
use crate::image::Toolbox;
use crate::lifecycle::Step;
use crate::model::container::{Container, ContainerState};
use crate::model::ids::ContainerId;
use crate::model::resources::Resources;
use crate::proto::shim as wire;

/// Bytes kept of each output (containerd's number).
const OUTPUT_MAX: u64 = 16 << 20;
/// How much longer than its deadline an exec may take to clean up.
const CLEANUP: Duration = Duration::from_secs(30);

/// A wasm file on its way from a container to the compiler; gone when dropped.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // It is not there when the program was the entry module, or nothing.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What argv[0] of an exec means.
enum Program {
    Entry,
    File(Found),
}

/// A program that is ready to be run in a container.
pub(super) struct Prepared {
    pub shim: Arc<Shim>,
    /// `None`: the container's own entry module.
    pub code: Option<wire::Code>,
    found: Option<Found>,
}

/// A program in the container's files, or the toolbox.
struct Found {
    /// In the container.
    path: String,
    digest: String,
    /// On the host.
    file: PathBuf,
    /// `None`: the file is nobody's copy.
    _copy: Option<Copy>,
}

impl Found {
    /// A fault of the program, told of the container's file and not of the copy that the compiler
    /// saw: that may be another exec's, which shares the work.
    fn blame(&self, error: Error) -> Error {
        let Error::Invalid(text) = &error else { return error };
        let folder = self.file.parent().map(|dir| format!("{}/", dir.display()));
        let named = text.split_once(&folder.unwrap_or_default()).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(COPY_SUFFIX)?;
            Some(format!("{before}{} in the container{after}", self.path))
        });
        named.map_or(error, Error::Invalid)
    }
}

fn expect_running(container: &Container) -> Result<()> {
    match container.state {
        ContainerState::Running { .. } => Ok(()),
        _ => Err(Error::WrongState {
            id: container.id.clone(),
            state: container.state.clone(),
            expected: "running",
        }),
    }
}

impl Runtime {
    pub(super) async fn run_in(
        self: Arc<Self>,
        container: Arc<Container>,
        argv: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        expect_running(&container)?;
        let Some(timeout) = timeout else {
            return self.run_program(&container, argv, None).await;
        };
        let deadline = Instant::now() + timeout;
        let run = self.run_program(&container, argv, Some(deadline));
        // The shim keeps the deadline itself; this ends the wait for a compiler or a shim that
        // does not answer.
        tokio::time::timeout(timeout + CLEANUP, run).await.unwrap_or_else(|_| Err(too_late()))
    }

    async fn run_program(
        &self,
        container: &Container,
        argv: Vec<String>,
        deadline: Option<Instant>,
    ) -> Result<ExecOutput> {
        let mut program = self.prepare(container, &argv).await?;
        let request = |program: &Prepared| wire::ExecRequest {
            container_id: container.id.to_string(),
            code: program.code.clone(),
            argv: argv.clone(),
            timeout_ms: 0,
            max_output: OUTPUT_MAX,
        };
        let mut ran = exec(&program.shim, request(&program), deadline).await;
        if let Err(Error::StaleCode(why)) = &ran {
            self.renew(&mut program, why).await?;
            ran = exec(&program.shim, request(&program), deadline).await;
        }
        self.let_exec_codes_go().await;
        ran
    }

    /// Finds what argv[0] means in a running container, and its machine code.
    pub(super) async fn prepare(&self, container: &Container, argv: &[String]) -> Result<Prepared> {
        expect_running(container)?;
        let shim = self.shim_of(container)?;
        let found = match self.resolve(&shim, container, argv).await? {
            Program::Entry => return Ok(Prepared { shim, code: None, found: None }),
            Program::File(found) => found,
        };
        self.exec_codes.use_by(&container.id, &found.digest);
        let code = self.images.code(&found.digest, &found.file).await;
        let code = code.map_err(|error| found.blame(error))?;
        Ok(Prepared { shim, code: Some(wire_code(&code)), found: Some(found) })
    }

    /// Makes a program's machine code anew, which the shim found stale.
    pub(super) async fn renew(&self, program: &mut Prepared, why: &str) -> Result<()> {
        let Some(found) = &program.found else {
            return Err(Error::Internal(format!("a running program's code is stale: {why}")));
        };
        tracing::warn!(digest = found.digest, why, "machine code is made anew");
        let code = self.images.rebuild(&found.digest, &found.file).await;
        program.code = Some(wire_code(&code.map_err(|error| found.blame(error))?));
        Ok(())
    }

    /// Lets machine code go that was made for execs of containers which are no more.
    pub(super) async fn let_exec_codes_go(&self) {
        let unused = self.exec_codes.take_unused(|id| self.records.container(id).is_some());
        if let Err(error) = self.images.let_go(unused).await {
            // The daemon's next start removes it.
            tracing::warn!(%error, "machine code of no image cannot be removed");
        }
    }

    async fn resolve(
        &self,
        shim: &Shim,
        container: &Container,
        argv: &[String],
    ) -> Result<Program> {
        let name = argv.first().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Error::Invalid("no program is named to exec".to_owned()))?;
        let copy = Copy(self.folders.exec_copy());
        let request = wire::ResolveProgramRequest {
            container_id: container.id.to_string(),
            program: name.clone(),
            copy_to: copy.0.to_string_lossy().into_owned(),
        };
        let resolved =
            answer("looking for a program", shim.wire().resolve_program(request)).await?;
        use wire::resolve_program_response::Program as Resolved;
        match resolved.program {
            Some(Resolved::Entrypoint(_)) => Ok(Program::Entry),
            Some(Resolved::File(file)) => {
                let (path, digest) = (file.path, file.digest);
                Ok(Program::File(Found { path, digest, file: copy.0.clone(), _copy: Some(copy) }))
            }
            Some(Resolved::Nothing(_)) if let Some(toolbox) = self.toolbox_with(name) => {
                let (digest, file) = (toolbox.digest.clone(), toolbox.file.clone());
                Ok(Program::File(Found { path: name.clone(), digest, file, _copy: None }))
            }
            Some(Resolved::Nothing(list)) => Err(Error::Invalid(match list.paths.as_slice() {
                [] => format!("no program {name:?} in the container, nor any other"),
                paths => {
                    format!("no program {name:?} in the container; it can run {}", paths.join(", "))
                }
            })),
            None => Err(Error::Internal("the shim's answer about a program is empty".to_owned())),
        }
    }

    /// The toolbox, when it has a program of that name.
    fn toolbox_with(&self, name: &str) -> Option<&Toolbox> {
        self.images.toolbox().map(Arc::as_ref).filter(|toolbox| toolbox.has(name))
    }

    pub(super) async fn set_limits(
        self: Arc<Self>,
        id: ContainerId,
        update: Resources,
    ) -> Result<()> {
        let turn = self.records.turn(id.as_str());
        let own_turn = turn.operation.write().await;
        let container = self
            .records
            .container(&id)
            .ok_or_else(|| Error::not_found("container", id.as_str()))?;
        if matches!(
            container.state,
            ContainerState::Exited { .. } | ContainerState::Removing { .. }
        ) {
            return Err(Error::WrongState {
                id,
                state: container.state.clone(),
                expected: "created or running",
            });
        }
        let mut resources = launch::kept(&container.resources.updated(&update));
        let chain = self.chain()?;
        let sandbox = self.records.sandbox(&container.sandbox);
        let sandbox = sandbox.filter(|sandbox| chain.concerns(sandbox));
        if let Some(sandbox) = &sandbox {
            let wanted = chain.update(sandbox, &container, &resources).await?;
            resources = launch::kept(&launch::applied(&wanted)?);
        }
        launch::check_processor(&resources)?;
        self.apply_limits(&container, &resources).await?;
        // A kill between the two leaves the record's limits, which recovery applies again.
        self.records.change(vec![Change::SetResources(id.clone(), resources)]).await?;
        // Whoever hears of it may want to change it at once.
        drop(own_turn);
        if let (Some(sandbox), Some(container)) = (&sandbox, self.records.container(&id)) {
            self.tell_plugins(Step::UpdatedContainer, sandbox, Some(&container)).await;
        }
        Ok(())
    }

    pub(super) async fn apply_limits(
        &self,
        container: &Container,
        resources: &Resources,
    ) -> Result<()> {
        let shim = self.shim_of(container)?;
        let request = wire::UpdateContainerRequest {
            id: container.id.to_string(),
            memory: resources.memory_limit,
            descriptors: self.limits(container).descriptors,
            cpuset_cpus: resources.cpuset_cpus.clone(),
            cpuset_mems: resources.cpuset_mems.clone(),
            cpu_time: Some(cpu_time(resources)),
        };
        answer("setting limits", shim.wire().update_container(request)).await.map(drop)
    }

    pub(super) async fn reopen(&self, container: &Container) -> Result<()> {
        expect_running(container)?;
        let shim = self.shim_of(container)?;
        answer("reopening a log", shim.wire().reopen_log(by_id(&container.id))).await.map(drop)
    }

    /// Makes the folder that execs' copies go to, without any that a kill left there.
    pub(super) fn clear_execs(folder: &Path) -> Result<()> {
        super::sweep::remove(folder)?;
        std::fs::create_dir_all(folder).map_err(Error::io(format!("making {}", folder.display())))
    }
}

pub(super) fn cpu_time(resources: &Resources) -> wire::CpuTime {
    wire::CpuTime {
        quota: resources.cpu_quota,
        period: resources.cpu_period,
        shares: resources.cpu_shares,
    }
}

fn too_late() -> Error {
    Error::DeadlineExceeded("the program did not end before its deadline".to_owned())
}

async fn exec(
    shim: &Shim,
    mut request: wire::ExecRequest,
    deadline: Option<Instant>,
) -> Result<ExecOutput> {
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(too_late());
        }
        // Zero would wait for ever.
        request.timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
    }
    let response = shim.wire().exec(request).await;
    let response = response.map_err(|status| failure("running a program", &status))?.into_inner();
    let exit = response.exit.ok_or_else(too_late)?;
    Ok(ExecOutput {
        stdout: response.stdout.to_vec(),
        stderr: response.stderr.to_vec(),
        exit_code: exit.code,
    })
}
