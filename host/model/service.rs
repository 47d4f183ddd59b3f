//! How a container that answers HTTP requests is served, as its annotation says.

use std::time::Duration;

/// What the annotation leaves open.
const PORT: u16 = 8080;
const REQUESTS: u32 = 256;
const TIMEOUT: Duration = Duration::from_secs(600);

/// The most that may be asked of one container.
const MOST_REQUESTS: u32 = 10_000;
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Settings of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    pub port: u16,
    /// Requests under way at once; more wait for their turn.
    pub requests: u32,
    /// How long a request may take until its response begins, and an instance's work after it.
    pub timeout: Duration,
    /// Requests that one instance answers, one after the other; `None`: the kind's default.
    pub reuse: Option<u32>,
}

impl ServiceOptions {
    /// `text` is a port, or `port=8080,requests=256,timeout=30s,reuse=100` with any of them left
    /// out; without a port there, the environment's PORT, else 8080. The error is one clause.
    pub fn parse(text: &str, environment: Option<&str>) -> Result<Self, String> {
        let mut options = Self { port: 0, requests: REQUESTS, timeout: TIMEOUT, reuse: None };
        for setting in text.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            match setting.split_once('=').unwrap_or(("port", setting)) {
                ("port", port) => options.port = parse_port(port)?,
                ("requests", count) => {
                    options.requests = number(count, MOST_REQUESTS)
                        .ok_or_else(|| format!("requests={count}: 1 to {MOST_REQUESTS} can be"))?;
                }
                ("reuse", count) => {
                    let count = number(count, u32::MAX)
                        .ok_or_else(|| format!("reuse={count} is no number from 1"))?;
                    options.reuse = Some(count);
                }
                ("timeout", text) => options.timeout = parse_timeout(text)?,
                (key, _) => {
                    return Err(format!(
                        "{key:?} is no setting: there are port, requests, timeout and reuse"
                    ));
                }
            }
        }
        if options.port == 0 {
            options.port = match environment {
                Some(port) => {
                    parse_port(port).map_err(|error| format!("environment PORT: {error}"))?
                }
                None => PORT,
            };
        }
        Ok(options)
    }
}

fn number(text: &str, most: u32) -> Option<u32> {
    text.parse().ok().filter(|count| (1..=most).contains(count))
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(|| format!("{text:?} is no port from 1 to 65535"))
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let parsed = if let Some(millis) = text.strip_suffix("ms") {
        millis.parse().ok().map(Duration::from_millis)
    } else {
        text.strip_suffix('s').unwrap_or(text).parse().ok().map(Duration::from_secs)
    };
    parsed
        .filter(|time| !time.is_zero() && *time <= LONGEST)
        .ok_or_else(|| format!("timeout {text:?} is no time such as 30s or 500ms, up to a day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_annotation_s_then_the_environment_s_then_8080() {
        let port = |text, environment| ServiceOptions::parse(text, environment).unwrap().port;
        assert_eq!(port("9000", Some("7000")), 9000);
        assert_eq!(port("requests=3", Some("7000")), 7000);
        assert_eq!(port("", None), 8080);
    }

    #[test]
    fn settings_are_read_by_name() {
        let options = ServiceOptions::parse("port=81, requests=4,timeout=500ms,reuse=9", None);
        let expected = ServiceOptions {
            port: 81,
            requests: 4,
            timeout: Duration::from_millis(500),
            reuse: Some(9),
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn bad_settings_are_refused_with_what_is_wrong() {
        for (text, environment, says) in [
            ("0", None, "no port"),
            ("http", None, "no port"),
            ("", Some("eighty"), "environment PORT"),
            ("requests=0", None, "requests=0"),
            ("requests=20000", None, "10000"),
            ("timeout=0s", None, "no time"),
            ("timeout=2 weeks", None, "no time"),
            ("reuse=-1", None, "reuse=-1"),
            ("threads=4", None, "no setting"),
        ] {
            let error = ServiceOptions::parse(text, environment).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
