//! Datagrams with the address of this machine that they came to: an answer goes back from there,
//! or a client on a machine of several addresses would not know it. What std and tokio lack.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use rustix::net::SocketAddrAny;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Bytes of the largest datagram.
pub const MOST: usize = 64 << 10;

/// Room for one control message of either family, aligned as its header wants.
type Control = [u64; 8];

/// Who sent a datagram, and to which address of this machine; `None` where the socket has but
/// that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    pub client: SocketAddr,
    pub own: Option<IpAddr>,
}

/// Asks the kernel to tell the addresses, of a socket that has all of this machine's.
pub fn tell_addresses(socket: &UdpSocket) -> io::Result<()> {
    let bound = socket.local_addr()?;
    if !bound.ip().is_unspecified() {
        return Ok(());
    }
    let (level, option) = match bound {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: both options take a c_int, which lives as long as the call.
    let set = unsafe {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), size)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for a datagram.
pub async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Route)> {
    socket.async_io(Interest::READABLE, || receive_now(socket, buffer)).await
}

fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Route)> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control: Control = [0; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data, zeroes are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the message points to a name, one part and control bytes of the lengths that it
    // says, all of which live until the end of this function.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel wrote an address of msg_namelen bytes to the storage.
    let name = unsafe { SocketAddrAny::read(name.as_ptr().cast(), message.msg_namelen) };
    let client = SocketAddr::try_from(name)?;
    Ok((length, Route { client, own: own_address(&message) }))
}

/// What the first control message says, the only one that was asked for.
fn own_address(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has set msg_controllen to what it wrote into the control bytes, so the
    // header that this gives is whole, or null.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    // SAFETY: the data of these messages are these structs by ip(7) and ipv6(7); they may be
    // unaligned.
    unsafe {
        let data = libc::CMSG_DATA(header);
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info: libc::in6_pktinfo = data.cast::<libc::in6_pktinfo>().read_unaligned();
                Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

/// Answers, from the address that was asked.
pub async fn answer(socket: &UdpSocket, datagram: &[u8], route: &Route) -> io::Result<()> {
    let Some(own) = route.own else {
        return socket.send_to(datagram, route.client).await.map(drop);
    };
    socket.async_io(Interest::WRITABLE, || answer_now(socket, datagram, (route.client, own))).await
}

fn answer_now(
    socket: &UdpSocket,
    datagram: &[u8],
    (client, own): (SocketAddr, IpAddr),
) -> io::Result<()> {
    let name = SocketAddrAny::from(client);
    let mut control: Control = [0; 8];
    let mut part =
        libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    // SAFETY: msghdr is plain data, zeroes are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_ptr().cast_mut().cast();
    message.msg_namelen = name.addr_len() as _;
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: there is room for either message in the control bytes, whose length is then set to
    // what it takes; sendmsg writes nothing to what the message points to.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let size = match own {
            IpAddr::V4(own) => {
                let mut info: libc::in_pktinfo = std::mem::zeroed();
                info.ipi_spec_dst.s_addr = u32::from(own).to_be();
                ((*header).cmsg_level, (*header).cmsg_type) = (libc::IPPROTO_IP, libc::IP_PKTINFO);
                libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().write_unaligned(info);
                size_of::<libc::in_pktinfo>()
            }
            IpAddr::V6(own) => {
                let mut info: libc::in6_pktinfo = std::mem::zeroed();
                info.ipi6_addr.s6_addr = own.octets();
                ((*header).cmsg_level, (*header).cmsg_type) =
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
                libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>().write_unaligned(info);
                size_of::<libc::in6_pktinfo>()
            }
        };
        (*header).cmsg_len = libc::CMSG_LEN(size as u32) as _;
        message.msg_controllen = libc::CMSG_SPACE(size as u32) as _;
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
