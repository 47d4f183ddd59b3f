//! What goes wrong between us and a registry: the sentence, and whether another try or another
//! place may help. Knows nothing of what was asked for.

use std::time::Duration;

use crate::error::Error;

pub type Outcome<T> = std::result::Result<T, Fault>;

#[derive(Debug)]
pub struct Fault {
    pub error: Error,
    pub cure: Cure,
}

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// The same again after a while, no sooner than the registry says.
    Later(Option<Duration>),
    /// The same again soon, but not for long: nobody is there, or the name is wrong.
    Soon,
    /// Another place that may have it.
    Elsewhere,
    /// Nothing: it is this machine's fault.
    Nothing,
}

impl Fault {
    pub fn elsewhere(error: Error) -> Self {
        Self { error, cure: Cure::Elsewhere }
    }

    pub fn local(error: Error) -> Self {
        Self { error, cure: Cure::Nothing }
    }

    /// The registry or the way to it is out of order.
    pub fn unavailable(why: String) -> Self {
        Self { error: Error::RegistryUnavailable(why), cure: Cure::Later(None) }
    }

    /// Of a request that had no answer. `place` is the registry.
    pub fn of_request(place: &str, error: &reqwest::Error) -> Self {
        let mut why = reason(error);
        if error.is_timeout() {
            "it does not answer".clone_into(&mut why);
        }
        // How the other side refuses ours, or that we have none.
        if why.contains("received fatal alert") && ALERTS.iter().any(|alert| why.contains(alert)) {
            why.push_str(
                ": it wants a certificate that it knows (client_certificate in [registry.hosts])",
            );
        }
        let doing = if error.is_connect() { "cannot be reached" } else { "broke off" };
        let fault = Self::unavailable(format!("registry {place} {doing}: {why}"));
        // A certificate does not become good by waiting.
        let lasting = ["certificate", "invalid peer", "tls handshake", "this machine itself"];
        if lasting.iter().any(|word| why.to_lowercase().contains(word)) {
            return Self { cure: Cure::Elsewhere, ..fault };
        }
        if error.is_connect() {
            return Self { cure: Cure::Soon, ..fault };
        }
        fault
    }
}

/// TLS's words for a client's certificate that is missing or no good.
const ALERTS: [&str; 5] = [
    "CertificateRequired",
    "BadCertificate",
    "UnknownCA",
    "CertificateUnknown",
    "CertificateExpired",
];

/// The innermost cause, which alone says what happened.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(head, _)| head.to_owned())
}
