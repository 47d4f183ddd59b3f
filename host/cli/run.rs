//! `wasmpod run`: hands a pod to the agent and shows what becomes of it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tonic::{Code, Streaming};

use super::client::Client;
use super::output::{Clock, Paint};
use super::progress::{Progress, Style};
use super::publish::{Publish, arrow};
use super::{Global, block_on, private};
use crate::agent::manifest::Manifest;
use crate::proto::pod::run_request::Mode;
use crate::proto::pod::watch_response::Item;
use crate::proto::pod::{
    Ended, Event, LogLine, PodPull, PublishedPort, RemoveRequest, RunRequest, RunResponse,
    StopRequest, WatchRequest, WatchResponse, event,
};

/// Bytes of the largest manifest taken (the API server's limit is half of it).
const LARGEST: u64 = 3 << 20;

/// Run a pod: show its events on stderr and its output, end with its exit code.
#[derive(Debug, Args)]
pub struct Run {
    /// Pod manifest, YAML or JSON, with ConfigMaps and Secrets beside the Pod; - reads stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Leave the pod running and print its name.
    #[arg(short, long)]
    detach: bool,
    /// Keep the pod's logs and containers after its end, until `wasmpod rm`.
    #[arg(long, conflicts_with = "detach")]
    keep: bool,
    /// Show no events.
    #[arg(short, long)]
    quiet: bool,
    /// Serve a port of the pod on a port of this machine, of IP alone where one is named;
    /// without HOST on a free one, which `wasmpod ps` shows. May be given several times.
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER[/udp]")]
    publish: Vec<Publish>,
}

impl Run {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        let (text, base_dir) = read(&self.file)?;
        // Read here first: a mistake in the file is told before any daemon is needed.
        let manifest =
            Manifest::parse(&text).with_context(|| format!("reading {}", self.file.display()))?;
        let several = manifest.containers().count() > 1;
        block_on(async {
            let client = private::connect(&endpoint).await?;
            let mode = if self.detach || self.keep { Mode::Detached } else { Mode::Attached };
            let request = RunRequest {
                manifest: text,
                base_dir: base_dir.to_string_lossy().into_owned(),
                mode: mode.into(),
                publish: self.publish.iter().map(PublishedPort::from).collect(),
            };
            let pod = client.pods().run(request).await?.into_inner();
            if self.detach {
                if !self.quiet && !self.publish.is_empty() {
                    let ports: Vec<_> = pod.ports.iter().map(arrow).collect();
                    eprintln!("wasmpod: ports of pod {}: {}", pod.name, ports.join(", "));
                }
                super::output::print(&format!("{} {}\n", pod.uid, pod.name))?;
                return Ok(ExitCode::SUCCESS);
            }
            let request = WatchRequest { uid: pod.uid.clone(), owner: true };
            let stream = client.pods().watch(request).await?.into_inner();
            let printer = Printer::new(several, self.quiet);
            let ended = follow(&client, &pod, stream, printer).await?;
            if !self.keep {
                // The agent forgets the pod as well; waiting for it makes its name free again.
                let request = RemoveRequest { pod: pod.uid.clone(), force: true };
                match client.pods().remove(request).await {
                    Err(status) if status.code() != Code::NotFound => return Err(status.into()),
                    _ => {}
                }
            }
            Ok(ExitCode::from(u8::try_from(ended.exit_code & 0xff).unwrap_or(u8::MAX)))
        })
    }
}

/// The manifest's text and the folder that its relative paths start from.
fn read(file: &Path) -> anyhow::Result<(String, PathBuf)> {
    let here = std::env::current_dir().context("asking for the working directory")?;
    let is_stdin = file == Path::new("-");
    let doing = || {
        format!("reading {}", if is_stdin { "stdin".into() } else { file.display().to_string() })
    };
    let mut source: Box<dyn Read> = if is_stdin {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file).with_context(doing)?)
    };
    let mut bytes = Vec::new();
    source.by_ref().take(LARGEST + 1).read_to_end(&mut bytes).with_context(doing)?;
    if bytes.len() as u64 > LARGEST {
        bail!("{}: larger than {LARGEST} bytes", doing());
    }
    let text = String::from_utf8(bytes).with_context(doing)?;
    let folder = if is_stdin { Path::new("") } else { file.parent().unwrap_or(Path::new("")) };
    Ok((text, here.join(folder)))
}

