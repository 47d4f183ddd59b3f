//! wasi:sockets 0.2 of a pod that has no network namespace: its own loopback address stands
//! where the guest says 127.0.0.1 or 0.0.0.0, and the guest is told what it said. For every
//! other pod these are the stock functions.

use std::net::SocketAddr;
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::{Network, SocketResult, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use crate::model::sockets::Protocol;
use crate::shim::network::{Guard, Unbound};
use crate::shim::wasi::component::State;

/// What a function answers: the guest's result, or why the guest ends.
type Told<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

type Bind<T> = (Resource<T>, Resource<Network>, IpSocketAddress);
type Streams = (Resource<IncomingDatagramStream>, Resource<OutgoingDatagramStream>);

/// Puts these functions before the stock ones; the linker allows it.
pub fn add_to_linker(l: &mut Linker<State>) -> wasmtime::Result<()> {
    tcp(l)?;
    udp(l)
}

fn tcp(l: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut tcp = l.instance("wasi:sockets/tcp@0.2.12")?;
    tcp.func_wrap_async("[method]tcp-socket.start-bind", |store, asked| {
        Box::new(bind_tcp(store, asked))
    })?;
    tcp.func_wrap(
        "[method]tcp-socket.start-connect",
        |mut store, (socket, network, address): Bind<TcpSocket>| {
            let (mut stock, guard) = parts(store.data_mut());
            let Some(address) = guard.meant(Protocol::Tcp, address.into()) else {
                return Ok((Err(ErrorCode::ConnectionRefused),));
            };
            let begun = stock.start_connect(socket, network, address.into());
            told(&mut stock, begun)
        },
    )?;
    tcp.func_wrap(
        "[method]tcp-socket.local-address",
        |mut store, (socket,): (Resource<TcpSocket>,)| {
            let (mut stock, guard) = parts(store.data_mut());
            let address = HostTcpSocket::local_address(&mut stock, socket);
            of_guest(&mut stock, address.map(|address| guard.told(Protocol::Tcp, address.into())))
        },
    )?;
    tcp.func_wrap(
        "[method]tcp-socket.remote-address",
        |mut store, (socket,): (Resource<TcpSocket>,)| {
            let (mut stock, guard) = parts(store.data_mut());
            let address = HostTcpSocket::remote_address(&mut stock, socket);
            of_guest(&mut stock, address.map(|address| guard.told(Protocol::Tcp, address.into())))
        },
    )
}

fn udp(l: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut udp = l.instance("wasi:sockets/udp@0.2.12")?;
    udp.func_wrap_async("[method]udp-socket.start-bind", |store, asked| {
        Box::new(bind_udp(store, asked))
    })?;
    udp.func_wrap_async("[method]udp-socket.stream", |store, asked| {
        Box::new(stream(store, asked))
    })?;
    udp.func_wrap(
        "[method]udp-socket.local-address",
        |mut store, (socket,): (Resource<UdpSocket>,)| {
            let (mut stock, guard) = parts(store.data_mut());
            let address = HostUdpSocket::local_address(&mut stock, socket);
            of_guest(&mut stock, address.map(|address| guard.told(Protocol::Udp, address.into())))
        },
    )?;
    udp.func_wrap(
        "[method]udp-socket.remote-address",
        |mut store, (socket,): (Resource<UdpSocket>,)| {
            let (mut stock, guard) = parts(store.data_mut());
            let address = HostUdpSocket::remote_address(&mut stock, socket);
            of_guest(&mut stock, address.map(|address| guard.told(Protocol::Udp, address.into())))
        },
    )?;
    udp.func_wrap(
        "[method]incoming-datagram-stream.receive",
        |mut store, (stream, most): (Resource<IncomingDatagramStream>, u64)| {
            let (mut stock, guard) = parts(store.data_mut());
            let mut received = stock.receive(stream, most);
            for datagram in received.iter_mut().flatten() {
                datagram.remote_address = guard.heard(datagram.remote_address.into()).into();
            }
            told::<Vec<IncomingDatagram>>(&mut stock, received)
        },
    )?;
    udp.func_wrap(
        "[method]outgoing-datagram-stream.send",
        |mut store,
         (stream, mut datagrams): (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>)| {
            let (mut stock, guard) = parts(store.data_mut());
            let asked = datagrams.len();
            datagrams.retain_mut(|datagram| {
                let Some(address) = datagram.remote_address else { return true };
                let meant = guard.meant(Protocol::Udp, address.into());
                datagram.remote_address = meant.map(IpSocketAddress::from);
                meant.is_some()
            });
            let lost = (asked - datagrams.len()) as u64;
            let sent = stock.send(stream, datagrams).map(|sent| sent + lost);
            told(&mut stock, sent)
        },
    )
}

fn parts(state: &mut State) -> (WasiSocketsCtxView<'_>, Arc<Guard>) {
    let guard = state.guard.clone();
    (state.sockets().0, guard)
}

fn of_guest(
    stock: &mut WasiSocketsCtxView<'_>,
    address: SocketResult<SocketAddr>,
) -> Told<IpSocketAddress> {
    told(stock, address.map(IpSocketAddress::from))
}

fn told<T>(stock: &mut WasiSocketsCtxView<'_>, result: SocketResult<T>) -> Told<T> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(network::Host::convert_error_code(stock, error)?),
    },))
}

