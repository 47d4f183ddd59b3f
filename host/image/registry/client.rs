//! One request to one registry: with its authorization, through its redirects, to an answer or
//! one sentence. Tries nothing twice but what was refused for want of a token. Knows no images.

use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Method, Response, StatusCode, Url};

use super::credentials::Credentials;
use super::fault::{Cure, Fault, Outcome};
use super::hosts::{Endpoint, Role};
use super::pace::{Pace, within};
use super::token::Tokens;
use super::transport::{Transport, Transports};
use crate::error::Error;

const MAX_REDIRECTS: usize = 5;
/// Bytes that are read of an answer that is an error.
const MAX_SAID: u64 = 16 << 10;

/// Where an image is asked for, and as whom.
#[derive(Clone, Debug)]
pub struct Access {
    pub endpoint: Endpoint,
    pub credentials: Credentials,
    /// Without the registry's host: "library/app".
    pub repository: String,
    /// For messages, the image's name.
    pub name: String,
}

/// What is asked for: a path below the repository.
pub struct Request<'a> {
    pub method: Method,
    /// "manifests/latest", "blobs/sha256:...".
    pub path: &'a str,
    pub accept: &'static str,
    /// The first byte wanted.
    pub from: u64,
}

/// Shared by all pulls of a daemon: connections and tokens are kept.
#[derive(Debug)]
pub struct Client {
    pub(super) transports: Transports,
    pub(super) tokens: Tokens,
    /// A connection that brings little for so long is broken.
    pub(super) stall: Duration,
}

impl Access {
    /// A refusal for want of rights, `why` a clause about the registry.
    pub fn denied(&self, why: &str) -> Fault {
        let (shown, name) = (&self.endpoint.shown, &self.name);
        let who = match &self.credentials {
            Credentials::Anonymous => {
                "there are no credentials for it (an imagePullSecret, docker's config.json or \
                 [registry.hosts] can give some)"
                    .to_owned()
            }
            Credentials::Basic { username, .. } => {
                format!("it does not accept the password of user {username:?} for it")
            }
            Credentials::Identity(_) | Credentials::Bearer(_) => {
                "it does not accept the token that was given".to_owned()
            }
        };
        let why = if why.is_empty() { String::new() } else { format!(" and {why}") };
        let text = format!("registry {shown} denies access to {name}{why}: {who}");
        Fault::elsewhere(Error::Denied(text))
    }

    pub fn url(&self, path: &str) -> Outcome<Url> {
        let bad = |error: &dyn std::fmt::Display| {
            Fault::local(Error::Invalid(format!("{}: {path:?}: {error}", self.name)))
        };
        let path = format!("{}/{path}", self.repository);
        let mut url = self.endpoint.base.join(&path).map_err(|error| bad(&error))?;
        if let Role::Mirror(of) = &self.endpoint.role {
            url.query_pairs_mut().append_pair("ns", of);
        }
        Ok(url)
    }
}

impl Client {
    /// A connection that brings nothing for `stall` is broken.
    pub fn new(stall: Duration) -> Self {
        Self { transports: Transports::default(), tokens: Tokens::new(stall), stall }
    }

    /// A whole small body, see [`body`].
    pub async fn body(&self, response: Response, most: u64, place: &str) -> Outcome<Vec<u8>> {
        body(response, most, (place, self.stall)).await
    }

