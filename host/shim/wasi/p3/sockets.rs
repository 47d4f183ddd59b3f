//! Sockets of 0.3 counted as descriptors of the container: while it has too many, new ones are
//! refused and connections wait (`accepting`). All else is wasmtime-wasi's.

use wasmtime::AsContextMut as _;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p3::bindings::sockets::types::{
    ErrorCode, Host as _, HostTcpSocket, HostUdpSocket, IpAddressFamily,
};
use wasmtime_wasi::p3::sockets::SocketResult;
use wasmtime_wasi::sockets::{TcpSocket, UdpSocket, WasiSocketsCtxView};

use super::accepting;
use crate::shim::wasi::component::State;

/// Puts the counting functions before the stock ones.
pub fn limit(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance("wasi:sockets/types@0.3.0")?;
    types.func_wrap("[static]tcp-socket.create", |mut store, (family,)| {
        Ok((create_tcp(store.data_mut(), family)?,))
    })?;
    types.func_wrap_async("[static]udp-socket.create", |mut store, (family,)| {
        Box::new(async move { Ok((create_udp(store.data_mut(), family).await?,)) })
    })?;
    types.func_wrap_async("[method]tcp-socket.listen", |mut store, (socket,)| {
        Box::new(async move {
            let listening = accepting::listen(store.as_context_mut(), socket).await;
            let (mut stock, _) = store.data_mut().sockets();
            Ok((told(&mut stock, listening)?,))
        })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What the guest is told, or why it ends.
type Told<T> = wasmtime::Result<Result<T, ErrorCode>>;

fn told<T>(stock: &mut WasiSocketsCtxView<'_>, result: SocketResult<T>) -> Told<T> {
    match result {
        Ok(made) => Ok(Ok(made)),
        Err(error) => stock.convert_error_code(error).map(Err),
    }
}

fn create_tcp(state: &mut State, family: IpAddressFamily) -> Told<Resource<TcpSocket>> {
    let (mut stock, sockets) = state.sockets();
    if !sockets.admit(stock.table) {
        return Ok(Err(ErrorCode::OutOfMemory));
    }
    let made = HostTcpSocket::create(&mut stock, family);
    told(&mut stock, made)
}

async fn create_udp(state: &mut State, family: IpAddressFamily) -> Told<Resource<UdpSocket>> {
    let (mut stock, sockets) = state.sockets();
    if !sockets.admit(stock.table) {
        return Ok(Err(ErrorCode::OutOfMemory));
    }
    let made = HostUdpSocket::create(&mut stock, family).await;
    told(&mut stock, made)
}
