//! The private daemon that `wasmpod run` starts where none listens: `wasmpod serve` with the
//! default folders, away from this terminal, ending by itself once it has nothing to do.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Endpoint;
use super::client::Client;
use crate::config::folders;

/// How long a daemon may take to answer.
const STARTING: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(10);

/// Connects to the daemon; where none listens and none was named, starts one.
pub async fn connect(endpoint: &Endpoint) -> anyhow::Result<Client> {
    let refused = match (Client::connect(endpoint).await, endpoint) {
        (Ok(client), _) => return Ok(client),
        (Err(error), Endpoint::Given(_)) => return Err(error),
        (Err(error), Endpoint::Default(_)) => error,
    };
    let Some(state) = endpoint.path().parent() else { return Err(refused) };
    let log = state.join("serve.log");
    let mut daemon = start(state, &log).context("starting a private daemon")?;
    let began = Instant::now();
    loop {
        // Sockets listen before the daemon is ready, so a connection may be answered late.
        if let Ok(client) = Client::connect(endpoint).await {
            return Ok(client);
        }
        let ended = daemon.try_wait().context("waiting for the private daemon")?;
        if ended.is_some() || began.elapsed() > STARTING {
            // Another command may have started one at the same time.
            if let Ok(client) = Client::connect(endpoint).await {
                return Ok(client);
            }
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            bail!("the private daemon did not start ({}): {last}", log.display());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn start(state: &Path, log: &Path) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("asking for this program's path")?;
    folders::make_state(state)?;
    let mut options = OpenOptions::new();
    let log = options
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .with_context(|| format!("opening {}", log.display()))?;
    Command::new(program)
        .args(["serve", "--until-idle"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Not in the terminal's foreground group: Ctrl-C is for `run` alone.
        .process_group(0)
        .spawn()
        .context("running wasmpod serve")
}
