//! `wasmpod logs`: a container's output, from the log file that CRI names.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::client::Client;
use super::objects::{Found, PodView, Snapshot, attempt, container_name};
use super::{Global, block_on};
use crate::agent::logs::{Line, LogReader, Progress, Stream};
use crate::cri::client::RealmScope;
use crate::proto::cri;
use crate::watch::FolderWatch;

/// Between two looks at whether a followed container still runs.
const LOOK: Duration = Duration::from_millis(500);

/// Print the output of a pod's container.
#[derive(Debug, Args)]
pub struct Logs {
    /// Pod (name, namespace/name or uid) or container id.
    #[arg(value_name = "POD|CONTAINER")]
    target: String,
    /// Container of the pod.
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Go on until the container ends.
    #[arg(short, long)]
    follow: bool,
    /// Of the attempt before the newest one.
    #[arg(short, long)]
    previous: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// Print each line's time.
    #[arg(long)]
    timestamps: bool,
}

impl Logs {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        block_on(async {
            let client = Client::connect(&endpoint).await?;
            let snapshot = Snapshot::fetch(&client).await?;
            let container = match snapshot.find(&self.target)? {
                Found::Pod(pod) => self.choose(pod)?,
                Found::Container(pod, container) if self.previous => {
                    before(pod, container, container_name(container))?
                }
                Found::Container(_, container) => container,
            };
            self.print(&client, &container.id).await
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn choose<'a>(&self, pod: &'a PodView) -> anyhow::Result<&'a cri::Container> {
        let attempts = pod.attempts(self.container.as_deref())?;
        let newest = *attempts.first().context("the container has no attempt")?;
        if self.previous {
            return before(pod, newest, container_name(newest));
        }
        Ok(newest)
    }

    async fn print(&self, client: &Client, id: &str) -> anyhow::Result<()> {
        let status = status(client, id).await?.context("the container is gone")?;
        if status.log_path.is_empty() {
            bail!("container {} keeps no log", super::output::short(id));
        }
        let mut reader = LogReader::new(&status.log_path);
        let watch = reader.path().parent().map(FolderWatch::new);
        let mut tail = self.tail;
        loop {
            let over = !self.follow || !is_running(client, id).await?;
            let mut lines = Vec::new();
            loop {
                let progress = reader.read(&mut lines);
                let progress =
                    progress.with_context(|| format!("reading {}", reader.path().display()))?;
                if let Some(count) = tail {
                    lines.drain(..lines.len().saturating_sub(count));
                } else {
                    self.write(&mut lines)?;
                }
                if progress == Progress::CaughtUp {
                    break;
                }
            }
            if over {
                reader.finish(&mut lines);
            }
            self.write(&mut lines)?;
            tail = None;
            if over {
                return Ok(());
            }
            let changed = async {
                match &watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            // The timeout is the next look at the container.
            let _ = tokio::time::timeout(LOOK, changed).await;
        }
    }

    fn write(&self, lines: &mut Vec<Line>) -> std::io::Result<()> {
        let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
        for line in lines.drain(..) {
            let sink: &mut dyn Write = match line.stream {
                Stream::Stdout => &mut out,
                Stream::Stderr => &mut err,
            };
            if self.timestamps
                && let Ok(time) = jiff::Timestamp::from_nanosecond(i128::from(line.time))
            {
                write!(sink, "{time:.9} ")?;
            }
            sink.write_all(&line.text)?;
            sink.write_all(b"\n")?;
        }
        out.flush()
    }
}

fn before<'a>(
    pod: &'a PodView,
    container: &cri::Container,
    name: &str,
) -> anyhow::Result<&'a cri::Container> {
    let attempts = pod.attempts(Some(name))?;
    let earlier = attempts.into_iter().find(|other| attempt(other) < attempt(container));
    earlier.with_context(|| format!("container {name} has no earlier attempt"))
}

async fn status(client: &Client, id: &str) -> anyhow::Result<Option<cri::ContainerStatus>> {
    let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    match client.in_realm(RealmScope::All).runtime().container_status(request).await {
        Ok(answer) => Ok(answer.into_inner().status),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}

async fn is_running(client: &Client, id: &str) -> anyhow::Result<bool> {
    let status = status(client, id).await?;
    Ok(status.is_some_and(|status| status.state() != cri::ContainerState::ContainerExited))
}
