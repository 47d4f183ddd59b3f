//! postStart and preStop handlers of a container, run through CRI. Knows what a handler is and
//! how it fails; when it runs is the worker's and `stopping`'s.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use super::remote::Remote;
use crate::error::{Error, Result};

/// Characters of a failed hook's output that its error carries.
const SHOWN: usize = 200;

/// Runs a handler to its end. `limit` of `None` lets it take its time (postStart). The error is
/// one line.
pub async fn run(
    remote: &Remote,
    container_id: &str,
    handler: &LifecycleHandler,
    limit: Option<Duration>,
) -> Result<()> {
    if let Some(sleep) = &handler.sleep {
        let time = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(limit.map_or(time, |limit| limit.min(time))).await;
        return Ok(());
    }
    let Some(command) = handler.exec.as_ref().and_then(|exec| exec.command.as_ref()) else {
        return Err(Error::Refused("this kind of lifecycle hook is not supported yet".to_owned()));
    };
    let result = remote.exec(container_id, command, limit).await?;
    if result.exit_code == 0 {
        return Ok(());
    }
    let output: String = result.output.trim().chars().take(SHOWN).collect();
    let output = output.replace('\n', " ");
    let tail = if output.is_empty() { String::new() } else { format!(": {output}") };
    Err(Error::Precondition(format!("exit code {}{tail}", result.exit_code)))
}
