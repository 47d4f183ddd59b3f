//! How credentials become an Authorization header: Basic, or a token of the service that the
//! registry names (distribution's token specification, OAuth 2 for identity tokens). Keeps what
//! was granted until it expires.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::client::{Access, body};
use super::credentials::Credentials;
use super::fault::{Fault, Outcome};
use super::pace::within;
use super::transport::Transport;
use crate::error::Error;

/// Bytes of a token service's answer.
const MAX_ANSWER: u64 = 1 << 20;
/// What a token lives for when nobody says (distribution's token specification), in seconds.
const LIFE: u64 = 60;
const LONGEST_LIFE: u64 = 3600;
/// A token is not used when it has less left than that.
const MARGIN: Duration = Duration::from_secs(5);
const MAX_KNOWN: usize = 1024;

/// Where, for what, as whom.
type Key = (String, String, Credentials);

/// Headers that were accepted before.
#[derive(Debug)]
pub struct Tokens {
    known: Mutex<HashMap<Key, Known>>,
    /// A service that brings little for so long is broken.
    stall: Duration,
}

#[derive(Debug)]
struct Known {
    header: HeaderValue,
    until: Option<Instant>,
}

/// What a registry asks for in WWW-Authenticate.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn key(access: &Access) -> Key {
    let base = access.endpoint.base.to_string();
    (base, access.repository.clone(), access.credentials.clone())
}

impl Tokens {
    pub fn new(stall: Duration) -> Self {
        Self { known: Mutex::default(), stall }
    }

    /// The header to begin with: one that was granted, or a caller's own token.
    pub fn known(&self, access: &Access) -> Option<HeaderValue> {
        if let Credentials::Bearer(token) = &access.credentials {
            return bearer(token);
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(&key(access))?;
        let fresh = found.until.is_none_or(|until| until > Instant::now() + MARGIN);
        fresh.then(|| found.header.clone())
    }

    /// The header that answers a registry's challenge, asked for where the registry says.
    pub async fn answer(
        &self,
        access: &Access,
        transport: &Transport,
        challenges: &HeaderMap,
    ) -> Outcome<HeaderValue> {
        let challenge = challenge(challenges).ok_or_else(|| access.denied("says not how"))?;
        let (header, life) = match (&challenge, &access.credentials) {
            (_, Credentials::Bearer(_)) => return Err(access.denied("")),
            (Challenge::Basic, Credentials::Basic { username, password }) => {
                (basic(username, password).ok_or_else(|| access.denied(""))?, None)
            }
            (Challenge::Basic, _) => return Err(access.denied("")),
            (Challenge::Bearer { .. }, _) => {
                let granted = self.ask(access, transport, &challenge).await?;
                let token = granted.token.or(granted.access_token).unwrap_or_default();
                let header = bearer(&token).filter(|_| !token.is_empty());
                let header = header.ok_or_else(|| access.denied("gives no token"))?;
                let life = granted.expires_in.unwrap_or(LIFE).clamp(LIFE, LONGEST_LIFE);
                (header, Some(Duration::from_secs(life)))
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.retain(|_, known| known.until.is_none_or(|until| until > now));
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let until = life.map(|life| now + life);
        known.insert(key(access), Known { header: header.clone(), until });
        Ok(header)
    }

    pub fn forget(&self, access: &Access) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(access));
    }

    async fn ask(
        &self,
        access: &Access,
        transport: &Transport,
        challenge: &Challenge,
    ) -> Outcome<Granted> {
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return Err(access.denied(""));
        };
        let registry = &access.endpoint;
        let bad = |why: &str| {
            let shown = &registry.shown;
            Fault::elsewhere(Error::Invalid(format!(
                "registry {shown} wants a token from {realm:.200}: {why}"
            )))
        };
        let realm = Url::parse(realm).map_err(|error| bad(&error.to_string()))?;
        let client = if realm.origin() == registry.base.origin() {
            transport.own(&registry.base)
        } else {
            transport.elsewhere(&registry.base, &realm).map_err(|why| bad(&why))?
        };
        let own = format!("repository:{}:pull", access.repository);
        let mut asked = vec![("scope", scope.as_deref().unwrap_or(&own))];
        asked.extend(service.as_deref().map(|service| ("service", service)));
        let request = match &access.credentials {
            Credentials::Identity(token) => {
                asked.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "wasmpod"),
                    ("refresh_token", token),
                ]);
                let form = Url::parse_with_params("http://form/", &asked)
                    .map_err(|error| bad(&error.to_string()))?;
                let form = form.query().unwrap_or_default().to_owned();
                let kind = "application/x-www-form-urlencoded";
                client.request(Method::POST, realm.clone()).header(CONTENT_TYPE, kind).body(form)
            }
            Credentials::Basic { username, password } => {
                asked.push(("account", username));
                let header = basic(username, password).ok_or_else(|| access.denied(""))?;
                let mut url = realm.clone();
                url.query_pairs_mut().extend_pairs(&asked);
                client.request(Method::GET, url).header(AUTHORIZATION, header)
            }
            _ => {
                let mut url = realm.clone();
                url.query_pairs_mut().extend_pairs(&asked);
                client.request(Method::GET, url)
            }
        };
        let host = realm.host_str().unwrap_or_default();
        let request = request.header(ACCEPT, "application/json");
        let response = within(self.stall, host, request.send()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                return Err(access.denied(""));
            }
            status => return Err(super::client::refusal(host, status, response.headers())),
        }
        let answer = body(response, MAX_ANSWER, (host, self.stall)).await?;
        serde_json::from_slice(&answer).map_err(|_| bad("its answer is none"))
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(format!("Bearer {token}"))
}

fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    sensitive(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The challenge that we answer: a token's before Basic.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        for offered in http_auth::parse_challenges(text).unwrap_or_default() {
            if offered.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
            let get = |name: &str| {
                let same =
                    |(key, _): &&(&str, http_auth::ParamValue<'_>)| key.eq_ignore_ascii_case(name);
                offered.params.iter().find(same).map(|(_, value)| value.to_unescaped())
            };
            if offered.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = get("realm")
            {
                let (service, scope) = (get("service"), get("scope"));
                return Some(Challenge::Bearer { realm, service, scope });
            }
        }
    }
    basic
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        challenge(&headers)
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let text = "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x/y:pull,push\"";
        let bearer = Challenge::Bearer {
            realm: "https://a/t".to_owned(),
            service: Some("s".to_owned()),
            scope: Some("repository:x/y:pull,push".to_owned()),
        };
        assert_eq!(of(&["Basic realm=\"r\"", text]), Some(bearer));
        assert_eq!(of(&["basic realm=\"r\""]), Some(Challenge::Basic));
    }

    #[test]
    fn a_challenge_that_makes_no_sense_is_none() {
        for value in ["", "Bearer", "Bearer service=\"x\"", "Negotiate abc", "\"\"\"", "Bearer ,=,"]
        {
            assert_eq!(of(&[value]), None, "{value}");
        }
        assert_eq!(of(&[]), None);
    }
}
