//! `wasmpod plugin run`: one hook of a plugin asked without a daemon, and what it would do shown.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::diff::{Difference, differences, lines};
use super::{examine, example, said};
use crate::cli::block_on;
use crate::cli::output::{self, Format, Paint};
use crate::config::PluginConfig;
use crate::lifecycle::trial::{Change, Event, Fixture, Kind, Outcome, Trial, Verdict};

/// Bytes of a fixture that is taken for one.
const LARGEST: u64 = 16 << 20;

/// Ask one hook of a plugin, or of a pod's own hooks, without a daemon, and show what it would do: what it changes as a diff,
/// what it tells, updates, allocates and keeps. What it logs comes on stderr.
///
/// The exit status is 1 where it refuses, fails or cannot be used.
#[derive(Debug, Args)]
pub struct Run {
    /// The component's file.
    #[arg(value_name = "HOOK.wasm", required_unless_present = "example")]
    file: Option<PathBuf>,
    /// What happens, as JSON; - reads stdin. `--example` prints one to begin with.
    #[arg(long, value_name = "FIXTURE.json", required_unless_present = "example")]
    event: Option<PathBuf>,
    /// The plugin's settings, TOML or, in a .json file, JSON; by default the fixture's.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Host functions that it is granted, as the configuration names them.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "*")]
    functions: Vec<String>,
    /// Fields that it is granted.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "*")]
    fields: Vec<String>,
    /// Namespaces that it is granted.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "*")]
    namespaces: Vec<String>,
    /// Milliseconds that each call may take.
    #[arg(long, value_name = "MS", default_value_t = PluginConfig::default().deadline_ms)]
    deadline_ms: u32,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Print a fixture for this hook, and do nothing else.
    #[arg(long, value_name = "HOOK", conflicts_with_all = ["file", "event"])]
    example: Option<String>,
}

/// An outcome for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// Of the container.
    changes: Vec<Difference>,
}

impl Run {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(hook) = &self.example {
            output::print(&example::text(hook)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let (Some(file), Some(event)) = (&self.file, &self.event) else {
            bail!("a component and an event are needed");
        };
        // What is no plugin at all is told without a look at the event.
        let examination = examine::file(file)?;
        let kind = match examination.world {
            "plugin" => Kind::Plugin,
            _ => Kind::PodHooks,
        };
        let doing = || match is_stdin(event) {
            true => "reading stdin".to_owned(),
            false => format!("reading {}", event.display()),
        };
        let fixture = Fixture::parse(&read(event).with_context(doing)?).with_context(doing)?;
        let settings = match &self.settings {
            Some(file) => settings(file).with_context(|| format!("reading {}", file.display()))?,
            None => toml::Table::new(),
        };
        let config = PluginConfig {
            path: file.clone(),
            deadline_ms: self.deadline_ms,
            functions: self.functions.clone(),
            fields: self.fields.clone(),
            namespaces: self.namespaces.clone(),
            settings,
            ..PluginConfig::default()
        };
        said::to_stderr();
        let trial = Trial { kind, name: super::name(file), config, fixture };
        let outcome = block_on(async {
            tokio::select! {
                outcome = trial.run() => Ok(outcome?),
                _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            }
        })?;
        self.show(&outcome)?;
        match &outcome.verdict {
            Verdict::Passed | Verdict::NotAsked(_) => Ok(ExitCode::SUCCESS),
            Verdict::Refused(_) | Verdict::Failed(_) if self.output == Format::Json => {
                Ok(ExitCode::FAILURE)
            }
            Verdict::Refused(why) | Verdict::Failed(why) => bail!("{why}"),
        }
    }

    fn show(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let changes = match &outcome.container {
            Some(change) => of(change)?,
            None => Vec::new(),
        };
        if self.output == Format::Json {
            return output::print_json(&Told { outcome, changes });
        }
        let paint = Paint::of(&std::io::stdout());
        Ok(output::print(&text(outcome, &changes, paint)?)?)
    }
}

fn of<T: Serialize>(change: &Change<T>) -> anyhow::Result<Vec<Difference>> {
    let json = |value: &T| serde_json::to_value(value).context("writing an outcome");
    Ok(differences(&json(&change.before)?, &json(&change.after)?))
}

fn text(outcome: &Outcome, changes: &[Difference], paint: Paint) -> anyhow::Result<String> {
    let Outcome { plugin, hook, subject, .. } = outcome;
    let mut text = match &outcome.verdict {
        Verdict::NotAsked(why) => format!("{plugin} is not asked: {why}\n"),
        Verdict::Refused(_) => format!("{plugin} refuses {subject} ({hook})\n"),
        Verdict::Failed(_) => format!("{plugin} fails with {subject} ({hook})\n"),
        Verdict::Passed => match &outcome.container {
            Some(_) if changes.is_empty() => {
                format!("{plugin} leaves {subject} as it is ({hook})\n")
            }
            Some(_) => format!("{plugin} changes {subject} ({hook}):\n"),
            None if subject.is_empty() => format!("{plugin} begins and ends ({hook})\n"),
            None => format!("{plugin} passes {subject} ({hook})\n"),
        },
    };
    text += &lines(changes, paint);
    for event in &outcome.events {
        let Event { subject, severity, reason, message } = event;
        text += &format!("event: {severity} {reason} of {subject}: {message}\n");
    }
    for update in &outcome.updates {
        let changed = of(&Change { before: &update.before, after: &update.after })?;
        text += &format!("update of {}:\n{}", update.subject, lines(&changed, paint));
    }
    for (what, change) in [("allocated CPUs", &outcome.allocations), ("kept state", &outcome.kv)] {
        let changed = of(change)?;
        if !changed.is_empty() {
            text += &format!("{what}:\n{}", lines(&changed, paint));
        }
    }
    Ok(text)
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut source: Box<dyn Read> = if is_stdin(file) {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file)?)
    };
    let mut bytes = Vec::new();
    source.by_ref().take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        bail!("it is larger than {} MiB", LARGEST >> 20);
    }
    Ok(String::from_utf8(bytes)?)
}

fn settings(file: &Path) -> anyhow::Result<toml::Table> {
    let text = read(file)?;
    Ok(match file.extension().is_some_and(|extension| extension == "json") {
        true => serde_json::from_str(&text)?,
        false => toml::from_str(&text)?,
    })
}