    /// The answer's head, its status a good one or 416; redirects are followed.
    pub async fn send(&self, access: &Access, request: &Request<'_>) -> Outcome<Response> {
        let transport = self.transports.get(&access.endpoint.trust).map_err(Fault::local)?;
        let known = self.tokens.known(access);
        let response = self.follow(access, &transport, request, known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || is_strange(access, &response) {
            return self.judged(access, response).await;
        }
        self.tokens.forget(access);
        let header = self.tokens.answer(access, &transport, response.headers()).await?;
        drop(response);
        let response = self.follow(access, &transport, request, Some(&header)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.tokens.forget(access);
        }
        self.judged(access, response).await
    }

    /// Goes where the registry sends us. Only the registry itself sees its headers and ours.
    async fn follow(
        &self,
        access: &Access,
        transport: &Transport,
        request: &Request<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Outcome<Response> {
        let endpoint = &access.endpoint;
        let mut url = access.url(request.path)?;
        let mut client = transport.own(&endpoint.base);
        for _ in 0..=MAX_REDIRECTS {
            let mut sending =
                client.request(request.method.clone(), url.clone()).header(ACCEPT, request.accept);
            if request.from > 0 {
                sending = sending.header(RANGE, format!("bytes={}-", request.from));
            }
            if url.origin() == endpoint.base.origin() {
                sending = sending.headers(endpoint.headers.clone());
                if let Some(authorization) = authorization {
                    sending = sending.header(AUTHORIZATION, authorization);
                }
            }
            let host = place(&url);
            let response = within(self.stall, &host, sending.send()).await?;
            if !is_redirect(response.status()) {
                return Ok(response);
            }
            let next = location(&url, response.headers());
            let refused = |why: &str| {
                let shown = &endpoint.shown;
                let text = format!("registry {shown} sends us elsewhere, which is refused: {why}");
                Fault::elsewhere(Error::Invalid(text))
            };
            let next = next.ok_or_else(|| refused("it does not say where"))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(refused("it would leave https for plain http"));
            }
            client = if next.origin() == endpoint.base.origin() {
                transport.own(&endpoint.base)
            } else {
                transport.elsewhere(&endpoint.base, &next).map_err(|why| refused(&why))?
            };
            url = next;
        }
        Err(Fault::elsewhere(Error::Invalid(format!(
            "registry {} sends us on and on: more than {MAX_REDIRECTS} redirects",
            endpoint.shown
        ))))
    }

    /// The answer when its status is a good one or 416; else what it means.
    pub async fn judged(&self, access: &Access, response: Response) -> Outcome<Response> {
        let status = response.status();
        match status {
            _ if status.is_success() => Ok(response),
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_strange(access, &response) => {
                let (shown, name) = (&access.endpoint.shown, &access.name);
                let (there, code) = (place(response.url()), status.as_u16());
                let text = format!(
                    "registry {shown} sends us to {there} for a part of {name}, which answers {code}"
                );
                Err(Fault::elsewhere(Error::Denied(text)))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(access.denied("")),
            StatusCode::NOT_FOUND => {
                let (registry, name) = (access.endpoint.shown.clone(), access.name.clone());
                Err(Fault::elsewhere(Error::NotInRegistry { registry, name }))
            }
            _ => {
                let mut fault = refusal(&access.endpoint.shown, status, response.headers());
                if let Error::RegistryUnavailable(text) = &mut fault.error
                    && let Some(said) = self.said(response, &access.endpoint.shown).await
                {
                    text.push_str(": ");
                    text.push_str(&said);
                }
                Err(fault)
            }
        }
    }

    /// The first message of distribution's error document, in one short line.
    async fn said(&self, response: Response, place: &str) -> Option<String> {
        let body = self.body(response, MAX_SAID, place).await.ok()?;
        let document: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let text = document.pointer("/errors/0/message")?.as_str()?;
        let line: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        (!line.is_empty()).then_some(line)
    }
}

/// Host and port of a URL.
fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn location(from: &Url, headers: &HeaderMap) -> Option<Url> {
    from.join(headers.get(LOCATION)?.to_str().ok()?).ok()
}

/// Whether an answer is of a place that the registry sent us to. Its challenge is not for us: our
/// credentials are the registry's, and the challenge names who is to get them (CVE-2020-15157).
pub fn is_strange(access: &Access, response: &Response) -> bool {
    response.url().origin() != access.endpoint.base.origin()
}

/// What a status that is neither good nor a verdict on the image means.
pub fn refusal(place: &str, status: StatusCode, headers: &HeaderMap) -> Fault {
    let reason = status.canonical_reason().unwrap_or_default();
    let text = format!("registry {place} answers {} {reason}", status.as_u16());
    let error = Error::RegistryUnavailable(text.trim_end().to_owned());
    let passing = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    let cure = if passing { Cure::Later(retry_after(headers)) } else { Cure::Elsewhere };
    Fault { error, cure }
}

/// Seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let left = date.as_second().saturating_sub(jiff::Timestamp::now().as_second());
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// A whole body of at most `most` bytes from `place`, which may not take for ever either.
pub async fn body(
    mut response: Response,
    most: u64,
    (place, stall): (&str, Duration),
) -> Outcome<Vec<u8>> {
    let too_long = || {
        let text = format!("registry {place} sends more than {most} bytes where few belong");
        Fault::elsewhere(Error::Invalid(text))
    };
    if response.content_length().is_some_and(|length| length > most) {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    let mut pace = Pace::new(stall);
    loop {
        match within(stall, place, response.chunk()).await? {
            Some(chunk) if (bytes.len() + chunk.len()) as u64 > most => return Err(too_long()),
            Some(chunk) => {
                pace.keep(chunk.len(), place)?;
                bytes.extend_from_slice(&chunk);
            }
            None => return Ok(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_says_when_to_come_again_in_seconds_or_by_date() {
        let after = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }
}
