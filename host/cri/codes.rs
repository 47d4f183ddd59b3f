//! Which gRPC code each error is. Clients tell a missing thing by NOT_FOUND alone; the rest is
//! for people and metrics.

use tonic::{Code, Status};

use crate::error::{Error, cut};

/// Exhaustive, so that a new error has to choose.
pub fn code(error: &Error) -> Code {
    match error {
        Error::NotFound { .. } | Error::NotInRegistry { .. } => Code::NotFound,
        Error::NameReserved { .. } => Code::AlreadyExists,
        Error::WrongState { .. } | Error::Precondition(_) => Code::FailedPrecondition,
        Error::Ambiguous { .. } | Error::Invalid(_) | Error::Refused(_) => Code::InvalidArgument,
        Error::DeadlineExceeded(_) => Code::DeadlineExceeded,
        Error::Exhausted(_) => Code::ResourceExhausted,
        Error::Unavailable(_) => Code::Unavailable,
        Error::Unimplemented(_) => Code::Unimplemented,
        // The kubelet looks for its words at a message's beginning, and takes the code off from
        // UNKNOWN alone (remote_image.go).
        Error::Start(_)
        | Error::Network(_)
        | Error::RegistryUnavailable(_)
        | Error::Unsigned(_) => Code::Unknown,
        Error::Denied(_) => Code::PermissionDenied,
        Error::Io { .. } | Error::StaleCode(_) | Error::Internal(_) => Code::Internal,
    }
}

/// The answer to a failed call, its message in one line.
pub fn status(error: Error) -> Status {
    Status::new(code(&error), cut(one_line(&error.to_string()), MOST_STATUS))
}

/// Bytes of a status' message: it travels in a header, percent-encoded to thrice its length.
const MOST_STATUS: usize = 2 << 10;

/// Line ends would end up in events and one-line logs of the client.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::ContainerState;
    use crate::model::ids::ContainerId;

    #[test]
    fn clients_get_the_codes_that_they_act_on() {
        let text = || "x".to_owned();
        let wrong = Error::WrongState {
            id: ContainerId::random(),
            state: ContainerState::Created,
            expected: "running",
        };
        for (error, expected) in [
            (Error::not_found("sandbox", "x"), Code::NotFound),
            (Error::Ambiguous { what: "sandbox", id: text(), count: 2 }, Code::InvalidArgument),
            (Error::NameReserved { name: text(), holder: text() }, Code::AlreadyExists),
            (wrong, Code::FailedPrecondition),
            (Error::Precondition(text()), Code::FailedPrecondition),
            (Error::Invalid(text()), Code::InvalidArgument),
            (Error::Refused(text()), Code::InvalidArgument),
            (Error::DeadlineExceeded(text()), Code::DeadlineExceeded),
            (Error::Exhausted(text()), Code::ResourceExhausted),
            (Error::Unavailable(text()), Code::Unavailable),
            (Error::Unimplemented(text()), Code::Unimplemented),
            (Error::Start(text()), Code::Unknown),
            (Error::RegistryUnavailable(text()), Code::Unknown),
            (Error::Denied(text()), Code::PermissionDenied),
            (Error::Internal(text()), Code::Internal),
            (Error::io("x")(std::io::Error::other("y")), Code::Internal),
        ] {
            assert_eq!(code(&error), expected, "{error}");
        }
    }

    #[test]
    fn a_message_is_one_line() {
        let status = status(Error::Start("missing import\n\n  env.foo\n".to_owned()));
        assert_eq!(status.message(), "missing import env.foo");
    }
}
