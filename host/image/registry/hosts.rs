//! Which places are asked for a name's image: the configured mirrors in their order, then the
//! registry itself. Follows containerd's hosts.toml: an entry for a name's host, else that of
//! `_default`; a registry on this machine speaks plain HTTP unless its entry says otherwise.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{RegistryConfig, RegistryHost};
use crate::error::{Error, Result};

/// The entry of names whose host has none.
const DEFAULT: &str = "_default";
/// Names of docker's own registry lead to another host.
const DOCKER: (&str, &str) = ("docker.io", "https://registry-1.docker.io");

/// One place that speaks the distribution protocol.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host and port, for messages.
    pub shown: String,
    /// Ends with "/v2/".
    pub base: Url,
    pub role: Role,
    pub trust: Trust,
    pub headers: HeaderMap,
    pub login: Login,
}

/// Who a place and we are to each other by TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trust {
    /// PEM files with certificates to trust besides the system's.
    pub ca: Vec<PathBuf>,
    pub identity: Option<Identity>,
}

/// PEM files that say who we are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has images of the registry that is named, and is told so by `ns=`.
    Mirror(String),
    /// The registry itself: what a caller's credentials are for.
    Server,
}

/// Credentials of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// Every place by the host of image names.
#[derive(Debug)]
pub struct Hosts {
    known: BTreeMap<String, Vec<Endpoint>>,
    default: RegistryHost,
}

impl Hosts {
    /// `Error::Invalid` names the key that is wrong.
    pub fn new(config: &RegistryConfig) -> Result<Self> {
        let mut known = BTreeMap::new();
        for (name, host) in &config.hosts {
            let shown = if name == DEFAULT { "registry.invalid" } else { name };
            let endpoints = endpoints(shown, host).map_err(|fault| {
                Error::Invalid(format!("configuration: registry.hosts.{name:?}: {fault}"))
            })?;
            if name == DEFAULT {
                if host.server.is_some() {
                    return Err(Error::Invalid(format!(
                        "configuration: registry.hosts.{name:?}: one server for all names makes no \
                         sense: give mirrors"
                    )));
                }
                continue;
            }
            known.insert(name.clone(), endpoints);
        }
        Ok(Self { known, default: config.hosts.get(DEFAULT).cloned().unwrap_or_default() })
    }

    /// The places of a name's host ("docker.io", "localhost:5000"), never none.
    pub fn of(&self, host: &str) -> Result<Vec<Endpoint>> {
        match self.known.get(host) {
            Some(endpoints) => Ok(endpoints.clone()),
            None => endpoints(host, &self.default).map_err(Error::Invalid),
        }
    }
}

fn endpoints(name: &str, host: &RegistryHost) -> std::result::Result<Vec<Endpoint>, String> {
    let mut endpoints = Vec::new();
    for mirror in &host.mirrors {
        endpoints.push(Endpoint {
            role: Role::Mirror(name.to_owned()),
            trust: trust(&mirror.ca, (&mirror.client_certificate, &mirror.client_key))?,
            headers: headers(&mirror.headers)?,
            login: login(&mirror.username, &mirror.password_file)?,
            ..place(&mirror.url)?
        });
    }
    let server = match &host.server {
        Some(server) => server.clone(),
        None if name == DOCKER.0 => DOCKER.1.to_owned(),
        None => {
            let tls = !host.ca.is_empty() || host.client_certificate.is_some();
            let plain = is_this_machine(name) && !name.ends_with(":443") && !tls;
            format!("{}://{name}", if plain { "http" } else { "https" })
        }
    };
    endpoints.push(Endpoint {
        trust: trust(&host.ca, (&host.client_certificate, &host.client_key))?,
        headers: headers(&host.headers)?,
        login: login(&host.username, &host.password_file)?,
        ..place(&server)?
    });
    Ok(endpoints)
}

