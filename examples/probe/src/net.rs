//! Sockets.
//!
//!     accept-many N            listens, tells the port, accepts and holds N or until an error
//!     connect-many ADDRESS N   connects and holds N or until an error
//!     serve ADDRESS N          listens, tells where, echoes N connections to their ends
//!     serve-fd FD N            the same on a listening socket that it was given
//!     ask ADDRESS TEXT         connects, sends, tells what comes back until the end
//!     udp-serve ADDRESS N      binds, tells where, echoes N datagrams
//!     udp-ask ADDRESS TEXT     sends a datagram and tells what comes back
//!     resolve NAME             the addresses of a name

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::FromRawFd;

use crate::Outcome;
use crate::errno;
use crate::files::number;

pub fn run(words: &[&str]) -> Option<Outcome> {
    Some(match words {
        ["accept-many", most] => number(most).and_then(accept),
        ["connect-many", address, most] => {
            number(most).map(|most| hoard(most, || TcpStream::connect(address)))
        }
        ["serve", address, count] => number(count).and_then(|count| {
            let listener = TcpListener::bind(address)?;
            println!("listening {}", listener.local_addr()?);
            serve(listener, count)
        }),
        ["serve-fd", fd, count] => number(count).and_then(|count| {
            let fd = i32::try_from(number(fd)?).map_err(|_| std::io::ErrorKind::InvalidInput)?;
            println!("listening on {fd}");
            // SAFETY: nothing else in this program has that descriptor.
            serve(unsafe { TcpListener::from_raw_fd(fd) }, count)
        }),
        ["ask", address, text] => ask(address, text),
        ["udp-serve", address, count] => number(count).and_then(|count| udp_serve(address, count)),
        ["udp-ask", address, text] => udp_ask(address, text),
        ["resolve", name] => (*name, 0).to_socket_addrs().map(|found| {
            let found: Vec<_> = found.map(|address| address.ip().to_string()).collect();
            Some(found.join(" "))
        }),
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

fn serve(listener: TcpListener, count: usize) -> Outcome {
    let mut echoed = 0;
    for _ in 0..count {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                read => stream.write_all(&buffer[..read])?,
            }
            echoed += 1;
        }
        stream.shutdown(Shutdown::Write)?;
    }
    Ok(Some(format!("after {echoed} pieces")))
}

fn ask(address: &str, text: &str) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(Some(answer))
}

fn udp_serve(address: &str, count: usize) -> Outcome {
    let socket = UdpSocket::bind(address)?;
    println!("listening {}", socket.local_addr()?);
    let mut buffer = [0; 4096];
    for _ in 0..count {
        let (read, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..read], from)?;
    }
    Ok(Some(count.to_string()))
}

fn udp_ask(address: &str, text: &str) -> Outcome {
    let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.send_to(text.as_bytes(), address)?;
    let mut buffer = [0; 4096];
    let (read, _) = socket.recv_from(&mut buffer)?;
    Ok(Some(String::from_utf8_lossy(&buffer[..read]).into_owned()))
}
