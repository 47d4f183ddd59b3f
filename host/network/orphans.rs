//! Plugins that outlived the daemon which ran them. Until an ADD has ended, a DEL would miss
//! what it still makes; so they are waited for, and killed only when their time is over.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::model::ids::SandboxId;

const VARIABLE: &[u8] = b"CNI_CONTAINERID=";
const PAUSE: Duration = Duration::from_millis(20);

/// The sandboxes that a plugin works for: processes tell by CNI_CONTAINERID, which plugins hand
/// down to what they run. Blocks.
pub fn sandboxes() -> BTreeSet<SandboxId> {
    processes().into_iter().map(|(_, id)| id).collect()
}

/// Waits until no plugin works for the sandbox, killing what is left after `limit`.
pub async fn settle(id: SandboxId, limit: Duration) {
    let begun = Instant::now();
    loop {
        let wanted = id.clone();
        let found = tokio::task::spawn_blocking(move || {
            processes().into_iter().filter(|(_, id)| *id == wanted).map(|(pid, _)| pid).collect()
        });
        let pids: Vec<Pid> = found.await.unwrap_or_default();
        if pids.is_empty() {
            return;
        }
        if begun.elapsed() > limit {
            tracing::warn!(sandbox = %id, "a CNI plugin of the last daemon hangs and is killed");
            for pid in pids {
                let _ = kill_process(pid, Signal::KILL);
            }
            if begun.elapsed() > limit * 2 {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn processes() -> Vec<(Pid, SandboxId)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            // A process that has ended or is another user's cannot be read.
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let of = environment.split(|byte| *byte == 0).find_map(|v| v.strip_prefix(VARIABLE))?;
            let id = SandboxId::parse(std::str::from_utf8(of).ok()?)?;
            (pid != own).then_some((Pid::from_raw(pid)?, id))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn a_plugin_is_waited_for_and_killed_when_its_time_is_over() {
        let id = SandboxId::random();
        let mut hanging =
            Command::new("sleep").arg("1000").env("CNI_CONTAINERID", id.as_str()).spawn().unwrap();
        while !sandboxes().contains(&id) {
            tokio::task::yield_now().await;
        }
        settle(id.clone(), Duration::from_millis(50)).await;
        assert!(!hanging.wait().unwrap().success());
        assert!(!sandboxes().contains(&id));
        settle(id, Duration::from_secs(1000)).await;
    }
}
