//! A program that talks with itself by its pod's loopback, and tells what addresses it was told.

use wasip3::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};

fn at(address: (u8, u8, u8, u8), port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })
}

const LOOPBACK: (u8, u8, u8, u8) = (127, 0, 0, 1);
const ANY: (u8, u8, u8, u8) = (0, 0, 0, 0);

/// `127.0.0.1:80`, or without its port.
fn shown(address: IpSocketAddress, with_port: bool) -> String {
    let IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) }) = address else {
        return "IPv6".to_owned();
    };
    let port = if with_port { format!(":{port}") } else { String::new() };
    format!("{a}.{b}.{c}.{d}{port}")
}

pub async fn tcp(port: u16) -> Result<String, ErrorCode> {
    let listener = TcpSocket::create(IpAddressFamily::Ipv4)?;
    listener.bind(at(ANY, port))?;
    let mut incoming = listener.listen()?;
    let second = TcpSocket::create(IpAddressFamily::Ipv4)?;
    let taken = second.bind(at(LOOPBACK, port)).and_then(|()| second.listen().map(drop));
    let client = TcpSocket::create(IpAddressFamily::Ipv4)?;
    client.connect(at(LOOPBACK, port)).await?;
    let accepted = incoming.next().await.ok_or(ErrorCode::ConnectionAborted)?;
    let unbound = TcpSocket::create(IpAddressFamily::Ipv4)?;
    let _incoming = unbound.listen()?;
    Ok(format!(
        "tcp listens at {}, again {taken:?}, reached {}, accepted at {} from {}, unbound at {}\n",
        shown(listener.get_local_address()?, true),
        shown(client.get_remote_address()?, true),
        shown(accepted.get_local_address()?, true),
        shown(accepted.get_remote_address()?, false),
        shown(unbound.get_local_address()?, false),
    ))
}

pub async fn udp(port: u16) -> Result<String, ErrorCode> {
    let server = UdpSocket::create(IpAddressFamily::Ipv4)?;
    server.bind(at(LOOPBACK, port))?;
    let mut told = format!("udp is at {}", shown(server.get_local_address()?, true));
    for connected in [false, true] {
        let client = UdpSocket::create(IpAddressFamily::Ipv4)?;
        client.bind(at(ANY, 0))?;
        let to = match connected {
            true => {
                client.connect(at(LOOPBACK, port))?;
                None
            }
            false => Some(at(LOOPBACK, port)),
        };
        client.send(b"question".to_vec(), to).await?;
        let (question, sender) = server.receive().await?;
        server.send(question, Some(sender)).await?;
        let (answer, sender) = client.receive().await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        told += &format!(", {text} answered by {}", shown(sender, true));
    }
    Ok(told + "\n")
}
