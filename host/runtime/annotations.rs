//! wasmpod's own annotations on a container or its pod: `wasmpod.dev/KEY.CONTAINER` on the pod
//! speaks of that container, `wasmpod.dev/KEY` of every one. What they say is checked when the
//! container is made.

use crate::config::{GuestSockets, NetworkConfig};
use crate::error::{Error, Result};
use crate::model::container::ContainerConfig;
use crate::model::sandbox::SandboxConfig;
use crate::model::service::ServiceOptions;
use crate::model::sockets::{Allowed, Listen, SocketPolicy};
use crate::proto::shim as wire;

const PREFIX: &str = "wasmpod.dev/";

/// With the value `grace` the guest serves on until the stop's deadline.
pub const STOP: &str = "stop";
/// Listening sockets of a p1 module (`model::sockets::Listen`).
const LISTEN: &str = "listen";
/// What may be bound and connected to (`model::sockets::Allowed`).
const BIND: &str = "bind";
const CONNECT: &str = "connect";
/// How a component that answers HTTP requests is served (`model::service::ServiceOptions`).
const HTTP: &str = "http";

/// The annotations of a container and its pod.
#[derive(Clone, Copy)]
pub struct Annotations<'a> {
    pub pod: &'a SandboxConfig,
    pub container: &'a ContainerConfig,
}

impl<'a> Annotations<'a> {
    /// The name as it was written and its value: the container's own before its pod's, what names
    /// the container before what speaks of all.
    fn find(self, key: &str) -> Option<(String, &'a str)> {
        let names =
            [format!("{PREFIX}{key}.{}", self.container.name.name), format!("{PREFIX}{key}")];
        let sources = [&self.container.annotations, &self.pod.annotations];
        names.into_iter().find_map(|name| {
            let value = sources.iter().find_map(|source| source.get(&name))?;
            Some((name, value.as_str()))
        })
    }

    pub fn get(self, key: &str) -> Option<&'a str> {
        self.find(key).map(|(_, value)| value)
    }

    fn read<T>(
        self,
        key: &str,
        parse: impl FnOnce(&str) -> std::result::Result<T, String>,
    ) -> Result<Option<T>> {
        let Some((name, value)) = self.find(key) else { return Ok(None) };
        let wrong = |error| Error::Invalid(format!("annotation {name}: {error}"));
        parse(value).map(Some).map_err(wrong)
    }

    /// What the container may do with its pod's network; `env` is its environment, NAME=value.
    pub fn network(self, config: &NetworkConfig, env: &[String]) -> Result<wire::Network> {
        let open = match config.guests {
            GuestSockets::Allow => SocketPolicy::EVERYTHING,
            GuestSockets::Deny => SocketPolicy::NOTHING,
        };
        let bind = self.read(BIND, Allowed::parse)?.unwrap_or(open.bind);
        let connect = self.read(CONNECT, Allowed::parse)?.unwrap_or(open.connect);
        let listen = self.read(LISTEN, Listen::parse_list)?.unwrap_or_default();
        let port = env.iter().find_map(|pair| pair.strip_prefix("PORT="));
        let service = match self.read(HTTP, |text| ServiceOptions::parse(text, port))? {
            // PORT may mean anything to a program that is no service.
            None => ServiceOptions::parse("", port).ok(),
            annotated => annotated,
        };
        Ok(wire::Network {
            listen: listen.iter().map(ToString::to_string).collect(),
            bind: bind.to_string(),
            connect: connect.to_string(),
            service: service.map(|service| wire::Service {
                port: u32::from(service.port),
                requests: service.requests,
                timeout_ms: u64::try_from(service.timeout.as_millis()).unwrap_or(u64::MAX),
                reuse: service.reuse.unwrap_or(0),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(
        pod: &[(&str, &str)],
        container: &[(&str, &str)],
        guests: GuestSockets,
    ) -> Result<wire::Network> {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let pod = SandboxConfig { annotations: map(pod), ..SandboxConfig::default() };
        let mut config = ContainerConfig { annotations: map(container), ..Default::default() };
        config.name.name = "web".to_owned();
        let config_of_node = NetworkConfig { guests, ..NetworkConfig::default() };
        Annotations { pod: &pod, container: &config }
            .network(&config_of_node, &["PORT=7000".to_owned()])
    }

    #[test]
    fn what_names_the_container_comes_before_what_speaks_of_all() {
        let pod = [
            ("wasmpod.dev/connect", "none"),
            ("wasmpod.dev/connect.web", "tcp:5432"),
            ("wasmpod.dev/bind.other", "none"),
            ("wasmpod.dev/listen.web", "tcp:80"),
        ];
        let told = network(&pod, &[], GuestSockets::Allow).unwrap();
        assert_eq!((told.connect.as_str(), told.bind.as_str()), ("tcp:*:5432", "*"));
        assert_eq!(told.listen, ["tcp:80"]);
        assert_eq!(told.service.unwrap().port, 7000);
    }

    #[test]
    fn a_node_that_denies_leaves_only_what_is_annotated() {
        let told = network(&[("wasmpod.dev/bind", "tcp:80")], &[], GuestSockets::Deny).unwrap();
        assert_eq!((told.connect.as_str(), told.bind.as_str()), ("none", "tcp:*:80"));
    }

    #[test]
    fn a_bad_value_is_the_caller_s_error_and_names_the_annotation() {
        let error = network(&[], &[("wasmpod.dev/http.web", "port=x")], GuestSockets::Allow);
        let Err(Error::Invalid(text)) = error else { panic!("{error:?}") };
        assert!(text.starts_with("annotation wasmpod.dev/http.web: \"x\" is no port"), "{text}");
    }
}
