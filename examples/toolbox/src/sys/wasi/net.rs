//! TCP and names.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wasip2::clocks::monotonic_clock;
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, OutputStream};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

use super::{HOST, read_now, read_stream, write_stream};
use crate::stream::Out;

fn fault(code: ErrorCode) -> io::Error {
    let kind = match code {
        ErrorCode::AccessDenied => ErrorKind::PermissionDenied,
        ErrorCode::Timeout => ErrorKind::TimedOut,
        ErrorCode::AddressInUse => ErrorKind::AddrInUse,
        ErrorCode::ConnectionRefused => ErrorKind::ConnectionRefused,
        ErrorCode::ConnectionReset | ErrorCode::ConnectionAborted => ErrorKind::ConnectionReset,
        ErrorCode::RemoteUnreachable => ErrorKind::HostUnreachable,
        ErrorCode::NameUnresolvable | ErrorCode::PermanentResolverFailure => {
            return io::Error::other("Name does not resolve");
        }
        ErrorCode::TemporaryResolverFailure => return io::Error::other("Try again later"),
        other => return io::Error::other(other.message()),
    };
    kind.into()
}

fn wire(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(own) => {
            let [a, b, c, d] = own.ip().octets();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port: own.port(), address: (a, b, c, d) })
        }
        SocketAddr::V6(own) => {
            let [a, b, c, d, e, f, g, h] = own.ip().segments();
            IpSocketAddress::Ipv6(Ipv6SocketAddress {
                port: own.port(),
                flow_info: 0,
                address: (a, b, c, d, e, f, g, h),
                scope_id: own.scope_id(),
            })
        }
    }
}

/// The addresses of a name.
pub fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    let network = instance_network();
    let found = resolve_addresses(&network, name).map_err(fault)?;
    let mut addresses = Vec::new();
    loop {
        match found.resolve_next_address() {
            Ok(Some(IpAddress::Ipv4((a, b, c, d)))) => {
                addresses.push(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
            }
            Ok(Some(IpAddress::Ipv6((a, b, c, d, e, f, g, h)))) => {
                addresses.push(IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)));
            }
            Ok(None) => return Ok(addresses),
            Err(ErrorCode::WouldBlock) => found.subscribe().block(),
            Err(error) => return Err(fault(error)),
        }
    }
}

/// Asks again until it no longer would block.
fn finish<T>(socket: &TcpSocket, ask: impl Fn() -> Result<T, ErrorCode>) -> io::Result<T> {
    loop {
        match ask() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            done => return done.map_err(fault),
        }
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let family = if address.is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 };
    create_tcp_socket(family).map_err(fault)
}

/// A connection. The streams go before their socket.
pub struct Connection {
    input: InputStream,
    output: OutputStream,
    socket: TcpSocket,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = socket(address)?;
        socket.start_connect(&instance_network(), wire(address)).map_err(fault)?;
        let (input, output) = finish(&socket, || socket.finish_connect())?;
        Ok(Self { input, output, socket })
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        write_stream(&self.output, bytes)
    }

    /// 0 is the end; an error when nothing comes for so many nanoseconds.
    pub fn read(&self, bytes: &mut [u8], patience: u64) -> io::Result<usize> {
        let (there, late) = (self.input.subscribe(), monotonic_clock::subscribe_duration(patience));
        if !poll(&[&there, &late]).contains(&0) {
            return Err(ErrorKind::TimedOut.into());
        }
        drop(there);
        read_stream(&self.input, bytes)
    }

    pub fn end_writing(&self) {
        // It may have been ended from the other side.
        let _ = self.socket.shutdown(ShutdownType::Send);
    }

    /// Carries bytes both ways until the other side ends.
    pub fn relay(&self, out: &mut Out) -> io::Result<()> {
        use std::io::Write;
        let mut bytes = vec![0; 1 << 16];
        let mut open = true;
        HOST.with(|host| {
            loop {
                let there = self.input.subscribe();
                let own = open.then(|| host.stdin.subscribe());
                let waits: Vec<&Pollable> = std::iter::once(&there).chain(&own).collect();
                let ready = poll(&waits);
                drop((there, own));
                if ready.contains(&0) {
                    let Some(count) = read_now(&self.input, &mut bytes)? else { return Ok(()) };
                    out.write_all(bytes.get(..count).unwrap_or_default())?;
                    out.flush()?;
                }
                if ready.contains(&1) {
                    match read_now(&host.stdin, &mut bytes)? {
                        Some(count) => self.write(bytes.get(..count).unwrap_or_default())?,
                        None => {
                            open = false;
                            self.end_writing();
                        }
                    }
                }
            }
        })
    }
}

pub struct Listener(TcpSocket);

impl Listener {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = socket(address)?;
        socket.start_bind(&instance_network(), wire(address)).map_err(fault)?;
        finish(&socket, || socket.finish_bind())?;
        socket.start_listen().map_err(fault)?;
        finish(&socket, || socket.finish_listen())?;
        Ok(Self(socket))
    }

    pub fn accept(&self) -> io::Result<Connection> {
        let (socket, input, output) = finish(&self.0, || self.0.accept())?;
        Ok(Connection { input, output, socket })
    }
}
