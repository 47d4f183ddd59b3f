//! RuntimeService's Exec, Attach and PortForward: each gives a URL at which the client gets its
//! streams.

use super::service::Service;
use super::streaming::Ticket;
use crate::error::{Error, Result};
use crate::model::container::ContainerState;
use crate::model::sandbox::{Realm, SandboxState};
use crate::proto::cri;
use crate::runtime::Wanted;

impl Service {
    pub(super) fn answer_exec(
        &self,
        scope: Option<Realm>,
        request: cri::ExecRequest,
    ) -> Result<cri::ExecResponse> {
        if request.cmd.is_empty() {
            return Err(Error::Invalid("cmd is empty".to_owned()));
        }
        let wanted = Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.tty,
        };
        let ticket = Ticket::Exec {
            container: self.running(scope, &request.container_id)?,
            argv: request.cmd,
            wanted: checked(wanted)?,
        };
        Ok(cri::ExecResponse { url: self.streaming.url(ticket)? })
    }

    pub(super) fn answer_attach(
        &self,
        scope: Option<Realm>,
        request: cri::AttachRequest,
    ) -> Result<cri::AttachResponse> {
        let wanted = Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.tty,
        };
        let container = self.running(scope, &request.container_id)?;
        let ticket = Ticket::Attach { container, wanted: checked(wanted)? };
        Ok(cri::AttachResponse { url: self.streaming.url(ticket)? })
    }

    pub(super) fn answer_port_forward(
        &self,
        scope: Option<Realm>,
        request: cri::PortForwardRequest,
    ) -> Result<cri::PortForwardResponse> {
        let sandbox = self.runtime.sandbox(scope, &request.pod_sandbox_id)?;
        if sandbox.state != SandboxState::Ready {
            let (id, state) = (&sandbox.id, &sandbox.state);
            return Err(Error::Precondition(format!("sandbox {id} is {state}, expected ready")));
        }
        let port = |number: &i32| {
            let port = u16::try_from(*number).ok().filter(|&port| port != 0);
            port.ok_or_else(|| Error::Invalid(format!("port {number} is none from 1 to 65535")))
        };
        let ports = request.port.iter().map(port).collect::<Result<_>>()?;
        let ticket = Ticket::PortForward { sandbox: sandbox.id.to_string(), ports };
        Ok(cri::PortForwardResponse { url: self.streaming.url(ticket)? })
    }

    /// The full id of a container that runs.
    fn running(&self, scope: Option<Realm>, id: &str) -> Result<String> {
        let container = self.runtime.container(scope, id)?;
        match container.state {
            ContainerState::Running { .. } => Ok(container.id.to_string()),
            _ => Err(Error::WrongState {
                id: container.id.clone(),
                state: container.state.clone(),
                expected: "running",
            }),
        }
    }
}

/// CRI's rules for ExecRequest and AttachRequest.
fn checked(wanted: Wanted) -> Result<Wanted> {
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return Err(Error::Invalid("one of stdin, stdout and stderr has to be set".to_owned()));
    }
    if wanted.terminal && wanted.stderr {
        return Err(Error::Invalid(
            "tty and stderr exclude each other: a terminal has one output".to_owned(),
        ));
    }
    Ok(wanted)
}
