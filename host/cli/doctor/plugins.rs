//! Whether the node's plugins are as they must be: how the daemon says that they are, or, where none
//! answers, what their files say.

use super::super::plugin::ls::{Listed, ask};
use super::super::plugin::{check_of, examine};
use super::super::store::Store;
use super::{Patient, Report};
use crate::config::PluginConfig;
use crate::model::finding::Finding;

const AGAIN: &str = "mend it: its file is read anew when it changes";

pub async fn check(patient: &Patient) -> Vec<Report> {
    let findings = match &patient.store {
        Ok(Store::Daemon(client)) => match ask(client).await {
            Ok(plugins) => plugins.iter().map(living).collect(),
            Err(error) => {
                vec![
                    Finding::warning("plugins", super::super::one_line(&error))
                        .mend("restart the daemon: its pods run on"),
                ]
            }
        },
        Ok(Store::Own(_)) => patient.config.plugins.iter().map(configured).collect(),
        // The daemon's check says why.
        Err(_) => Vec::new(),
    };
    if findings.is_empty() { Vec::new() } else { vec![Report { check: "plugins", findings }] }
}

fn living(plugin: &Listed) -> Finding {
    let Listed { name, state, fault, .. } = plugin;
    let state = state.replace('-', " ");
    match (state.as_str(), fault.as_str()) {
        ("running", "") => Finding::fine(name, "runs"),
        ("running", fault) => {
            Finding::warning(name, format!("runs again; before, it {fault}")).mend(AGAIN)
        }
        ("refused", fault) => {
            Finding::error(name, format!("cannot be used: {fault}")).mend(check_of(&plugin.path))
        }
        (state, "") => {
            Finding::warning(name, format!("is {state}")).mend("wait: it is compiled first")
        }
        (state, fault) => Finding::warning(name, format!("is {state}: it {fault}")).mend(AGAIN),
    }
}

fn configured((name, plugin): (&String, &PluginConfig)) -> Finding {
    let path = plugin.path.display().to_string();
    match examine::file(&plugin.path) {
        Err(error) => Finding::error(name, super::super::one_line(&error))
            .mend(format!("set plugins.{name}.path to a plugin's file")),
        Ok(found) => match found.problems.first() {
            Some(problem) => Finding::error(name, problem.as_str()).mend(check_of(&path)),
            None => Finding::fine(name, format!("{} {path}", found.interface)),
        },
    }
}
