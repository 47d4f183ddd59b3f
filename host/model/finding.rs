//! What a check of the node says: `wasmpod doctor`'s words.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Works, and somebody should know.
    Warning,
    /// Something is broken or lost.
    Error,
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// What it is about: a name, a digest, a path.
    pub subject: String,
    /// One clause.
    pub what: String,
    /// What to do; empty where nothing is to be done.
    pub mend: String,
}

impl Finding {
    pub fn fine(subject: impl Into<String>, what: impl Into<String>) -> Self {
        let (subject, what) = (subject.into(), what.into());
        Self { severity: Severity::Fine, subject, what, mend: String::new() }
    }

    pub fn warning(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::fine(subject, what) }
    }

    pub fn error(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::fine(subject, what) }
    }

    /// The same with what to do about it.
    pub fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: mend.into(), ..self }
    }
}