/// Shows the pod until its end. The first signal ends it gracefully, the second at once.
async fn follow(
    client: &Client,
    pod: &RunResponse,
    mut stream: Streaming<WatchResponse>,
    mut printer: Printer,
) -> anyhow::Result<Ended> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    let mut signals = 0;
    loop {
        tokio::select! {
            message = stream.message() => {
                let message = message.context("watching the pod")?;
                match message.and_then(|message| message.item) {
                    Some(Item::Event(event)) => printer.event(&event)?,
                    Some(Item::Log(line)) => printer.line(&line)?,
                    Some(Item::Pull(pull)) => printer.pull(pull)?,
                    Some(Item::Ended(ended)) => {
                        printer.ended(pod, &ended)?;
                        return Ok(ended);
                    }
                    None => bail!(
                        "the daemon stopped showing pod {}: see `wasmpod ps`", pod.name
                    ),
                }
            }
            _ = interrupt.recv() => signals += 1,
            _ = terminate.recv() => signals += 1,
        }
        if signals > 0 && printer.told < signals {
            printer.told = signals;
            let grace_seconds = if signals > 1 { Some(0) } else { None };
            printer.note(if signals > 1 {
                "killing the pod"
            } else {
                "ending the pod; once more kills it"
            })?;
            let request = StopRequest { pod: pod.uid.clone(), grace_seconds };
            let mut pods = client.pods();
            // Its answer comes with the end, which the stream tells of.
            tokio::spawn(async move { pods.stop(request).await });
        }
    }
}

/// Writes events to stderr and log lines to where the guest wrote them.
#[derive(Debug)]
struct Printer {
    several: bool,
    quiet: bool,
    paint: Paint,
    clock: Clock,
    /// How many signals were answered.
    told: u32,
    progress: Progress,
}

impl Printer {
    fn new(several: bool, quiet: bool) -> Self {
        let (paint, clock) = (Paint::of(&std::io::stderr()), Clock::local());
        let style = if quiet { Style::Nothing } else { Style::terminal_only() };
        let progress = Progress::new(style);
        Self { several, quiet, paint, clock, told: 0, progress }
    }

    fn event(&mut self, event: &Event) -> std::io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let kind = match event.kind() {
            event::Kind::Normal => "Normal",
            event::Kind::Warning => "Warning",
        };
        let subject = if event.container.is_empty() {
            "pod".to_owned()
        } else {
            format!("container {}", event.container)
        };
        let time = self.clock.time(event.time);
        let text = format!("{time} {kind} {} {subject}: {}", event.reason, event.message);
        let color = match event.kind() {
            event::Kind::Normal => "2",
            event::Kind::Warning => "33",
        };
        self.write_event(&text, color)
    }

    /// How far an image is; the events tell the rest.
    fn pull(&mut self, pull: PodPull) -> std::io::Result<()> {
        match pull.progress {
            Some(progress) => self.progress.show(&progress),
            None => self.progress.clear(),
        }
    }

    /// Something that this command does itself.
    fn note(&mut self, text: &str) -> std::io::Result<()> {
        self.write_event(&format!("wasmpod: {text}"), "1")
    }

    fn write_event(&mut self, text: &str, color: &str) -> std::io::Result<()> {
        self.progress.clear()?;
        writeln!(std::io::stderr().lock(), "{}", self.paint.text(text, color))
    }

    fn line(&mut self, line: &LogLine) -> std::io::Result<()> {
        self.progress.clear()?;
        let mut text = Vec::with_capacity(line.line.len() + 32);
        if self.several {
            text.extend_from_slice(line.container.as_bytes());
            text.extend_from_slice(b" | ");
        }
        text.extend_from_slice(&line.line);
        text.push(b'\n');
        if line.stderr {
            std::io::stderr().lock().write_all(&text)
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(&text)?;
            out.flush()
        }
    }

    fn ended(&mut self, pod: &RunResponse, ended: &Ended) -> std::io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let why = if ended.message.is_empty() { "" } else { ": " };
        self.note(&format!(
            "pod {} has {}{why}{}",
            pod.name,
            ended.phase.to_lowercase(),
            ended.message
        ))
    }
}
