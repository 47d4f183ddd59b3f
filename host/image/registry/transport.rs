//! The HTTP clients: which certificates they trust, how long they wait, and which addresses they
//! may connect to when a registry sends us elsewhere. Knows no protocol above HTTP. Proxies come
//! from the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, redirect};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::hosts::{Identity, Trust, is_this_machine};
use crate::error::{Error, Result};

const CONNECT: Duration = Duration::from_secs(15);
/// Connections to one place that are kept for the next request.
const IDLE: usize = 4;
const AGENT: &str = concat!("wasmpod/", env!("CARGO_PKG_VERSION"));

/// Clients by whom they trust and who they are.
#[derive(Debug, Default)]
pub struct Transports {
    made: Mutex<HashMap<Trust, (Stamps, Arc<Transport>)>>,
}

/// When each file was last written: certificates are renewed while we run.
type Stamps = Vec<Option<SystemTime>>;

/// Clients that trust the same certificates.
#[derive(Debug)]
pub struct Transport {
    /// For what the configuration or a user's image name says.
    own: Client,
    /// As `own`, for registries of this machine: no proxy could reach these.
    own_near: Client,
    /// For where registries of this machine send us, who are not told who we are.
    near: Client,
    /// For where any other registry sends us: never to this machine.
    far: Client,
}

impl Transports {
    /// Clients for what these PEM files say, besides the system's certificates. Reads the files
    /// the first time, and when they were changed.
    pub fn get(&self, trust: &Trust) -> Result<Arc<Transport>> {
        let stamps = stamps(trust);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, transport)) = made.get(trust)
            && *then == stamps
        {
            return Ok(transport.clone());
        }
        let roots = roots(&trust.ca)?;
        let own = tls(roots.clone(), trust.identity.as_ref())?;
        let stranger = tls(roots, None)?;
        let transport = Arc::new(Transport {
            own: client(&own, None)?,
            own_near: client(&own, Some(Reach::Near))?,
            near: client(&stranger, Some(Reach::Near))?,
            far: client(&stranger, Some(Reach::Far))?,
        });
        made.insert(trust.clone(), (stamps, transport.clone()));
        Ok(transport)
    }
}

impl Transport {
    /// The client for a place that the configuration or an image's name says.
    pub fn own(&self, place: &Url) -> &Client {
        if place.host_str().is_some_and(is_this_machine) { &self.own_near } else { &self.own }
    }

    /// The client for a place that `from` named, which nobody here chose. The error is a clause
    /// about that place.
    pub fn elsewhere(&self, from: &Url, to: &Url) -> std::result::Result<&Client, String> {
        if from.scheme() == "https" && to.scheme() != "https" {
            return Err("it would leave https for plain http".to_owned());
        }
        if !matches!(to.scheme(), "http" | "https") {
            return Err(format!("its scheme {:?} is not http", to.scheme()));
        }
        let Some(host) = to.host_str() else { return Err("it has no host".to_owned()) };
        let near = from.host_str().is_some_and(is_this_machine);
        let reach = if near { Reach::Near } else { Reach::Far };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let fine = match address {
            Ok(address) => reach.allows(address),
            Err(_) => reach == Reach::Near || !is_this_machine(host),
        };
        if !fine {
            return Err(format!("{host} is an address of this machine itself"));
        }
        Ok(if reach == Reach::Near { &self.near } else { &self.far })
    }
}

/// Which addresses may be reached on a stranger's word. What only this machine can reach must not
/// be reached through us: its loopback, and the link's own (a cloud's metadata service).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Near,
    Far,
}

impl Reach {
    fn allows(self, address: IpAddr) -> bool {
        let local = |v4: std::net::Ipv4Addr| {
            v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()
        };
        match address.to_canonical() {
            IpAddr::V4(v4) => !local(v4) && (self == Self::Near || !v4.is_loopback()),
            IpAddr::V6(v6) => {
                !v6.is_unicast_link_local()
                    && !v6.is_unspecified()
                    && !v6.is_multicast()
                    && (self == Self::Near || !v6.is_loopback())
            }
        }
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| reach.allows(address.ip())).collect();
            if allowed.is_empty() {
                let text = format!("{} is an address of this machine itself", name.as_str());
                return Err(std::io::Error::other(text).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn client(tls: &rustls::ClientConfig, reach: Option<Reach>) -> Result<Client> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(IDLE)
        .user_agent(AGENT);
    if let Some(reach) = reach {
        builder = builder.dns_resolver(Arc::new(reach));
    }
    if reach == Some(Reach::Near) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| Error::Internal(format!("making an HTTP client: {error}")))
}

fn stamps(trust: &Trust) -> Stamps {
    let own = trust.identity.iter().flat_map(|own| [&own.certificate, &own.key]);
    let files = trust.ca.iter().chain(own);
    files.map(|file| std::fs::metadata(file).and_then(|found| found.modified()).ok()).collect()
}

fn roots(ca: &[PathBuf]) -> Result<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    // A machine without certificates can still use those of the configuration.
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    for file in ca {
        for certificate in certificates(file, "CA file")? {
            roots.add(certificate).map_err(|error| unusable("CA file", file, &error))?;
        }
    }
    Ok(roots)
}

fn unusable(what: &str, file: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Invalid(format!("{what} {} cannot be used: {error}", file.display()))
}

fn certificates(file: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| unusable(what, file, &error))?;
    if found.is_empty() {
        return Err(unusable(what, file, &"it holds no certificate"));
    }
    Ok(found)
}

fn tls(roots: rustls::RootCertStore, identity: Option<&Identity>) -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Internal(format!("setting up TLS: {error}")))?
        .with_root_certificates(roots);
    let Some(Identity { certificate, key }) = identity else {
        return Ok(config.with_no_client_auth());
    };
    let chain = certificates(certificate, "client certificate")?;
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("client key", key, &error))?;
    config
        .with_client_auth_cert(chain, secret)
        .map_err(|error| unusable("client certificate", certificate, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(from: &str, to: &str) -> String {
        let transport = Transports::default().get(&Trust::default()).unwrap();
        let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
        transport.elsewhere(&from, &to).err().unwrap_or_default()
    }

    #[test]
    fn a_registry_cannot_send_us_to_this_machine_or_its_link() {
        for to in [
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://169.254.169.254/latest",
            "https://0.0.0.0/",
            "https://localhost/",
            "https://x.localhost/",
        ] {
            assert!(verdict("https://r.example/v2/", to).contains("this machine"), "{to}");
        }
        let near = "http://127.0.0.1:5000/v2/";
        assert!(verdict(near, "http://169.254.169.254/").contains("this machine"));
        assert_eq!(verdict(near, "http://127.0.0.1:5001/"), "");
        assert_eq!(verdict("https://r.example/v2/", "https://cdn.example/x"), "");
    }

    #[test]
    fn https_is_never_left_for_http() {
        let said = verdict("https://r.example/v2/", "http://cdn.example/x");
        assert!(said.contains("plain http"), "{said}");
        assert!(verdict("http://r.example/", "file:///etc/passwd").contains("scheme"));
    }

    #[tokio::test]
    async fn a_name_of_this_machine_does_not_resolve_for_strangers() {
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(Reach::Far.resolve(name()).await.is_err());
        assert!(Reach::Near.resolve(name()).await.is_ok());
    }
}
