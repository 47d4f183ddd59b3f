//! What `wasmpod events` and the CRI's event stream tell (interface `events`).

use crate::{Result, backend};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Normal,
    Warning,
}

/// Of a pod, or of one of its containers. `reason` is one word in CamelCase, of at most 128 bytes;
/// `message` at most 1,024. A plugin has 100 in a minute; more are an error.
pub fn emit(id: &str, severity: Severity, reason: &str, message: &str) -> Result<()> {
    backend::events::emit(id, severity, reason, message)
}
