//! wasi:sockets 0.3 of a pod that has no network namespace: its own loopback address stands
//! where the guest says 127.0.0.1 or 0.0.0.0, and the guest is told what it said. For every
//! other pod these are the stock functions.

use std::net::SocketAddr;
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi::p3::bindings::sockets::types::{
    ErrorCode, HostTcpSocket, HostTcpSocketWithStore, HostUdpSocket, HostUdpSocketWithStore,
    IpAddressFamily, IpSocketAddress,
};
use wasmtime_wasi::p3::sockets::SocketResult;
use wasmtime_wasi::sockets::{
    TcpSocket, UdpSocket, WasiSockets, WasiSocketsCtxView, WasiSocketsView,
};

use super::sockets::told;
use crate::model::sockets::Protocol;
use crate::shim::network::{Guard, Unbound};
use crate::shim::wasi::component::State;

/// What a function answers: the guest's result, or why the guest ends.
type Told<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

type Tcp = Resource<TcpSocket>;
type Udp = Resource<UdpSocket>;
type Datagram = (Vec<u8>, IpSocketAddress);

/// Puts these functions before the stock ones; the linker allows it.
pub fn add_to_linker(l: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = l.instance("wasi:sockets/types@0.3.0")?;
    types.func_wrap_async("[method]tcp-socket.bind", |store, asked| {
        Box::new(bind_tcp(store, asked))
    })?;
    types.func_wrap_concurrent("[method]tcp-socket.connect", |store, asked| {
        Box::pin(connect_tcp(store, asked))
    })?;
    types.func_wrap("[method]tcp-socket.get-local-address", |mut store, (socket,): (Tcp,)| {
        let (mut stock, guard) = parts(store.data_mut());
        let address = HostTcpSocket::get_local_address(&mut stock, socket);
        of_guest(&mut stock, address.map(|address| guard.told(Protocol::Tcp, address.into())))
    })?;
    types.func_wrap("[method]tcp-socket.get-remote-address", |mut store, (socket,): (Tcp,)| {
        let (mut stock, guard) = parts(store.data_mut());
        let address = HostTcpSocket::get_remote_address(&mut stock, socket);
        of_guest(&mut stock, address.map(|address| guard.told(Protocol::Tcp, address.into())))
    })?;
    types.func_wrap_async("[method]udp-socket.bind", |store, asked| {
        Box::new(bind_udp(store, asked))
    })?;
    types.func_wrap_async("[method]udp-socket.connect", |store, asked| {
        Box::new(connect_udp(store, asked))
    })?;
    types.func_wrap_concurrent("[method]udp-socket.send", |store, asked| {
        Box::pin(send(store, asked))
    })?;
    types.func_wrap_concurrent("[method]udp-socket.receive", |store, asked| {
        Box::pin(receive(store, asked))
    })?;
    types.func_wrap("[method]udp-socket.get-local-address", |mut store, (socket,): (Udp,)| {
        let (mut stock, guard) = parts(store.data_mut());
        let address = HostUdpSocket::get_local_address(&mut stock, socket);
        of_guest(&mut stock, address.map(|address| guard.told(Protocol::Udp, address.into())))
    })?;
    types.func_wrap("[method]udp-socket.get-remote-address", |mut store, (socket,): (Udp,)| {
        let (mut stock, guard) = parts(store.data_mut());
        let address = HostUdpSocket::get_remote_address(&mut stock, socket);
        of_guest(&mut stock, address.map(|address| guard.told(Protocol::Udp, address.into())))
    })
}

fn parts(state: &mut State) -> (WasiSocketsCtxView<'_>, Arc<Guard>) {
    let guard = state.guard.clone();
    (state.sockets().0, guard)
}

fn of_guest(
    stock: &mut WasiSocketsCtxView<'_>,
    address: SocketResult<SocketAddr>,
) -> Told<IpSocketAddress> {
    Ok((told(stock, address.map(IpSocketAddress::from))?,))
}

/// For a result that was got where the Store was not at hand.
fn of_store<T>(store: &Accessor<State>, result: SocketResult<T>) -> Told<T> {
    store.with(|mut store| {
        let (mut stock, _, _) = store.data_mut().sockets();
        Ok((told(&mut stock, result)?,))
    })
}

fn unbound(why: Unbound) -> ErrorCode {
    match why {
        Unbound::Denied => ErrorCode::AccessDenied,
        Unbound::Nowhere => ErrorCode::AddressNotBindable,
    }
}

async fn bind_tcp(
    mut store: StoreContextMut<'_, State>,
    (socket, address): (Tcp, IpSocketAddress),
) -> Told<()> {
    Ok((put_tcp(store.data_mut(), &socket, address.into()).await?,))
}

