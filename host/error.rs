//! The library's one error type. Every variant says what was being done or what was wrong, in
//! one line and lower case; `cri` alone turns variants into gRPC codes.

use std::io;

use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `what` is a noun: sandbox, container, image, pod.
    #[error("{what} {id:?} not found")]
    NotFound { what: &'static str, id: String },
    /// As `NotFound`, of an image that is asked for elsewhere.
    #[error("registry {registry} has no image {name}")]
    NotInRegistry { registry: String, name: String },
    #[error("{what} id {id:?} is ambiguous: {count} match")]
    Ambiguous { what: &'static str, id: String, count: usize },
    #[error("name {name:?} is reserved for {holder}")]
    NameReserved { name: String, holder: String },
    #[error("container {id} is {state}, expected {expected}")]
    WrongState { id: ContainerId, state: ContainerState, expected: &'static str },
    /// The caller's input is malformed.
    #[error("{0}")]
    Invalid(String),
    /// The caller's input is well-formed and asks for what wasmpod does not give; names it.
    #[error("{0}")]
    Refused(String),
    /// The state of something else forbids it (a sandbox that is not ready, an image in use).
    #[error("{0}")]
    Precondition(String),
    /// The guest could not be started; the container is EXITED 128 StartError.
    #[error("{0}")]
    Start(String),
    /// Machine code that is corrupt or another build's: it is to be made anew (the shim's
    /// DATA_LOSS).
    #[error("{0}")]
    StaleCode(String),
    #[error("{0}")]
    DeadlineExceeded(String),
    /// A limit of the node or of a process is reached.
    #[error("{0}")]
    Exhausted(String),
    /// A shim or the daemon cannot be reached now.
    #[error("{0}")]
    Unavailable(String),
    /// The node's policy does not let an image in. The prefix is the kubelet's word
    /// (cri-api/pkg/errors).
    #[error("SignatureValidationFailed: {0}")]
    Unsigned(String),
    /// A registry cannot be reached or cannot answer now. The prefix is the kubelet's word
    /// (cri-api/pkg/errors), by which it tells this from other failures.
    #[error("RegistryUnavailable: {0}")]
    RegistryUnavailable(String),
    /// Whoever asks may not have it.
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Unimplemented(String),
    /// `doing` continues "while": "writing /var/lib/...".
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    /// A network plugin failed, or its configuration is wrong; names it.
    #[error("{0}")]
    Network(String),
    /// Something of wasmpod's own is not as it must be.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    pub fn not_found(what: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound { what, id: id.into() }
    }

    /// For `map_err`: keeps the system's error and says what was being done.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// The same error, with what it is about in front.
    pub fn about(self, what: &str) -> Self {
        let told = |text: String| format!("{what}: {text}");
        match self {
            Self::Invalid(text) => Self::Invalid(told(text)),
            Self::Refused(text) => Self::Refused(told(text)),
            Self::Denied(text) => Self::Denied(told(text)),
            Self::StaleCode(text) => Self::StaleCode(told(text)),
            Self::Unavailable(text) => Self::Unavailable(told(text)),
            Self::DeadlineExceeded(text) => Self::DeadlineExceeded(told(text)),
            Self::Exhausted(text) => Self::Exhausted(told(text)),
            Self::Unsigned(text) => Self::Unsigned(told(text)),
            Self::RegistryUnavailable(text) => Self::RegistryUnavailable(told(text)),
            other => Self::Precondition(told(other.to_string())),
        }
    }

    /// The same error once more, for another one who waits for the same thing.
    pub fn copy(&self) -> Self {
        match self {
            Self::NotFound { what, id } => Self::NotFound { what, id: id.clone() },
            Self::NotInRegistry { registry, name } => {
                Self::NotInRegistry { registry: registry.clone(), name: name.clone() }
            }
            Self::Ambiguous { what, id, count } => {
                Self::Ambiguous { what, id: id.clone(), count: *count }
            }
            Self::NameReserved { name, holder } => {
                Self::NameReserved { name: name.clone(), holder: holder.clone() }
            }
            Self::WrongState { id, state, expected } => {
                Self::WrongState { id: id.clone(), state: state.clone(), expected }
            }
            Self::Invalid(text) => Self::Invalid(text.clone()),
            Self::Refused(text) => Self::Refused(text.clone()),
            Self::Precondition(text) => Self::Precondition(text.clone()),
            Self::Start(text) => Self::Start(text.clone()),
            Self::StaleCode(text) => Self::StaleCode(text.clone()),
            Self::DeadlineExceeded(text) => Self::DeadlineExceeded(text.clone()),
            Self::Exhausted(text) => Self::Exhausted(text.clone()),
            Self::Unavailable(text) => Self::Unavailable(text.clone()),
            Self::RegistryUnavailable(text) => Self::RegistryUnavailable(text.clone()),
            Self::Denied(text) => Self::Denied(text.clone()),
            Self::Unsigned(text) => Self::Unsigned(text.clone()),
            Self::Unimplemented(text) => Self::Unimplemented(text.clone()),
            Self::Io { doing, source } => {
                let source = match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                Self::Io { doing: doing.clone(), source }
            }
            Self::Network(text) => Self::Network(text.clone()),
            Self::Internal(text) => Self::Internal(text.clone()),
        }
    }

    /// As [`Error::io`], for rustix's errors.
    pub fn sys(doing: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let doing = doing.into();
        move |errno| Self::Io { doing, source: errno.into() }
    }
}

/// At most `most` bytes of a text that others wrote (a guest's names, a file's), with a mark where
/// it is cut: messages travel in headers and records that hold no more.
pub fn cut(mut text: String, most: usize) -> String {
    const MARK: &str = "...";
    if text.len() > most {
        let end = text.floor_char_boundary(most.saturating_sub(MARK.len()));
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_marked() {
        assert_eq!(cut("short".to_owned(), 5), "short");
        assert_eq!(cut("longer text".to_owned(), 8), "longe...");
        assert_eq!(cut("\u{e4}".repeat(9), 8), "\u{e4}\u{e4}...");
    }
}
