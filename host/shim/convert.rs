//! Wire messages to what the shim works with, and back. Nothing is done here.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Code as GrpcCode, Status};

use super::cpu::{self, Processor};
use super::guest::Form;
use super::hooks::HooksSpec;
use super::mounts::{Covers, ImageSource, MountAccess, MountPropagation, MountSpec, RootAccess};
use super::network::NetworkSpec;
use super::phase::Phase;
use super::ports::PortsSpec;
use super::programs::Code;
use super::resolve::Found;
use super::sandbox::{NetworkMode, SandboxSpec};
use super::spec::{ContainerSpec, Limits, Patience, RootFs, StdinSource, Stop, Update};
use crate::error::{Error, Result, cut};
use crate::model::container::Exit;
use crate::model::cpu_time::CpuTime;
use crate::model::exits::ExitRecord;
use crate::model::ids::{ContainerId, SandboxId};
use crate::model::ports::HostPort;
use crate::model::service::ServiceOptions;
use crate::model::sockets::{Allowed, Listen, Protocol, SocketPolicy};
use crate::model::user::User;
use crate::proto::shim as wire;

/// The gRPC status that an error is told as.
pub fn status(error: Error) -> Status {
    let code = match &error {
        Error::NotFound { .. } => GrpcCode::NotFound,
        Error::NameReserved { .. } => GrpcCode::AlreadyExists,
        Error::Invalid(_) | Error::Refused(_) | Error::Ambiguous { .. } => {
            GrpcCode::InvalidArgument
        }
        Error::WrongState { .. } | Error::Precondition(_) | Error::Start(_) => {
            GrpcCode::FailedPrecondition
        }
        Error::StaleCode(_) => GrpcCode::DataLoss,
        Error::DeadlineExceeded(_) => GrpcCode::DeadlineExceeded,
        Error::Exhausted(_) => GrpcCode::ResourceExhausted,
        Error::Unavailable(_) => GrpcCode::Unavailable,
        Error::Denied(_) => GrpcCode::PermissionDenied,
        Error::Unimplemented(_) => GrpcCode::Unimplemented,
        // Neither registries nor networks are a shim's business.
        Error::Io { .. }
        | Error::RegistryUnavailable(_)
        | Error::NotInRegistry { .. }
        | Error::Unsigned(_)
        | Error::Network(_)
        | Error::Internal(_) => GrpcCode::Internal,
    };
    Status::new(code, cut(error.to_string(), MOST_STATUS))
}

/// Bytes of a status' message: it travels in a header, percent-encoded to thrice its length, and a
/// header over HTTP/2's limit would fail every call on the connection.
const MOST_STATUS: usize = 2 << 10;

pub fn sandbox_id(text: &str) -> Result<SandboxId> {
    SandboxId::parse(text).ok_or_else(|| Error::Invalid(format!("{text:?} is no sandbox id")))
}

pub fn container_id(text: &str) -> Result<ContainerId> {
    ContainerId::parse(text).ok_or_else(|| Error::Invalid(format!("{text:?} is no container id")))
}

pub fn sandbox_spec(asked: wire::CreateSandboxRequest) -> Result<SandboxSpec> {
    use wire::create_sandbox_request::Network;
    Ok(SandboxSpec {
        id: sandbox_id(&asked.id)?,
        network: match asked.network() {
            Network::Host => NetworkMode::Host,
            Network::Virtual => NetworkMode::Virtual,
            Network::Own => {
                optional_path(&asked.netns_path)?.map_or(NetworkMode::Own, NetworkMode::Given)
            }
        },
        etc_layer: optional_path(&asked.etc_layer)?,
        cpus: cpu::parse(&asked.cpuset_cpus, &cpu::allowed())?,
        memory: bytes(asked.memory_limit),
        ports: PortsSpec {
            ports: asked.ports.iter().map(host_port).collect::<Result<_>>()?,
            addresses: asked.addresses.iter().map(|text| ip(text)).collect::<Result<_>>()?,
        },
        hooks: asked.hooks.map(hooks).transpose()?,
    })
}

fn hooks(asked: wire::Hooks) -> Result<HooksSpec> {
    let missing = || Error::Invalid("hooks without code".to_owned());
    Ok(HooksSpec {
        code: code(asked.code.ok_or_else(missing)?)?,
        memory: asked.memory,
        functions: asked.functions,
        patience: Duration::from_millis(asked.patience_ms),
    })
}

fn host_port(asked: &wire::HostPort) -> Result<HostPort> {
    use wire::host_port::Protocol as Asked;
    Ok(HostPort {
        protocol: match asked.protocol() {
            Asked::Tcp => Protocol::Tcp,
            Asked::Udp => Protocol::Udp,
        },
        ip: if asked.host_ip.is_empty() { None } else { Some(ip(&asked.host_ip)?) },
        host: port(asked.host_port)?,
        container: port(asked.container_port)?,
    })
}

