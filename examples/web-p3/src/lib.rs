//! A service of WASI 0.3. What it does is the request's path:
//!
//!     /        says hello
//!     /echo    streams the request's body back
//!     /trap    panics
//!     /count   how many requests this instance has answered
//!     /fetch?AUTHORITY/PATH   fetches it by http and passes its body on

use std::sync::atomic::{AtomicU32, Ordering};

use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Web;

wasip3::http::service::export!(Web);

static ANSWERED: AtomicU32 = AtomicU32::new(0);

impl wasip3::exports::http::handler::Guest for Web {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let count = ANSWERED.fetch_add(1, Ordering::Relaxed) + 1;
        match path {
            "/" => Ok(answer(200, b"hello from WASI 0.3\n".to_vec())),
            "/count" => Ok(answer(200, format!("{count}\n").into_bytes())),
            "/trap" => panic!("as asked"),
            "/echo" => {
                let (_, done) = wit_future::new(|| Ok(()));
                let (body, trailers) = Request::consume_body(request, done);
                Ok(Response::new(Fields::new(), Some(body), trailers).0)
            }
            "/fetch" => fetch(query).await,
            _ => Ok(answer(404, b"not found\n".to_vec())),
        }
    }
}

fn answer(status: u16, body: Vec<u8>) -> Response {
    let (mut to, from) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), Some(from), trailers);
    response.set_status_code(status).expect("a status");
    wit_bindgen::spawn_local(async move {
        // Whoever asked may have gone.
        to.write_all(body).await;
    });
    response
}

async fn fetch(target: &str) -> Result<Response, ErrorCode> {
    let (authority, path) = target.split_once('/').unwrap_or((target, ""));
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _) = Request::new(Fields::new(), None, trailers, None);
    let wrong = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&Scheme::Http)).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(wrong)?;
    let response = client::send(request).await?;
    let (_, done) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, done);
    Ok(Response::new(Fields::new(), Some(body), trailers).0)
}
