//! This command's standard streams as those of a program in a container: copying, the raw mode
//! of a terminal and its size, and the program's exit status.

use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cri::streaming::client::{Client, Inflow, Output};
use crate::runtime::Wanted;

/// Bytes of input in one piece.
const PIECE: usize = 32 << 10;

/// Connects to a streaming URL and carries its streams until the program has ended.
pub async fn carry(url: &str, wanted: Wanted) -> anyhow::Result<ExitCode> {
    let mut remote = Client::remote(url, wanted).await?;
    let _raw = (wanted.terminal && wanted.stdin).then(Raw::enter).flatten();
    if let Some(sizes) = remote.sizes.take() {
        tokio::spawn(tell_sizes(sizes));
    }
    if let Some(stdin) = remote.stdin.take() {
        tokio::spawn(type_in(stdin));
    }
    let (out, err) = (remote.stdout.take(), remote.stderr.take());
    let (out, err) = futures::join!(show(out, std::io::stdout()), show(err, std::io::stderr()));
    out.and(err)?;
    let mut status = Vec::new();
    while let Ok(Some(bytes)) = remote.status.next().await {
        status.extend_from_slice(&bytes);
    }
    ended(&status)
}

/// The exit status that a metav1.Status tells.
fn ended(status: &[u8]) -> anyhow::Result<ExitCode> {
    if status.is_empty() {
        bail!("the daemon closed the connection before the program had ended");
    }
    let status: Status = serde_json::from_slice(status).context("reading how the program ended")?;
    if status.status == "Success" {
        return Ok(ExitCode::SUCCESS);
    }
    let cause = status.details.causes.into_iter().next().unwrap_or_default().message;
    match cause.parse::<i32>().ok().filter(|_| status.reason == "NonZeroExitCode") {
        Some(code) => Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
        None if cause.is_empty() => Err(anyhow!("{}", status.message)),
        None => Err(anyhow!("{cause}")),
    }
}

/// What is read of a metav1.Status.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    status: String,
    reason: String,
    message: String,
    details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cause {
    message: String,
}

async fn show(from: Option<Inflow>, mut to: impl Write) -> anyhow::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    while let Ok(Some(bytes)) = from.next().await {
        to.write_all(&bytes)?;
        to.flush()?;
    }
    Ok(())
}

async fn type_in(mut to: Output) {
    let (pieces, mut read) = mpsc::channel::<Bytes>(4);
    // A thread, because a read of standard input cannot be given up.
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            let piece = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
            if pieces.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    while let Some(piece) = read.recv().await {
        if to.send(piece).await.is_err() {
            return;
        }
    }
    to.finish().await;
}

/// Tells the size of this command's terminal, now and whenever it changes.
async fn tell_sizes(mut to: Output) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Ok(size) = tcgetwinsize(std::io::stdout()) {
            let size = serde_json::json!({"Width": size.ws_col, "Height": size.ws_row});
            if to.send(size.to_string().into()).await.is_err() {
                return;
            }
        }
        changes.recv().await;
    }
}

/// This command's terminal, giving every key to the program; as it was when dropped.
struct Raw(Termios);

impl Raw {
    /// `None` where standard input is no terminal.
    fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = isatty(&stdin).then(|| tcgetattr(&stdin).ok()).flatten()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_an_exit_status_or_a_sentence() {
        assert_eq!(ended(br#"{"status":"Success"}"#).unwrap(), ExitCode::SUCCESS);
        let failed = br#"{"status":"Failure","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        assert_eq!(ended(failed).unwrap(), ExitCode::from(3));
        let refused = br#"{"status":"Failure","details":{"causes":[{"message":"no program"}]}}"#;
        assert_eq!(ended(refused).unwrap_err().to_string(), "no program");
        assert!(ended(b"").unwrap_err().to_string().contains("before the program had ended"));
    }
}
