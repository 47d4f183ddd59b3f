//! A registry that does what a test wants: it serves what is put on its shelf, unless the test
//! says otherwise for a request. HTTP/1.1 by hand, because no library would send such answers.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

pub enum Body {
    Whole(Vec<u8>),
    /// These bytes, then the connection is closed, although so many were promised.
    Cut(Vec<u8>, usize),
    /// For ever.
    Endless,
    /// One by one, with a pause after each.
    Dripping(Vec<u8>, Duration),
    /// Nothing, and the connection stays open.
    Silence,
}

pub fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Reply {
    let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Reply { status, headers, body: Body::Whole(body.into()) }
}

pub fn broken(body: Body) -> Reply {
    Reply { status: 200, headers: Vec::new(), body }
}

/// Says what to answer; `None` is what an honest registry would.
type Rule = Box<dyn Fn(&Seen, usize) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct State {
    /// Content and its type by "/v2/..." path.
    shelf: Mutex<HashMap<String, (String, Vec<u8>)>>,
    seen: Mutex<Vec<Seen>>,
    rule: Mutex<Option<Rule>>,
    /// How long the reading of a large body takes.
    reading: Mutex<Duration>,
    over: AtomicBool,
}

pub struct Fake {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Fake {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, state }
    }

    /// What image names begin with.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn put(&self, path: impl Into<String>, kind: &str, content: impl Into<Vec<u8>>) {
        let content = (kind.to_owned(), content.into());
        self.state.shelf.lock().unwrap().insert(path.into(), content);
    }

    /// `rule` is given the request and how many came for its path before.
    pub fn rule(&self, rule: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static) {
        *self.state.rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// From now on large bodies are taken slowly.
    pub fn reads_for(&self, time: Duration) {
        *self.state.reading.lock().unwrap() = time;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Requests of a method whose path has `part` in it.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let fits = |seen: &&Seen| seen.method == method && seen.path.contains(part);
        self.state.seen.lock().unwrap().iter().filter(fits).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// Serves one connection until either side has enough.
fn serve(stream: &TcpStream, state: &State) {
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read(&mut reader, state) {
        let before = {
            let mut all = state.seen.lock().unwrap();
            let before = all.iter().filter(|s| s.path == seen.path && s.method == seen.method);
            let before = before.count();
            all.push(seen.clone());
            before
        };
        let ruled = state.rule.lock().unwrap().as_ref().and_then(|rule| rule(&seen, before));
        let reply = ruled.unwrap_or_else(|| honest(&seen, state));
        if write(stream, &seen, reply, state).is_none() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read(reader: &mut impl BufRead, state: &State) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    let pause = *state.reading.lock().unwrap() * (1 << 20) / length.max(1 << 20) as u32;
    for piece in body.chunks_mut(1 << 20) {
        if length > 1 << 20 && !state.over.load(Ordering::SeqCst) {
            std::thread::sleep(pause);
        }
        reader.read_exact(piece).ok()?;
    }
    Some(Seen { method, path, headers, body })
}

/// What is on the shelf, ranges too.
fn honest(seen: &Seen, state: &State) -> Reply {
    let path = seen.path.split('?').next().unwrap();
    let shelf = state.shelf.lock().unwrap();
    let Some((kind, content)) = shelf.get(path) else {
        let text = r#"{"errors": [{"code": "NOT_FOUND", "message": "it is not here"}]}"#;
        return reply(404, &[("content-type", "application/json")], text);
    };
    let digest = crate::images::kit::digest(content);
    let headers = [("content-type", kind.as_str()), ("docker-content-digest", digest.as_str())];
    let range = seen.header("range").strip_prefix("bytes=").and_then(|r| r.strip_suffix('-'));
    match range.and_then(|start| start.parse::<usize>().ok()) {
        None => reply(200, &headers, content.clone()),
        Some(start) if start >= content.len() => reply(416, &[], ""),
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
            let mut all = headers.to_vec();
            all.push(("content-range", &range));
            reply(206, &all, &content[start..])
        }
    }
}

/// `None` when the connection is of no use any more.
fn write(mut stream: &TcpStream, seen: &Seen, reply: Reply, state: &State) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} Said\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = match &reply.body {
        Body::Whole(bytes) => Some(bytes.len()),
        Body::Cut(_, promised) => Some(*promised),
        Body::Dripping(bytes, _) => Some(bytes.len()),
        Body::Endless | Body::Silence => None,
    };
    match length {
        Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        None => head.push_str("connection: close\r\n\r\n"),
    }
    if matches!(reply.body, Body::Silence) {
        while !state.over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        return None;
    }
    stream.write_all(head.as_bytes()).ok()?;
    if seen.method == "HEAD" {
        return Some(());
    }
    match reply.body {
        Body::Whole(bytes) => stream.write_all(&bytes).ok(),
        Body::Cut(bytes, _) => {
            stream.write_all(&bytes).ok()?;
            None
        }
        Body::Endless => {
            let piece = vec![0x5a; 64 << 10];
            while !state.over.load(Ordering::SeqCst) {
                stream.write_all(&piece).ok()?;
            }
            None
        }
        Body::Dripping(bytes, pause) => {
            for byte in bytes {
                stream.write_all(&[byte]).ok()?;
                std::thread::sleep(pause);
            }
            Some(())
        }
        Body::Silence => None,
    }
}