fn ip(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::Invalid(format!("{text:?} is no IP address")))
}

fn port(number: u32) -> Result<u16> {
    let port = u16::try_from(number).ok().filter(|&port| port != 0);
    port.ok_or_else(|| Error::Invalid(format!("{number} is no port")))
}

pub fn container_spec(asked: wire::CreateContainerRequest) -> Result<ContainerSpec> {
    let missing = |what: &str| Error::Invalid(format!("a container without {what}"));
    let root = asked.root.ok_or_else(|| missing("a root"))?;
    Ok(ContainerSpec {
        id: container_id(&asked.id)?,
        sandbox: sandbox_id(&asked.sandbox_id)?,
        code: code(asked.code.ok_or_else(|| missing("code"))?)?,
        programs: asked.programs.into_iter().map(code).collect::<Result<_>>()?,
        root: RootFs {
            layers: root.layers.iter().map(|layer| path(layer)).collect::<Result<_>>()?,
            upper: path(&root.upper)?,
            work: path(&root.work)?,
            access: if root.readonly { RootAccess::ReadOnly } else { RootAccess::ReadWrite },
        },
        mounts: asked.mounts.into_iter().map(mount).collect::<Result<_>>()?,
        covers: Covers { masked: asked.masked_paths, read_only: asked.readonly_paths },
        argv: asked.argv,
        env: asked.env,
        user: user(asked.user.unwrap_or_default()),
        working_dir: if asked.working_dir.is_empty() { "/".to_owned() } else { asked.working_dir },
        entry_path: asked.entry_path,
        about: Arc::from(&*asked.about),
        stdin: match (asked.terminal, asked.stdin) {
            (true, _) => StdinSource::Terminal { once: asked.stdin_once },
            (false, true) => StdinSource::Pipe { once: asked.stdin_once },
            (false, false) => StdinSource::Nothing,
        },
        log_path: optional_path(&asked.log_path)?,
        limits: limits(asked.limits.unwrap_or_default())?,
        network: network(&asked.network.unwrap_or_default())?,
    })
}

fn user(asked: wire::User) -> User {
    User { uid: asked.uid, gid: asked.gid, groups: asked.groups, name: asked.name }
}

fn network(asked: &wire::Network) -> Result<NetworkSpec> {
    let rules = |text: &str| match text {
        "" => Ok(Allowed::NOTHING),
        text => Allowed::parse(text).map_err(Error::Invalid),
    };
    let listen = asked.listen.iter().map(|text| Listen::parse(text).map_err(Error::Invalid));
    Ok(NetworkSpec {
        policy: SocketPolicy { bind: rules(&asked.bind)?, connect: rules(&asked.connect)? },
        listen: listen.collect::<Result<_>>()?,
        service: asked.service.as_ref().map(service).transpose()?,
    })
}

fn service(asked: &wire::Service) -> Result<ServiceOptions> {
    Ok(ServiceOptions {
        port: port(asked.port)?,
        requests: asked.requests.max(1),
        timeout: Duration::from_millis(asked.timeout_ms),
        reuse: (asked.reuse > 0).then_some(asked.reuse),
    })
}

pub fn stop(asked: &wire::StopContainerRequest) -> Stop {
    use wire::stop_container_request::Patience as Asked;
    Stop {
        signal: asked.signal,
        grace: Duration::from_millis(asked.grace_ms),
        patience: match asked.patience() {
            Asked::Hearing => Patience::Hearing,
            Asked::All => Patience::All,
        },
    }
}

pub fn update(asked: wire::UpdateContainerRequest) -> Result<Update> {
    Ok(Update {
        memory: bytes(asked.memory),
        descriptors: (asked.descriptors > 0).then_some(asked.descriptors),
        processor: processor(&asked.cpuset_cpus, &asked.cpuset_mems, asked.cpu_time)?,
    })
}

pub fn sandbox_update(asked: &wire::UpdateSandboxRequest) -> Result<Update> {
    Ok(Update {
        memory: bytes(asked.memory_limit),
        descriptors: None,
        processor: processor(&asked.cpuset_cpus, "", None)?,
    })
}

fn limits(asked: wire::Limits) -> Result<Limits> {
    Ok(Limits {
        memory: bytes(asked.memory),
        descriptors: asked.descriptors,
        handles: asked.handles,
        processes: asked.processes,
        processor: processor(&asked.cpuset_cpus, &asked.cpuset_mems, asked.cpu_time)?,
    })
}

