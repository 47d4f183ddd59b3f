//! `[metrics]` and `[tracing]`: what operators see of the daemon. Both are off unless told.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where Prometheus finds GET /metrics; nowhere when absent. Port 0 is any free one.
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracingConfig {
    /// An OpenTelemetry collector that takes OTLP over gRPC, "http://HOST:PORT"; absent: nothing
    /// is traced.
    pub endpoint: Option<String>,
    /// Which part of the calls is traced whose caller does not say: 0 is none, 1 all.
    pub sampling: f64,
    pub service_name: String,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self { endpoint: None, sampling: 1.0, service_name: "wasmpod".to_owned() }
    }
}

impl TracingConfig {
    pub fn check(&self) -> Result<()> {
        let invalid = |sentence: String| Err(Error::Invalid(format!("configuration: {sentence}")));
        if !(0.0..=1.0).contains(&self.sampling) {
            let sampling = self.sampling;
            return invalid(format!("tracing.sampling = {sampling} is no part from 0 to 1"));
        }
        let is_http = |url: &String| url.strip_prefix("http://").is_some_and(|at| !at.is_empty());
        match &self.endpoint {
            Some(endpoint) if !is_http(endpoint) => invalid(format!(
                "tracing.endpoint = {endpoint:?} is no http://HOST:PORT of a collector on this \
                 machine or network"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_traced_is_named() {
        let check = |endpoint: &str, sampling| {
            let endpoint = Some(endpoint.to_owned());
            TracingConfig { endpoint, sampling, ..TracingConfig::default() }.check()
        };
        check("http://127.0.0.1:4317", 0.5).unwrap();
        for (endpoint, sampling, says) in [
            ("https://a:1", 1.0, "tracing.endpoint"),
            ("127.0.0.1:4317", 1.0, "tracing.endpoint"),
            ("http://a:1", 1.5, "tracing.sampling = 1.5"),
            ("http://a:1", -0.1, "tracing.sampling"),
        ] {
            let error = check(endpoint, sampling).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
