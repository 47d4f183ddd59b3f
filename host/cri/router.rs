//! Sends each request to the gRPC service that its path names, and leaves a debug line for it.
//! tonic's own router would do that with axum, a web framework that nothing else here needs.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

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
        let Some(service) = self.find(request.uri().path()) else {
            let status = Status::unimplemented(format!("no service at {}", request.uri().path()));
            return Box::pin(std::future::ready(Ok(status.into_http())));
        };
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Box::pin(service.oneshot(request));
        }
        let (path, begun) = (request.uri().path().to_owned(), Instant::now());
        Box::pin(async move {
            let response = service.oneshot(request).await?;
            let took = begun.elapsed();
            match failure(response.headers()) {
                Some(status) => tracing::debug!(
                    "{path} failed after {took:?}: {:?}: {}",
                    status.code(),
                    status.message()
                ),
                None => tracing::debug!("{path} took {took:?}"),
            }
            Ok(response)
        })
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