fn unbound(why: Unbound) -> ErrorCode {
    match why {
        Unbound::Denied => ErrorCode::AccessDenied,
        Unbound::Nowhere => ErrorCode::AddressNotBindable,
    }
}

async fn bind_tcp(
    mut store: StoreContextMut<'_, State>,
    (socket, network, address): Bind<TcpSocket>,
) -> Told<()> {
    let (mut stock, guard) = parts(store.data_mut());
    let address = SocketAddr::from(address);
    let place = match guard.binds(Protocol::Tcp, address) {
        Ok(place) => place,
        Err(why) => return Ok((Err(unbound(why)),)),
    };
    let own = Resource::new_borrow(socket.rep());
    let bound = HostTcpSocket::start_bind(&mut stock, own, network, place.into()).await;
    let (outcome,) = told(&mut stock, bound)?;
    if outcome.is_ok() {
        let own = Resource::new_borrow(socket.rep());
        let real = HostTcpSocket::local_address(&mut stock, own);
        if let (Ok(real),) = told(&mut stock, real)? {
            guard.bound(Protocol::Tcp, address, real.into());
        }
    }
    Ok((outcome,))
}

async fn bind_udp(
    mut store: StoreContextMut<'_, State>,
    (socket, network, address): Bind<UdpSocket>,
) -> Told<()> {
    let (mut stock, guard) = parts(store.data_mut());
    let address = SocketAddr::from(address);
    let place = match guard.binds(Protocol::Udp, address) {
        Ok(place) => place,
        Err(why) => return Ok((Err(unbound(why)),)),
    };
    let own = Resource::new_borrow(socket.rep());
    let bound = HostUdpSocket::start_bind(&mut stock, own, network, place.into()).await;
    let (outcome,) = told(&mut stock, bound)?;
    if outcome.is_ok() {
        let own = Resource::new_borrow(socket.rep());
        let real = HostUdpSocket::local_address(&mut stock, own);
        if let (Ok(real),) = told(&mut stock, real)? {
            guard.bound(Protocol::Udp, address, real.into());
        }
    }
    Ok((outcome,))
}

async fn stream(
    mut store: StoreContextMut<'_, State>,
    (socket, remote): (Resource<UdpSocket>, Option<IpSocketAddress>),
) -> Told<Streams> {
    let (mut stock, guard) = parts(store.data_mut());
    let remote = match remote.map(|remote| guard.meant(Protocol::Udp, remote.into())) {
        Some(None) => return Ok((Err(ErrorCode::ConnectionRefused),)),
        meant => meant.flatten().map(IpSocketAddress::from),
    };
    let streams = stock.stream(socket, remote).await;
    told(&mut stock, streams)
}
