//! Finding a shim that takes a sandbox, and the record of that.

use std::sync::Arc;
use std::time::Duration;

use super::Runtime;
use super::change::Change;
use super::client::answer_within;
use super::sandboxes::by_id;
use super::shims::{Seat, Shim};
use crate::error::{Error, Result};
use crate::model::handler::ProcessPlace;
use crate::model::ids::SandboxId;
use crate::model::sandbox::{Sandbox, SandboxVerb};
use crate::proto::shim as wire;
use crate::telemetry::trace::phase;

/// How many shims are asked for a place before giving up: one may be full, one may die.
const PLACES: usize = 4;

/// How long a shim may take to make a sandbox before another one is asked.
const SEATING: Duration = Duration::from_secs(15);

impl Runtime {
    async fn seat(&self, sandbox: &Sandbox, place: ProcessPlace) -> Result<Seat> {
        match place {
            ProcessPlace::Shared => self.shims.shared_seat().await,
            ProcessPlace::Pod => {
                self.shims.own_seat(&sandbox.id, &sandbox.config.cgroup_parent).await
            }
        }
    }

    /// Asks one shim after the other: one may be full, dead without the pool's knowing, or die
    /// in the middle of it.
    pub(super) async fn seat_sandbox(
        &self,
        sandbox: &Sandbox,
        place: ProcessPlace,
        request: &wire::CreateSandboxRequest,
    ) -> Result<Seat> {
        let mut left = PLACES;
        loop {
            left -= 1;
            let seated = match self.seat(sandbox, place).await {
                Ok(seat) => self.try_seat(sandbox, seat, request.clone()).await,
                // A shim that cannot even be begun says so for most others too.
                Err(error) => {
                    left = left.min(1);
                    Err(error)
                }
            };
            match seated {
                Err(Error::Exhausted(_) | Error::Unavailable(_)) if left > 0 => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_seat(
        &self,
        sandbox: &Sandbox,
        seat: Seat,
        request: wire::CreateSandboxRequest,
    ) -> Result<Seat> {
        let shim = seat.shim().clone();
        let mut wire = shim.wire();
        let call = answer_within(SEATING, "making a sandbox", wire.create_sandbox(request));
        let ready = Change::Sandbox(sandbox.id.clone(), SandboxVerb::Ready(shim.id.clone()));
        let error = match tokio::join!(call, self.records.foretell(ready)) {
            (Ok(_), Ok(())) => return Ok(seat),
            (Err(error), _) | (_, Err(error)) => error,
        };
        match &error {
            Error::Exhausted(_) => seat.refused(),
            Error::Unavailable(_) => {
                // Full keeps others from it meanwhile.
                seat.refused();
                self.leave(&shim, &sandbox.id).await;
            }
            // It may have been made and the answer lost.
            _ => self.leave(&shim, &sandbox.id).await,
        }
        Err(error)
    }

    /// Sees to it that a shim which failed does not keep the sandbox: buries it where it is dead,
    /// so that its cgroup is free for the next, else asks it to, however late it hears.
    pub(super) async fn leave(&self, shim: &Arc<Shim>, id: &SandboxId) {
        if super::client::is_gone(&shim.folder.socket()).await {
            super::exits::bury(&self.shims, &shim.id).await;
            return;
        }
        let (mut wire, request) = (shim.wire(), by_id(id));
        tokio::spawn(async move {
            // One that has died meanwhile keeps nothing.
            let _ = wire.remove_sandbox(request).await;
        });
    }

    pub(super) async fn record_ready(&self, sandbox: &Sandbox, seat: Seat) -> Result<()> {
        let shim = seat.shim().clone();
        let ready = SandboxVerb::Ready(shim.id.clone());
        let ready = Change::Sandbox(sandbox.id.clone(), ready);
        let recorded = phase("record", &[], self.records.change_passing(ready)).await;
        // A shim that died before the record named it was buried without this sandbox.
        if recorded.is_ok() && self.shims.is_alive(&shim.id) {
            seat.keep();
            return Ok(());
        }
        self.leave(&shim, &sandbox.id).await;
        recorded?;
        // As if it had never been ready: for the next try, or for the daemon after a kill.
        let again =
            vec![Change::ForgetSandbox(sandbox.id.clone()), Change::AddSandbox(sandbox.clone())];
        self.records.change(again).await?;
        Err(Error::Unavailable("the sandbox's shim ended while it was made".to_owned()))
    }
}
