//! nc, nslookup, netstat; wget and httpd have files of their own.

mod httpd;
mod wget;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::{Call, Failure, Known, Order, Outcome, number};
use crate::stream::Stream;
use crate::sys::{self, Connection, File, Listener, Mode};

pub use httpd::httpd;
pub use wget::wget;

/// The addresses of a host and port.
fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => sys::resolve(host)
            .map_err(|error| format!("bad address '{host}': {}", sys::text(&error)))?,
    };
    if found.is_empty() {
        return Err(format!("bad address '{host}': it has none").into());
    }
    Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// Connects to the first address that takes it.
fn connect(host: &str, port: u16) -> Result<Connection, Failure> {
    let mut last = String::new();
    for address in addresses(host, port)? {
        match Connection::open(address) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = format!("can't connect to {address}: {}", sys::text(&error)),
        }
    }
    Err(last.into())
}

pub fn nc(call: &mut Call) -> Outcome {
    let given = call.options_of(&Known { letters: "lp:w:znvks:i:", long: &[] }, Order::Any)?;
    let mut words: Vec<&String> = given.rest.iter().collect();
    if given.has('l') {
        let port = match given.value('p') {
            Some(port) => number::<u16>(port)?,
            None => number(words.pop().map_or("", |word| word.as_str()))?,
        };
        let host =
            given.value('s').or(words.first().map(|word| word.as_str())).unwrap_or("0.0.0.0");
        let address = addresses(host, port)?.remove(0);
        let listener =
            Listener::open(address).map_err(|e| format!("{address}: {}", sys::text(&e)))?;
        if given.has('v') {
            call.complain(&format!("listening on {address}"));
        }
        listener.accept()?.relay(&mut call.out)?;
        return Ok(0);
    }
    let [host, port] = words.as_slice() else {
        return Err(Failure::Says(
            "usage: nc [-zv] HOST PORT, nc -l [-s HOST] -p PORT".to_owned(),
            1,
        ));
    };
    let connection = connect(host, number(port)?)?;
    if given.has('v') {
        call.complain(&format!("{host} ({port}) open"));
    }
    if !given.has('z') {
        connection.relay(&mut call.out)?;
    }
    Ok(0)
}

pub fn nslookup(call: &mut Call) -> Outcome {
    let Some(name) = call.arguments.iter().find(|word| !word.starts_with('-')).cloned() else {
        return Err(Failure::Says("usage: nslookup NAME".to_owned(), 1));
    };
    let found = sys::resolve(&name)
        .map_err(|error| format!("can't resolve '{name}': {}", sys::text(&error)))?;
    writeln!(call.out, "Name:\t{name}")?;
    for address in found {
        writeln!(call.out, "Address: {address}")?;
    }
    Ok(0)
}

/// What the kernel tells, where the container has a /proc; WASI itself tells of no sockets.
pub fn netstat(call: &mut Call) -> Outcome {
    let given = call.options("lntuap")?;
    let mut lines = Vec::new();
    let mut is_there = false;
    for (file, name) in [("tcp", "tcp"), ("tcp6", "tcp6"), ("udp", "udp"), ("udp6", "udp6")] {
        let text = File::open(&format!("/proc/net/{file}"), Mode::Read);
        let Ok(text) = text.and_then(|file| Stream::file(file).read_all()) else { continue };
        is_there = true;
        for line in String::from_utf8_lossy(&text).lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, state, ..] = fields.as_slice() else { continue };
            let listens = *state == "0A" || name.starts_with("udp");
            if !given.has('a') && listens != given.has('l') {
                continue;
            }
            let state = match *state {
                "0A" => "LISTEN",
                "01" => "ESTABLISHED",
                "06" => "TIME_WAIT",
                "08" => "CLOSE_WAIT",
                _ => "",
            };
            lines.push(format!(
                "{name:5} {:>6} {:>6} {:23} {:23} {state}",
                0,
                0,
                shown(local),
                shown(remote)
            ));
        }
    }
    if !is_there {
        return Err(Failure::Says(
            "the container has no /proc/net, and WASI does not tell of other programs' sockets"
                .to_owned(),
            1,
        ));
    }
    call.out.line("Proto Recv-Q Send-Q Local Address           Foreign Address         State")?;
    for line in lines {
        call.out.line(&line)?;
    }
    Ok(0)
}

/// An address as the kernel writes it: words of four bytes in the machine's order.
fn shown(text: &str) -> String {
    let (address, port) = text.split_once(':').unwrap_or((text, "0"));
    let port = u16::from_str_radix(port, 16).unwrap_or(0);
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).unwrap_or_default();
        u32::from_str_radix(word, 16).unwrap_or(0).swap_bytes()
    });
    let words: Vec<u32> = words.collect();
    let address = match words.as_slice() {
        [own] => IpAddr::V4((*own).into()),
        words => {
            let all = words.iter().fold(0u128, |all, word| all << 32 | u128::from(*word));
            IpAddr::V6(all.into())
        }
    };
    format!("{}:{}", address, if port == 0 { "*".to_owned() } else { port.to_string() })
}
