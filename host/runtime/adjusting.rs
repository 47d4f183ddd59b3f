//! Containers as plugins want them: adjusted, validated, made, and unmade when that was in vain.

use super::Runtime;
use super::change::Change;
use super::containers::{Plan, by_id};
use crate::error::{Error, Result};
use crate::lifecycle::{Adjusted, Shown, Step};
use crate::model::container::{Container, ContainerConfig};
use crate::model::sandbox::Sandbox;

impl Runtime {
    /// Has the plugins adjust and validate the container, then makes it.
    pub(super) async fn make_adjusted(
        &self,
        sandbox: &Sandbox,
        container: Container,
        plan: Plan,
    ) -> Result<()> {
        let chain = self.chain()?;
        let is_asked = chain.concerns(sandbox);
        let adjusted = match is_asked {
            false => None,
            true => chain.adjust(sandbox, shown(&container, &plan)).await?,
        };
        let (container, plan, updates) = match adjusted {
            None => (container, plan, Vec::new()),
            Some(Adjusted { config, updates }) => {
                let by = adjusted_by(&config);
                let planned = self.replan(sandbox, (container, plan), config).await;
                let (container, plan) =
                    planned.map_err(|error| Error::Precondition(format!("{by}{error}")))?;
                (container, plan, updates)
            }
        };
        if is_asked {
            chain.validate(sandbox, shown(&container, &plan)).await?;
        }
        let made = self.make_planned(sandbox, &container, &plan).await;
        made.map_err(|error| match error {
            // What a machine lacks, the shim finds.
            Error::Invalid(why) => Error::Invalid(adjusted_by(&container.config) + &why),
            other => other,
        })?;
        if !is_asked {
            return Ok(());
        }
        if let Err(error) = chain.created(&container.id, updates).await {
            self.unmake(&container).await;
            return Err(error);
        }
        self.tell_plugins(Step::CreatedContainer, sandbox, Some(&container)).await;
        Ok(())
    }

    async fn unmake(&self, container: &Container) {
        if let Ok(shim) = self.shim_of(container) {
            // A shim that is dead holds none.
            let _ = shim.wire().remove_container(by_id(&container.id)).await;
        }
        self.sweep(vec![self.folders.root_of(&container.id)]).await;
        if let Err(error) =
            self.records.change(vec![Change::ForgetContainer(container.id.clone())]).await
        {
            tracing::warn!(container = %container.id, %error, "a refused container stays");
        }
    }
}

/// Before what is wrong with a container: the names of those who made it so.
fn adjusted_by(config: &ContainerConfig) -> String {
    let by: Vec<_> = config.adjusted.plugins().into_iter().collect();
    if by.is_empty() {
        String::new()
    } else {
        format!("as adjusted by plugins {}: ", by.join(", "))
    }
}

fn shown<'a>(container: &'a Container, plan: &'a Plan) -> Shown<'a> {
    Shown { container, argv: &plan.launch.argv, env: &plan.launch.env }
}
