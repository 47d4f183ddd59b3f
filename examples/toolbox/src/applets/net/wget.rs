//! wget, over plain HTTP.

use std::io::Write;

use super::super::system::nanoseconds;
use super::super::{Call, Failure, Known, Order, Outcome, base};
use super::connect;
use crate::stream::Stream;
use crate::sys::{self, Connection, File, Mode};

const OPTIONS: Known = Known {
    letters: "qO:T:SU:P:1:2:3ct:4",
    long: &[
        ("quiet", 'q'),
        ("output-document", 'O'),
        ("timeout", 'T'),
        ("server-response", 'S'),
        ("user-agent", 'U'),
        ("header", '1'),
        ("post-data", '2'),
        ("spider", '3'),
        ("no-check-certificate", '4'),
        ("tries", 't'),
    ],
};

/// Redirections that are followed.
const MOST: usize = 5;
/// Bytes of an answer's head.
const HEAD: usize = 64 << 10;
/// How long nothing may come, in nanoseconds.
const PATIENCE: u64 = 60_000_000_000;

struct Url {
    host: String,
    port: u16,
    path: String,
}

fn parse(text: &str) -> Result<Url, Failure> {
    let rest = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => return Err(format!("{text}: https is not supported").into()),
        Some((scheme, _)) => return Err(format!("{text}: {scheme} is not supported").into()),
        None => text,
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => (host, super::number(port)?),
        None => (authority, 80),
    };
    let path = path.split('#').next().unwrap_or_default().to_owned();
    Ok(Url { host: host.to_owned(), port, path })
}

/// An answer whose body is read bit by bit.
struct Answer {
    connection: Connection,
    patience: u64,
    bytes: Vec<u8>,
    status: u16,
    head: String,
}

impl Answer {
    fn more(&mut self) -> Result<bool, Failure> {
        let mut own = vec![0; 1 << 16];
        let count = self.connection.read(&mut own, self.patience)?;
        self.bytes.extend(own.get(..count).unwrap_or_default());
        Ok(count > 0)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn read_head(&mut self) -> Result<(), Failure> {
        let end = loop {
            if let Some(at) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.bytes.len() > HEAD || !self.more()? {
                return Err("the server's answer is no HTTP".to_owned().into());
            }
        };
        let head: Vec<u8> = self.bytes.drain(..end).collect();
        self.head = String::from_utf8_lossy(&head).into_owned();
        let status = self.head.split_whitespace().nth(1).and_then(|text| text.parse().ok());
        self.status = status.ok_or_else(|| "the server's answer is no HTTP".to_owned())?;
        Ok(())
    }

    /// A line of a body in pieces.
    fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(at) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=at).collect();
                return Ok(String::from_utf8_lossy(&line).trim().to_owned());
            }
            if self.bytes.len() > HEAD || !self.more()? {
                return Err("the connection was closed in the middle".to_owned().into());
            }
        }
    }

    fn copy(&mut self, mut left: u64, out: &Stream) -> Result<(), Failure> {
        while left > 0 {
            if self.bytes.is_empty() && !self.more()? {
                return match left {
                    u64::MAX => Ok(()),
                    _ => Err("the connection was closed in the middle".to_owned().into()),
                };
            }
            let most = self.bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let own: Vec<u8> = self.bytes.drain(..most).collect();
            out.write(&own)?;
            if left != u64::MAX {
                left -= most as u64;
            }
        }
        Ok(())
    }

    fn body(&mut self, out: &Stream) -> Result<(), Failure> {
        if self
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            loop {
                let line = self.line()?;
                let size = line.split(';').next().unwrap_or_default();
                let size =
                    u64::from_str_radix(size, 16).map_err(|_| "a bad chunk came".to_owned())?;
                if size == 0 {
                    return Ok(());
                }
                self.copy(size, out)?;
                self.line()?;
            }
        }
        let length = self.header("content-length").and_then(|value| value.parse().ok());
        self.copy(length.unwrap_or(u64::MAX), out)
    }
}

pub fn wget(call: &mut Call) -> Outcome {
    let given = call.options_of(&OPTIONS, Order::Any)?;
    let Some(mut location) = given.rest.first().cloned() else {
        return Err(Failure::Says("usage: wget [-qS] [-O FILE] [-T SECONDS] URL".to_owned(), 1));
    };
    let patience = given.value('T').map_or(Some(PATIENCE), nanoseconds);
    let patience = patience.ok_or_else(|| "invalid timeout".to_owned())?;
    let post = given.value('2');
    for _ in 0..=MOST {
        let url = parse(&location)?;
        let connection = connect(&url.host, url.port)?;
        let method = match (given.has('3'), post) {
            (true, _) => "HEAD",
            (_, Some(_)) => "POST",
            _ => "GET",
        };
        let port = if url.port == 80 { String::new() } else { format!(":{}", url.port) };
        let agent = given.value('U').unwrap_or("Wget");
        let mut request = format!(
            "{method} {} HTTP/1.1\r\nHost: {}{port}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\
             Connection: close\r\n",
            url.path, url.host
        );
        for header in given.values('1') {
            request.push_str(&format!("{}\r\n", header.trim()));
        }
        if let Some(post) = post {
            request.push_str(&format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
                post.len()
            ));
        }
        request.push_str("\r\n");
        request.push_str(post.unwrap_or_default());
        connection.write(request.as_bytes())?;
        let mut answer =
            Answer { connection, patience, bytes: Vec::new(), status: 0, head: String::new() };
        answer.read_head()?;
        if given.has('S') {
            call.errors.write(answer.head.replace('\r', "").as_bytes())?;
        }
        if matches!(answer.status, 301 | 302 | 303 | 307 | 308)
            && let Some(to) = answer.header("location")
        {
            location = match to.starts_with('/') {
                true => format!("http://{}:{}{to}", url.host, url.port),
                false => to.to_owned(),
            };
            continue;
        }
        if answer.status >= 400 {
            let line = answer.head.lines().next().unwrap_or_default().to_owned();
            return Err(format!("server returned error: {line}").into());
        }
        if given.has('3') {
            return Ok(0);
        }
        let own = base(url.path.split('?').next().unwrap_or_default());
        let own = if own.is_empty() { "index.html" } else { own };
        let name = given.value('O').unwrap_or(own);
        let out = match name {
            "-" => call.out.stream().clone(),
            name => {
                let folder = given.value('P').map_or(String::new(), |folder| format!("{folder}/"));
                let path = call.path(&format!("{folder}{name}"));
                let file = File::open(&path, Mode::Write);
                Stream::file(
                    file.map_err(|error| format!("can't open '{name}': {}", sys::text(&error)))?,
                )
            }
        };
        answer.body(&out)?;
        if !given.has('q') && name != "-" {
            call.complain(&format!("saved to '{name}'"));
        }
        return Ok(0);
    }
    call.out.flush()?;
    Err("too many redirections".to_owned().into())
}
