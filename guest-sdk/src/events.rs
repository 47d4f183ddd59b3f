//! What `wasmpod events` and the CRI's event stream tell (interface `events`).

use crate::{Result, backend};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Normal,
    Warning,
}

/// Tells an event of a pod, or of one of its containers, by the whole id. `reason` is one word in
/// CamelCase: 1 to 128 ASCII letters and digits. `message` is one line; what is longer than 1,024
/// bytes is cut.
///
/// An error where the reason is none, where the plugin sees no such pod or container (or not yet:
/// it is being made; or no more: it is removed), and of more than 100 events in a minute.
pub fn emit(id: &str, severity: Severity, reason: &str, message: &str) -> Result<()> {
    backend::events::emit(id, severity, reason, message)
}
