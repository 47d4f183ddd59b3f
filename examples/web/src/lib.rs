//! A service of WASI 0.2. What it does is the request's path:
//!
//!     /            says hello, from the pod's hostname
//!     /healthz     ok, and nothing in the log
//!     /echo        the request's body
//!     /trap        panics
//!     /exit        ends as a program would
//!     /quit        ends its container, with code 5
//!     /spin        never ends, in code
//!     /sleep       never ends, asleep
//!     /slow        answers after half a second
//!     /eat         takes memory until there is none
//!     /count       how many requests this instance has answered
//!     /fetch?URL   fetches http URL and passes its body on
//!     /look?NAME   the addresses of a name

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

struct Web;

wasip2::http::proxy::export!(Web);

static ANSWERED: AtomicU32 = AtomicU32::new(0);

impl wasip2::exports::http::incoming_handler::Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let count = ANSWERED.fetch_add(1, Ordering::Relaxed) + 1;
        // Probes come every few seconds.
        if path != "/healthz" {
            println!("asked for {path}");
        }
        let (status, body) = match path {
            "/" => {
                let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
                (200, format!("hello from {}\n", host.trim()).into_bytes())
            }
            "/healthz" => (200, b"ok\n".to_vec()),
            "/echo" => (200, read(request.consume().expect("a body"))),
            "/trap" => panic!("as asked"),
            "/exit" => std::process::exit(3),
            "/quit" => wasmpod_guest::this::exit(5),
            "/spin" => loop {
                std::hint::spin_loop();
            },
            "/sleep" => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            "/slow" => {
                std::thread::sleep(Duration::from_millis(500));
                (200, b"slow\n".to_vec())
            }
            "/eat" => {
                let mut held = Vec::new();
                loop {
                    held.push(vec![1_u8; 1 << 20]);
                }
            }
            "/count" => (200, format!("{count}\n").into_bytes()),
            "/fetch" => match fetch(query) {
                Ok(body) => (200, body),
                Err(why) => (502, format!("{why}\n").into_bytes()),
            },
            "/look" => match std::net::ToSocketAddrs::to_socket_addrs(&(query, 0)) {
                Ok(found) => {
                    let found: Vec<_> = found.map(|at| at.ip().to_string()).collect();
                    (200, format!("{}\n", found.join(" ")).into_bytes())
                }
                Err(error) => (502, format!("{error}\n").into_bytes()),
            },
            _ => (404, b"not found\n".to_vec()),
        };
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(status).expect("a status");
        let to = response.body().expect("a body");
        ResponseOutparam::set(out, Ok(response));
        let mut stream = to.write().expect("a stream");
        // Whoever asked may have gone.
        let _ = stream.write_all(&body).and_then(|()| std::io::Write::flush(&mut stream));
        drop(stream);
        let _ = OutgoingBody::finish(to, None);
    }
}

fn read(body: IncomingBody) -> Vec<u8> {
    let stream = body.stream().expect("a stream");
    let mut all = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(bytes) => all.extend(bytes),
            Err(StreamError::Closed) => return all,
            Err(error) => panic!("reading a body: {error:?}"),
        }
    }
}

fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => return Err("no http or https URL".to_owned()),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    let wrong = |()| "no URL".to_owned();
    request.set_scheme(Some(&scheme)).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(wrong)?;
    let answer = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    answer.subscribe().block();
    let answer = answer.get().expect("it is there").expect("once");
    let answer = answer.map_err(|code| format!("{code:?}"))?;
    Ok(read(answer.consume().map_err(wrong)?))
}