/// `/v2` is added unless the path has it: some registries keep their mirrors below it.
fn place(text: &str) -> std::result::Result<Endpoint, String> {
    let mut base = Url::parse(text).map_err(|error| format!("URL {text:?}: {error}"))?;
    let host = base.host_str().map(str::to_owned);
    let Some(host) = host.filter(|_| matches!(base.scheme(), "http" | "https")) else {
        return Err(format!("URL {text:?} is neither http://HOST nor https://HOST"));
    };
    if !base.username().is_empty() || base.password().is_some() {
        return Err(format!("the URL of {host} holds credentials: use username, password_file"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(format!("URL {text:?} has more than a path"));
    }
    let path = base.path().trim_matches('/').to_owned();
    let path = match path.as_str() {
        "" => "/v2/".to_owned(),
        path if path.split('/').any(|part| part == "v2") => format!("/{path}/"),
        path => format!("/{path}/v2/"),
    };
    base.set_path(&path);
    let shown = match base.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    let (trust, headers, login) = (Trust::default(), HeaderMap::new(), Login::default());
    Ok(Endpoint { shown, base, role: Role::Server, trust, headers, login })
}

fn trust(
    ca: &[PathBuf],
    identity: (&Option<PathBuf>, &Option<PathBuf>),
) -> std::result::Result<Trust, String> {
    let identity = match identity {
        (Some(certificate), Some(key)) => {
            Some(Identity { certificate: certificate.clone(), key: key.clone() })
        }
        (None, None) => None,
        _ => return Err("client_certificate and client_key need each other".to_owned()),
    };
    Ok(Trust { ca: ca.to_vec(), identity })
}

fn headers(given: &BTreeMap<String, String>) -> std::result::Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let fault = || format!("header {name:?} is not one");
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| fault())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

fn login(username: &Option<String>, file: &Option<PathBuf>) -> std::result::Result<Login, String> {
    if username.is_some() && file.is_none() {
        return Err("username needs password_file".to_owned());
    }
    Ok(Login { username: username.clone(), password_file: file.clone() })
}

/// Whether "host" or "host:port" is this machine by what it says: nobody is asked.
pub fn is_this_machine(host: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}")) else { return false };
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address == "localhost"
        || address.ends_with(".localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Result<Hosts> {
        Hosts::new(&toml::from_str(text).unwrap())
    }

    fn urls(hosts: &Hosts, name: &str) -> Vec<String> {
        hosts.of(name).unwrap().iter().map(|endpoint| endpoint.base.to_string()).collect()
    }

    #[test]
    fn a_name_without_an_entry_means_https_and_plain_http_on_this_machine() {
        let hosts = hosts("").unwrap();
        for (name, url) in [
            ("registry.example", "https://registry.example/v2/"),
            ("registry.example:5000", "https://registry.example:5000/v2/"),
            ("docker.io", "https://registry-1.docker.io/v2/"),
            ("localhost:5000", "http://localhost:5000/v2/"),
            ("127.0.0.1", "http://127.0.0.1/v2/"),
            ("[::1]:5000", "http://[::1]:5000/v2/"),
            ("localhost:443", "https://localhost/v2/"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2/"),
        ] {
            assert_eq!(urls(&hosts, name), [url], "{name}");
        }
    }

    #[test]
    fn mirrors_come_first_in_their_order_and_keep_their_paths() {
        let text = "[hosts.\"registry.example\"]\nserver = 'http://up:81'\n\
                    mirrors = [{url = 'https://a/cache'}, {url = 'http://b:5000/v2/proxy/'}]\n\
                    [hosts._default]\nmirrors = [{url = 'http://c'}]";
        let hosts = hosts(text).unwrap();
        let known = ["https://a/cache/v2/", "http://b:5000/v2/proxy/", "http://up:81/v2/"];
        assert_eq!(urls(&hosts, "registry.example"), known);
        assert_eq!(urls(&hosts, "other.example"), ["http://c/v2/", "https://other.example/v2/"]);
        let roles: Vec<_> =
            hosts.of("other.example").unwrap().into_iter().map(|e| e.role).collect();
        assert_eq!(roles, [Role::Mirror("other.example".to_owned()), Role::Server]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        for (text, part) in [
            ("[hosts.r]\nserver = 'ftp://x'", "registry.hosts.\"r\": URL \"ftp://x\""),
            ("[hosts.r]\nserver = 'x'", "URL \"x\""),
            ("[hosts.r]\nserver = 'http://u:p@x'", "holds credentials"),
            ("[hosts.r]\nheaders = {'a b' = 'c'}", "header \"a b\""),
            ("[hosts.r]\nusername = 'a'", "needs password_file"),
            ("[hosts.r]\nclient_key = '/k'", "client_certificate and client_key need each other"),
            ("[hosts._default]\nserver = 'http://x'", "give mirrors"),
        ] {
            let message = hosts(text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
