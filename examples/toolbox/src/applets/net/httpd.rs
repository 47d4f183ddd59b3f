//! httpd: the files of a folder, one request after another.

use std::io;

use super::super::{Call, Known, Order, Outcome, number};
use super::addresses;
use crate::stream::Stream;
use crate::sys::{self, Connection, File, Follow, Kind, Listener, Mode};

/// How long a client may say nothing, in nanoseconds.
const PATIENCE: u64 = 5_000_000_000;
const HEAD: usize = 16 << 10;

pub fn httpd(call: &mut Call) -> Outcome {
    let given = call.options_of(&Known { letters: "fp:h:vi", long: &[] }, Order::Any)?;
    let place = given.value('p').unwrap_or("80");
    let (host, port) = place.rsplit_once(':').unwrap_or(("0.0.0.0", place));
    let address = addresses(host, number(port)?)?.remove(0);
    let listener =
        Listener::open(address).map_err(|error| format!("{address}: {}", sys::text(&error)))?;
    if given.has('v') {
        call.complain(&format!("listening on {address}"));
    }
    let folder = call.path(given.value('h').unwrap_or("."));
    loop {
        let connection = listener.accept()?;
        let answered = answer(&connection, &folder);
        connection.end_writing();
        if given.has('v') {
            match answered {
                Ok(line) => call.complain(&line),
                Err(error) => call.complain(&sys::text(&error)),
            }
        }
    }
}

/// Gives a line for the log.
fn answer(connection: &Connection, folder: &str) -> io::Result<String> {
    let (mut head, mut bytes) = (Vec::new(), vec![0; 4096]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = connection.read(&mut bytes, PATIENCE)?;
        head.extend(bytes.get(..count).unwrap_or_default());
        if count == 0 || head.len() > HEAD {
            return Err(io::Error::other("no request came"));
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let target = decoded(target.split('?').next().unwrap_or_default());
    let mut path = format!("{}{}", folder.trim_end_matches('/'), sys::normal(&target));
    if sys::stat(&path, Follow::Yes).is_ok_and(|found| found.kind == Kind::Folder) {
        path = format!("{}/index.html", path.trim_end_matches('/'));
    }
    let file = File::open(&path, Mode::Read);
    let (status, size) = match (&file, method) {
        (_, method) if !matches!(method, "GET" | "HEAD") => ("405 Method Not Allowed", 0),
        (Ok(_), _) => ("200 OK", sys::stat(&path, Follow::Yes)?.size),
        (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => ("403 Forbidden", 0),
        (Err(_), _) => ("404 Not Found", 0),
    };
    let is_found = status.starts_with("200");
    let text = if is_found { String::new() } else { format!("{status}\n") };
    let length = if is_found { size } else { text.len() as u64 };
    let kind = match path.rsplit('.').next() {
        Some("html" | "htm") if is_found => "text/html",
        Some("css") if is_found => "text/css",
        Some("js") if is_found => "text/javascript",
        Some("json") if is_found => "application/json",
        Some("png") if is_found => "image/png",
        Some("svg") if is_found => "image/svg+xml",
        Some("wasm") if is_found => "application/wasm",
        _ => "text/plain",
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    );
    connection.write(answer.as_bytes())?;
    if let (Ok(file), true, "GET") = (file, is_found, method) {
        let stream = Stream::file(file);
        let mut left = size;
        let mut bytes = vec![0; 1 << 16];
        while left > 0 {
            let most = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = stream.read(bytes.get_mut(..most).unwrap_or_default())?;
            if count == 0 {
                break;
            }
            connection.write(bytes.get(..count).unwrap_or_default())?;
            left -= count as u64;
        }
    }
    Ok(format!("{method} {target} {status}"))
}

/// `%20` and the like.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%'
            && let [high, low, beyond @ ..] = after
            && let Some(byte) = std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            bytes.push(byte);
            rest = beyond;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
