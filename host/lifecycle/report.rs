//! How plugins are, for people: what `wasmpod plugin ls` and CRI's Status show.

use std::path::PathBuf;

use serde::Serialize;

use super::bindings::types::Hooks;
use super::manifest::Grants;
use crate::config::FailPolicy;

/// The hooks that a plugin may want, in the interface's order.
const HOOKS: [(&str, Hooks); 17] = [
    ("run-pod-sandbox", Hooks::RUN_POD_SANDBOX),
    ("stop-pod-sandbox", Hooks::STOP_POD_SANDBOX),
    ("remove-pod-sandbox", Hooks::REMOVE_POD_SANDBOX),
    ("update-pod-sandbox", Hooks::UPDATE_POD_SANDBOX),
    ("post-update-pod-sandbox", Hooks::POST_UPDATE_POD_SANDBOX),
    ("pre-create-container", Hooks::PRE_CREATE_CONTAINER),
    ("post-create-container", Hooks::POST_CREATE_CONTAINER),
    ("pre-start-container", Hooks::PRE_START_CONTAINER),
    ("post-start-container", Hooks::POST_START_CONTAINER),
    ("update-container", Hooks::UPDATE_CONTAINER),
    ("post-update-container", Hooks::POST_UPDATE_CONTAINER),
    ("pre-stop-container", Hooks::PRE_STOP_CONTAINER),
    ("post-stop-container", Hooks::POST_STOP_CONTAINER),
    ("remove-container", Hooks::REMOVE_CONTAINER),
    ("container-exited", Hooks::CONTAINER_EXITED),
    ("image-pulled", Hooks::IMAGE_PULLED),
    ("validate-container", Hooks::VALIDATE_CONTAINER),
];

pub fn names(hooks: Hooks) -> Vec<&'static str> {
    let wanted = HOOKS.into_iter().filter(|(_, hook)| hooks.contains(*hook));
    wanted.map(|(name, _)| name).collect()
}

/// How a plugin is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Starting,
    Running,
    /// Its instance broke down; the next one is not ready yet.
    Restarting,
    /// It missed too often and is not asked for a while: its fail policy decides.
    CircuitOpen,
    /// Its file cannot be used, or it did not come through its beginning. Tried again.
    Refused,
    Ended,
}

/// What one plugin is and how it is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub name: String,
    pub index: u32,
    pub state: State,
    /// Instances of this file that broke down.
    pub breakdowns: u32,
    /// Why the last one did, or could not begin; empty where nothing went wrong with this file.
    pub fault: String,
    /// That it wants, as its last instance said.
    pub hooks: Vec<&'static str>,
    pub fail: FailPolicy,
    pub path: PathBuf,
}

/// What is remembered of a plugin's file over its instances.
#[derive(Clone, Debug, Default)]
pub struct Past {
    pub breakdowns: u32,
    pub fault: String,
    /// What its last instance wanted, of whose pods; none where none came so far.
    pub asked: Option<(Hooks, Grants)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_interfaces_in_its_order() {
        let wit = include_str!("../../guest-sdk/wit/types.wit");
        let flags = wit.split_once("flags hooks {").unwrap().1.split_once('}').unwrap().0;
        let flags: Vec<_> = flags.split(',').map(str::trim).filter(|f| !f.is_empty()).collect();
        assert_eq!(HOOKS.map(|(name, _)| name).as_slice(), flags);
        assert_eq!(names(Hooks::IMAGE_PULLED | Hooks::RUN_POD_SANDBOX), [flags[0], flags[15]]);
    }
}
