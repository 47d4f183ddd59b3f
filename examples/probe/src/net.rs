//! Sockets.
//!
//!     accept-many N            listens, tells the port, accepts and holds N or until an error
//!     connect-many ADDRESS N   connects and holds N or until an error

use std::net::{TcpListener, TcpStream};

use crate::Outcome;
use crate::errno;
use crate::files::number;

pub fn run(words: &[&str]) -> Option<Outcome> {
    Some(match words {
        ["accept-many", most] => number(most).and_then(accept),
        ["connect-many", address, most] => {
            number(most).map(|most| hoard(most, || TcpStream::connect(address)))
        }
        _ => return None,
    })
}

fn accept(most: usize) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening {}", listener.local_addr()?.port());
    let told = hoard(most, || listener.accept().map(|(stream, _)| stream));
    std::mem::forget(listener);
    Ok(told)
}

/// Kept open until the end.
fn hoard(most: usize, mut next: impl FnMut() -> std::io::Result<TcpStream>) -> Option<String> {
    for held in 0..most {
        match next() {
            Ok(stream) => std::mem::forget(stream),
            Err(error) => return Some(format!("{held} then {}", errno::name(&error))),
        }
    }
    Some(most.to_string())
}
