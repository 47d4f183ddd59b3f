//! Sends each request to the gRPC service that its path names, counts and traces it, and leaves a
//! debug line for it.
//! tonic's own router would do that with axum, a web framework that nothing else here needs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Instant;

use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::proto::METHODS;
use crate::telemetry::metrics;
use crate::telemetry::trace::Call;

type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;
type Reply = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The gRPC services of one socket.
#[derive(Clone, Default)]
pub struct Router {
    services: Arc<Vec<(&'static str, Boxed)>>,
}

impl Router {
    /// The router with one more service.
    pub fn with<S>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let mut services = Arc::unwrap_or_clone(self.services);
        services.push((S::NAME, BoxCloneSyncService::new(service)));
        Self { services: Arc::new(services) }
    }

    /// The service of a path, which is "/package.Service/Method".
    fn find(&self, path: &str) -> Option<Boxed> {
        let name = path.strip_prefix('/')?.split('/').next()?;
        self.services.iter().find(|(known, _)| *known == name).map(|(_, service)| service.clone())
    }
}

impl Service<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Reply {
        let (method, begun) = (known(request.uri().path()), Instant::now());
        let Some(service) = self.find(request.uri().path()) else {
            let status = Status::unimplemented(format!("no service at {}", request.uri().path()));
            metrics().rpc(method, name(Code::Unimplemented), begun.elapsed());
            return Box::pin(std::future::ready(Ok(status.into_http())));
        };
        let is_traced = TRACED.contains(&method.1);
        let call = if is_traced { Call::begin(method, request.headers()) } else { None };
        let path =
            tracing::enabled!(tracing::Level::DEBUG).then(|| request.uri().path().to_owned());
        Box::pin(async move {
            let answer = service.oneshot(request);
            let response = match &call {
                Some(call) => call.within(answer).await?,
                None => answer.await?,
            };
            let (took, failed) = (begun.elapsed(), failure(response.headers()));
            let code = name(failed.as_ref().map_or(Code::Ok, Status::code));
            metrics().rpc(method, code, took);
            if let Some(path) = path {
                match &failed {
                    Some(status) => tracing::debug!(
                        "{path} failed after {took:?}: {code}: {}",
                        status.message()
                    ),
                    None => tracing::debug!("{path} took {took:?}"),
                }
            }
            if let Some(call) = call {
                call.end(code, failed.map(|status| status.message().to_owned()));
            }
            Ok(response)
        })
    }
}

/// The calls that make a pod's start.
const TRACED: [&str; 4] = ["RunPodSandbox", "PullImage", "CreateContainer", "StartContainer"];

/// The service and method of a path: what clients invent is unknown, so that these stay few.
fn known(path: &str) -> (&'static str, &'static str) {
    type Methods = HashMap<String, (&'static str, &'static str)>;
    static KNOWN: LazyLock<Methods> = LazyLock::new(|| {
        METHODS
            .iter()
            .map(|&(service, name)| (format!("/{service}/{name}"), (service, name)))
            .collect()
    });
    KNOWN.get(path).copied().unwrap_or(("unknown", "unknown"))
}

/// A code's name, as gRPC's documents have it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "Ok",
        Code::Cancelled => "Cancelled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// A failed unary call's status stands in the headers; a good one's in the trailers.
fn failure(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unknown_service_is_unimplemented_and_named() {
        let request = Request::builder().uri("/a.B/C").body(Body::empty()).unwrap();
        let response = Router::default().oneshot(request).await.unwrap();
        let status = failure(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("/a.B/C"));
    }
}