/// Binds a socket where its address means.
async fn put_tcp(
    state: &mut State,
    socket: &Tcp,
    address: SocketAddr,
) -> wasmtime::Result<Result<(), ErrorCode>> {
    let (mut stock, guard) = parts(state);
    let place = match guard.binds(Protocol::Tcp, address) {
        Ok(place) => place,
        Err(why) => return Ok(Err(unbound(why))),
    };
    let own = Resource::new_borrow(socket.rep());
    let bound = HostTcpSocket::bind(&mut stock, own, place.into()).await;
    let outcome = told(&mut stock, bound)?;
    if outcome.is_ok() {
        let own = Resource::new_borrow(socket.rep());
        let real = HostTcpSocket::get_local_address(&mut stock, own);
        if let Ok(real) = told(&mut stock, real)? {
            guard.bound(Protocol::Tcp, address, real.into());
        }
    }
    Ok(outcome)
}

/// Before a socket listens: one that was not bound is bound to a port of the pod's address, for
/// the kernel would choose every address of the host.
pub async fn settle(state: &mut State, socket: &Tcp) -> wasmtime::Result<Result<(), ErrorCode>> {
    let (mut stock, guard) = parts(state);
    if !guard.has_loopback() {
        return Ok(Ok(()));
    }
    let own = Resource::new_borrow(socket.rep());
    let address = HostTcpSocket::get_local_address(&mut stock, own);
    if told(&mut stock, address)?.is_ok() {
        return Ok(Ok(()));
    }
    let own = Resource::new_borrow(socket.rep());
    let any = match HostTcpSocket::get_address_family(&mut stock, own)? {
        IpAddressFamily::Ipv4 => SocketAddr::from(([0; 4], 0)),
        IpAddressFamily::Ipv6 => SocketAddr::from(([0u16; 8], 0)),
    };
    put_tcp(state, socket, any).await
}

async fn connect_tcp(
    store: &Accessor<State>,
    (socket, address): (Tcp, IpSocketAddress),
) -> Told<()> {
    let meant = store.with(|mut store| store.data_mut().guard.meant(Protocol::Tcp, address.into()));
    let Some(address) = meant.map(IpSocketAddress::from) else {
        return Ok((Err(ErrorCode::ConnectionRefused),));
    };
    let stock = store.with_getter::<WasiSockets>(WasiSocketsView::sockets);
    let connected =
        <WasiSockets as HostTcpSocketWithStore<State>>::connect(&stock, socket, address).await;
    of_store(store, connected)
}

async fn bind_udp(
    mut store: StoreContextMut<'_, State>,
    (socket, address): (Udp, IpSocketAddress),
) -> Told<()> {
    let (mut stock, guard) = parts(store.data_mut());
    let address = SocketAddr::from(address);
    let place = match guard.binds(Protocol::Udp, address) {
        Ok(place) => place,
        Err(why) => return Ok((Err(unbound(why)),)),
    };
    let own = Resource::new_borrow(socket.rep());
    let bound = HostUdpSocket::bind(&mut stock, own, place.into()).await;
    let outcome = told(&mut stock, bound)?;
    if outcome.is_ok() {
        let own = Resource::new_borrow(socket.rep());
        let real = HostUdpSocket::get_local_address(&mut stock, own);
        if let Ok(real) = told(&mut stock, real)? {
            guard.bound(Protocol::Udp, address, real.into());
        }
    }
    Ok((outcome,))
}

async fn connect_udp(
    mut store: StoreContextMut<'_, State>,
    (socket, address): (Udp, IpSocketAddress),
) -> Told<()> {
    let (mut stock, guard) = parts(store.data_mut());
    let Some(address) = guard.meant(Protocol::Udp, address.into()) else {
        return Ok((Err(ErrorCode::ConnectionRefused),));
    };
    let connected = HostUdpSocket::connect(&mut stock, socket, address.into()).await;
    Ok((told(&mut stock, connected)?,))
}

async fn send(
    store: &Accessor<State>,
    (socket, data, address): (Udp, Vec<u8>, Option<IpSocketAddress>),
) -> Told<()> {
    let address = match address {
        None => None,
        Some(address) => {
            let meant =
                store.with(|mut store| store.data_mut().guard.meant(Protocol::Udp, address.into()));
            // Lost, as with any host where nobody listens.
            let Some(address) = meant else { return Ok((Ok(()),)) };
            Some(IpSocketAddress::from(address))
        }
    };
    let stock = store.with_getter::<WasiSockets>(WasiSocketsView::sockets);
    let sent =
        <WasiSockets as HostUdpSocketWithStore<State>>::send(&stock, socket, data, address).await;
    of_store(store, sent)
}

async fn receive(store: &Accessor<State>, (socket,): (Udp,)) -> Told<Datagram> {
    let stock = store.with_getter::<WasiSockets>(WasiSocketsView::sockets);
    let received = <WasiSockets as HostUdpSocketWithStore<State>>::receive(&stock, socket).await;
    let received = match received {
        Ok((data, sender)) => {
            let sender = store.with(|mut store| store.data_mut().guard.heard(sender.into()));
            Ok((data, sender.into()))
        }
        Err(error) => Err(error),
    };
    of_store(store, received)
}