fn processor(cpus: &str, nodes: &str, time: Option<wire::CpuTime>) -> Result<Processor> {
    let wire::CpuTime { quota, period, shares } = time.unwrap_or_default();
    Ok(Processor {
        cpus: cpu::parse(cpus, &cpu::allowed())?,
        nodes: cpu::parse_nodes(nodes)?,
        time: CpuTime::read(quota, period, shares).map_err(Error::Invalid)?,
    })
}

/// How long an exec may take; 0 is for ever.
pub fn timeout(milliseconds: u64) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

pub fn resolve_response(found: Found) -> wire::ResolveProgramResponse {
    use wire::resolve_program_response::Program;
    let program = match found {
        Found::Entrypoint => Program::Entrypoint(wire::Empty {}),
        Found::File { path, digest } => Program::File(wire::ProgramFile { path, digest }),
        Found::Nothing(paths) => Program::Nothing(wire::ProgramList { paths }),
    };
    wire::ResolveProgramResponse { program: Some(program) }
}

pub fn container_state(
    id: &ContainerId,
    sandbox: &SandboxId,
    phase: &Phase,
) -> wire::ContainerState {
    use wire::container_state::Phase as WirePhase;
    let wire_phase = match phase {
        Phase::Created => WirePhase::Created,
        Phase::Running { .. } => WirePhase::Running,
        Phase::Exited { .. } => WirePhase::Exited,
    };
    wire::ContainerState {
        id: id.to_string(),
        sandbox_id: sandbox.to_string(),
        phase: wire_phase.into(),
        started_at: phase.started_at(),
        exit: phase.exit().cloned().map(exit),
    }
}

pub fn event(record: ExitRecord) -> wire::Event {
    wire::Event {
        container_id: record.container,
        sandbox_id: record.sandbox,
        exit: Some(exit(record.exit)),
    }
}

pub fn exit(exit: Exit) -> wire::Exit {
    wire::Exit {
        code: exit.code,
        reason: exit.reason.to_string(),
        message: exit.message,
        finished_at: exit.finished_at,
    }
}

pub fn code(asked: wire::Code) -> Result<Code> {
    use wire::code::Form as WireForm;
    Ok(Code {
        path: path(&asked.path)?,
        form: match asked.form() {
            WireForm::Module => Form::Module,
            WireForm::Component => Form::Component,
        },
        sha256: asked.sha256,
        module: asked.module,
        footprint: asked.footprint,
    })
}

fn mount(asked: wire::Mount) -> Result<MountSpec> {
    let propagation = match asked.propagation() {
        wire::mount::Propagation::Private => MountPropagation::Private,
        wire::mount::Propagation::HostToContainer => MountPropagation::HostToContainer,
    };
    let access = match (asked.readonly, asked.recursive) {
        (false, _) => MountAccess::ReadWrite,
        (true, false) => MountAccess::ReadOnly,
        (true, true) => MountAccess::RecursiveReadOnly,
    };
    path(&asked.container_path)?;
    let (host_path, image) = match asked.image {
        Some(image) => (PathBuf::new(), Some(image_source(image)?)),
        None => (path(&asked.host_path)?, None),
    };
    Ok(MountSpec { container_path: asked.container_path, host_path, image, access, propagation })
}

fn image_source(asked: wire::ImageVolume) -> Result<ImageSource> {
    let layers = asked.layers.iter().map(|layer| path(layer)).collect::<Result<_>>()?;
    Ok(ImageSource { layers, sub_path: asked.sub_path })
}

fn path(text: &str) -> Result<PathBuf> {
    let path = PathBuf::from(text);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(Error::Invalid(format!("{text:?} is not an absolute path"))),
    }
}

fn optional_path(text: &str) -> Result<Option<PathBuf>> {
    if text.is_empty() { Ok(None) } else { path(text).map(Some) }
}

/// 0 and less set no limit.
fn bytes(limit: i64) -> u64 {
    u64::try_from(limit).ok().filter(|&limit| limit > 0).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_the_largest_one() {
        assert_eq!(bytes(0), u64::MAX);
        assert_eq!(bytes(-1), u64::MAX);
        assert_eq!(bytes(5), 5);
    }

    #[test]
    fn relative_paths_are_refused() {
        assert!(matches!(path("etc/hosts"), Err(Error::Invalid(_))));
        assert_eq!(optional_path("").expect("none"), None);
    }

    #[test]
    fn stale_code_is_told_as_data_loss_and_a_start_error_as_a_failed_precondition() {
        assert_eq!(status(Error::StaleCode("x".into())).code(), GrpcCode::DataLoss);
        assert_eq!(status(Error::Start("x".into())).code(), GrpcCode::FailedPrecondition);
    }
}
