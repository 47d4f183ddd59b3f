//! Requests that guests send: names looked up by the container's own resolver, every address
//! asked of its policy, a connection for each request, TLS against the container's own
//! certificate authorities or else the host's.

use std::future::poll_fn;
use std::io::BufReader;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::body::{Patient, holding};
use crate::model::sockets::Protocol;
use crate::shim::ledger::Ledger;
use crate::shim::lock;
use crate::shim::network::Guard;
use crate::shim::resolver::{Failure, Resolver};

/// Where a guest has chosen nothing.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where distributions keep their certificate authorities, Debian's first.
const AUTHORITIES: [&str; 3] =
    ["etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/cert.pem"];

/// Bytes of them that are read.
const MOST_AUTHORITIES: usize = 1 << 20;

/// What sending sees of a Store; one per Store, for what it holds is cheap to share.
#[derive(Clone)]
pub struct Outgoing {
    pub resolver: Resolver,
    pub guard: Arc<Guard>,
    pub ledger: Arc<Ledger>,
    pub authorities: Arc<Authorities>,
}

/// Whom the container trusted at its last encrypted connection, and the SHA-256 of the file that
/// says so: reading it as certificates takes far longer than the rest of a connection.
#[derive(Default)]
pub struct Authorities(Mutex<Option<([u8; 32], Arc<ClientConfig>)>>);

/// What a future of a response ends with: the response, and the rest of the connection's work.
type Sent = Result<(Response<WasiBody>, Rest), Error>;
type Rest = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (own, options) = (self.clone(), options.unwrap_or_default());
        Box::new(async move { own.send(request, options).await })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Outgoing {
    async fn send(self, mut request: Request<WasiBody>, options: RequestOptions) -> Sent {
        let connecting = options.connect_timeout.unwrap_or(PATIENCE);
        let connected = timeout(connecting, self.connect(request.uri()));
        let stream = connected.await.unwrap_or(Err(Error::ConnectionTimeout))?;
        let permit = self.ledger.socket().ok_or(Error::ConnectionLimitReached)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
        let mut connection = Some(Box::pin(connection));
        let first_byte = options.first_byte_timeout.unwrap_or(PATIENCE);
        let answered = {
            let mut sent = pin!(timeout(first_byte, sender.send_request(request)));
            // The connection does the work that the response waits for.
            poll_fn(|cx| {
                if let Poll::Ready(answered) = sent.as_mut().poll(cx) {
                    return Poll::Ready(answered);
                }
                if let Some(working) = &mut connection
                    && working.as_mut().poll(cx).is_ready()
                {
                    connection = None;
                    return sent.as_mut().poll(cx);
                }
                Poll::Pending
            })
            .await
        };
        let response = answered.map_err(|_| Error::ConnectionReadTimeout)??;
        let between = options.between_bytes_timeout.unwrap_or(PATIENCE);
        let between = between.max(Duration::from_millis(1));
        let body = response.map(|body| holding(Patient::new(body, between).boxed_unsync(), permit));
        let rest = async move {
            match connection {
                Some(connection) => connection.await.map_err(Error::from),
                None => Ok(()),
            }
        };
        Ok((body, Box::new(rest)))
    }

    async fn connect(&self, uri: &Uri) -> Result<Pin<Box<dyn Stream>>, Error> {
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or(Error::HttpRequestUriInvalid)?;
        let is_secret = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_secret { 443 } else { 80 });
        let addresses = self.resolver.look_up(host).await.map_err(no_address)?;
        let mut last = Error::HttpRequestDenied;
        for ip in addresses {
            let Some(address) = self.guard.meant(Protocol::Tcp, SocketAddr::new(ip, port)) else {
                last = Error::Connect(std::io::ErrorKind::ConnectionRefused.into());
                continue;
            };
            if !self.guard.allows(address, SocketAddrUse::TcpConnect) {
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) if is_secret => return self.encrypt(stream, host).await,
                Ok(stream) => return Ok(Box::pin(stream)),
                Err(error) => last = Error::Connect(error),
            }
        }
        Err(last)
    }

    async fn encrypt(&self, stream: TcpStream, host: &str) -> Result<Pin<Box<dyn Stream>>, Error> {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_| Error::HttpRequestUriInvalid)?;
        let config = self.certificates().ok_or(Error::ConfigurationError)?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(Error::Tls)?;
        Ok(Box::pin(stream))
    }

    /// Trusts whom the container's image trusts; one without authorities of its own, whom the
    /// host does.
    fn certificates(&self) -> Option<Arc<ClientConfig>> {
        let mut own = AUTHORITIES
            .iter()
            .map(|path| self.resolver.read_file(path.as_bytes(), MOST_AUTHORITIES));
        let Some(text) = own.find(|text| !text.is_empty()) else { return of_host() };
        let digest = Sha256::digest(&text).into();
        let mut last = lock(&self.authorities.0);
        if let Some((_, config)) = last.as_ref().filter(|(of, _)| *of == digest) {
            return Some(config.clone());
        }
        let found = CertificateDer::pem_reader_iter(BufReader::new(text.as_slice()));
        let config = trusting(found.filter_map(Result::ok))?;
        *last = Some((digest, config.clone()));
        Some(config)
    }
}

fn of_host() -> Option<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    CONFIG.get_or_init(|| trusting(rustls_native_certs::load_native_certs().certs)).clone()
}

fn trusting(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let versions = builder.with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(versions.with_root_certificates(roots).with_no_client_auth()))
}

fn no_address(failure: Failure) -> Error {
    let rcode = |name: &str| Error::DnsError { rcode: Some(name.to_owned()), info_code: None };
    match failure {
        Failure::Denied => Error::HttpRequestDenied,
        Failure::Invalid => Error::HttpRequestUriInvalid,
        Failure::Unresolvable => rcode("NXDOMAIN"),
        Failure::Permanent => rcode("REFUSED"),
        Failure::Temporary => Error::DnsTimeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::wasi::component::testing::World;

    #[test]
    fn authorities_are_read_again_when_their_file_is_another() {
        let world = World::new();
        let context = world.context(&["guest"]);
        let (guard, ledger) = (context.guard, context.ledger);
        let resolver = Resolver::new(context.root, guard.clone(), ledger.clone());
        let outgoing = Outgoing { resolver, guard, ledger, authorities: Arc::default() };
        let write = |text: &str| {
            std::fs::create_dir_all(world.path("etc/ssl")).unwrap();
            std::fs::write(world.path("etc/ssl/cert.pem"), text).unwrap();
        };
        write("nobody");
        let first = outgoing.certificates().unwrap();
        assert!(Arc::ptr_eq(&first, &outgoing.clone().certificates().unwrap()));
        write("somebody else");
        assert!(!Arc::ptr_eq(&first, &outgoing.certificates().unwrap()));
    }
}
