//! What a streaming URL stands for: a token that works once and not for long. Knows nothing of
//! HTTP.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, Result};
use crate::runtime::Wanted;

/// How long a URL may wait for its client, and how many may wait (the kubelet's own streaming
/// server has these numbers).
const LIFETIME: Duration = Duration::from_secs(60);
const MOST: usize = 1000;

/// Random bytes of a token: eight characters.
const TOKEN: usize = 6;

/// What a client may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ticket {
    Exec { container: String, argv: Vec<String>, wanted: Wanted },
    Attach { container: String, wanted: Wanted },
    PortForward { sandbox: String, ports: Vec<u16> },
}

impl Ticket {
    /// The first part of the URL's path.
    pub fn place(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Attach { .. } => "attach",
            Self::PortForward { .. } => "portforward",
        }
    }
}

#[derive(Default)]
pub struct Tickets(Mutex<HashMap<String, (Instant, Ticket)>>);

impl Tickets {
    /// A token for `ticket`.
    pub fn give(&self, ticket: Ticket) -> Result<String> {
        let mut random = [0; TOKEN];
        getrandom::fill(&mut random)
            .map_err(|error| Error::Internal(format!("no random numbers: {error}")))?;
        let token = URL_SAFE_NO_PAD.encode(random);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (given, _)| given.elapsed() < LIFETIME);
        if waiting.len() >= MOST {
            return Err(Error::Exhausted(format!(
                "{MOST} exec, attach and port-forward requests wait for their clients: try again \
                 in a minute"
            )));
        }
        waiting.insert(token.clone(), (Instant::now(), ticket));
        Ok(token)
    }

    /// What the token stands for, once, for a URL of that place.
    pub fn take(&self, place: &str, token: &str) -> Option<Ticket> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (given, ticket) = waiting.remove(token)?;
        (given.elapsed() < LIFETIME && ticket.place() == place).then_some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket::PortForward { sandbox: "s".to_owned(), ports: Vec::new() }
    }

    #[test]
    fn a_token_works_once_and_for_its_place() {
        let tickets = Tickets::default();
        let token = tickets.give(ticket()).unwrap();
        assert_eq!(token.len(), 8);
        assert_eq!(tickets.take("portforward", &token), Some(ticket()));
        assert_eq!(tickets.take("portforward", &token), None);
        let token = tickets.give(ticket()).unwrap();
        assert_eq!(tickets.take("exec", &token), None);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let tickets = Tickets::default();
        for _ in 0..MOST {
            tickets.give(ticket()).unwrap();
        }
        assert!(matches!(tickets.give(ticket()), Err(Error::Exhausted(_))));
    }
}
