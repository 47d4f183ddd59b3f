//! Carries bytes between two connections, both ways at once, with one buffer for all of the
//! thread's connections: an idle one holds no memory, a stalled one what its reader did not take.

use std::cell::RefCell;
use std::io::{self, ErrorKind};

use futures::future::try_join;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

/// Bytes that are read at once: what stalls in one direction of a connection.
pub const BUFFER: usize = 64 << 10;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// Returns once both directions have ended; an error of one ends the other.
pub async fn both_ways(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    try_join(one_way(one, other), one_way(other, one)).await.map(drop)
}

/// Until the end of `from`, which is then the end of `to`.
async fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        from.readable().await?;
        // One that always has more must not keep the others waiting.
        consume_budget().await;
        let rest = match pass(from, to) {
            Ok(Passed::All) => continue,
            Ok(Passed::Nothing) => break,
            Ok(Passed::AllBut(rest)) => rest,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let mut left = rest.as_slice();
        while !left.is_empty() {
            to.writable().await?;
            left = left.get(write(to, left)?..).unwrap_or_default();
        }
    }
    match shutdown(to, Shutdown::Write) {
        // Whoever was there has gone already.
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

enum Passed {
    All,
    /// What the other side takes later.
    AllBut(Vec<u8>),
    /// There is nothing more.
    Nothing,
}

/// Reads once and writes what can be written now.
fn pass(from: &TcpStream, to: &TcpStream) -> io::Result<Passed> {
    SHARED.with_borrow_mut(|buffer| {
        let read = from.try_read(buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Passed::Nothing);
        }
        let left = bytes.get(write(to, bytes)?..).unwrap_or_default();
        Ok(if left.is_empty() { Passed::All } else { Passed::AllBut(left.to_vec()) })
    })
}

/// How many bytes the other side takes now.
fn write(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match to.try_write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
