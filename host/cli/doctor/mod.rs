//! `wasmpod doctor`: is everything as it must be, and what to do where it is not. One file per
//! check; a check is a function that looks and changes nothing, named once in [`CHECKS`].

mod daemon;
mod disk;
mod images;
mod kernel;
mod network;
mod plugins;

use std::process::ExitCode;

use clap::Args;
use futures::future::LocalBoxFuture;
use serde::Serialize;

use super::output::{self, Format};
use super::store::{Place, Store};
use super::{Endpoint, Global, block_on};
use crate::config::Config;
use crate::model::finding::{Finding, Severity};
use crate::proto::pod as wire;

/// Check the daemon, this machine, the pods' network, plugins, and every image and its machine code,
/// and say how to mend what is wrong. Exit status 1 when something is.
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    place: Place,
    /// How to print what was found.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What every check may look at.
struct Patient {
    endpoint: Endpoint,
    config: Config,
    /// Or why there is none.
    store: anyhow::Result<Store>,
}

impl From<wire::Finding> for Finding {
    fn from(found: wire::Finding) -> Self {
        let severity = match found.severity() {
            wire::finding::Severity::Fine => Severity::Fine,
            wire::finding::Severity::Warning => Severity::Warning,
            wire::finding::Severity::Error => Severity::Error,
        };
        let wire::Finding { subject, what, mend, .. } = found;
        Self { severity, subject, what, mend }
    }
}

/// What a check was about, and what it found.
struct Report {
    check: &'static str,
    findings: Vec<Finding>,
}

type Check = for<'a> fn(&'a Patient) -> LocalBoxFuture<'a, Vec<Report>>;

/// In the order in which people want to read.
const CHECKS: [Check; 6] = [
    |patient| Box::pin(daemon::check(patient)),
    |patient| Box::pin(kernel::check(patient)),
    |patient| Box::pin(network::check(patient)),
    |patient| Box::pin(plugins::check(patient)),
    |patient| Box::pin(disk::check(patient)),
    |patient| Box::pin(images::check(patient)),
];

#[derive(Serialize)]
struct Item<'a> {
    check: &'a str,
    #[serde(flatten)]
    finding: &'a Finding,
}

impl Doctor {
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let endpoint = global.endpoint()?;
        let config = self.place.config()?;
        let reports = block_on(async {
            let store = self.place.open(global).await;
            let patient = Patient { endpoint, config, store };
            let mut reports = Vec::new();
            for check in CHECKS {
                reports.extend(check(&patient).await);
            }
            Ok(reports)
        })?;
        let all = || reports.iter().flat_map(|r| r.findings.iter().map(move |f| (r.check, f)));
        match self.output {
            Format::Json => {
                let items: Vec<_> = all().map(|(check, finding)| Item { check, finding }).collect();
                output::print_json(&items)?;
            }
            Format::Table => output::print(&text(&reports))?,
        }
        let sick = all().any(|(_, finding)| finding.severity == Severity::Error);
        Ok(if sick { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn text(reports: &[Report]) -> String {
    let mut text = String::new();
    for Report { check, findings } in reports {
        for Finding { severity, subject, what, mend } in findings {
            let mark = match severity {
                Severity::Fine => "fine   ",
                Severity::Warning => "warning",
                Severity::Error => "ERROR  ",
            };
            text.push_str(&format!("{mark}  {check}: {subject}: {what}\n"));
            if !mend.is_empty() {
                text.push_str(&format!("         mend: {mend}\n"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_shown_with_its_cure() {
        let wrong = Finding::error("app:1", "its layer is missing").mend("restart the daemon");
        let findings = vec![Finding::fine("/x", "3 images"), wrong];
        let text = text(&[Report { check: "images", findings }]);
        let expected = "fine     images: /x: 3 images\n\
                        ERROR    images: app:1: its layer is missing\n\
                        \x20        mend: restart the daemon\n";
        assert_eq!(text, expected);
    }
}
