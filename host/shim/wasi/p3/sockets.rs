//! Names of 0.3 looked up by the container's own resolver, and its sockets counted as descriptors
//! of the container: while it has too many, new ones are refused and connections wait
//! (`accepting`). All else is wasmtime-wasi's.

use wasmtime::AsContextMut as _;
use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime_wasi::p3::bindings::sockets::types::{
    ErrorCode, Host as _, HostTcpSocket, HostUdpSocket, IpAddress, IpAddressFamily,
};
use wasmtime_wasi::p3::bindings::sockets::{ip_name_lookup, types};
use wasmtime_wasi::p3::sockets::SocketResult;
use wasmtime_wasi::sockets::{
    TcpSocket, UdpSocket, WasiSockets, WasiSocketsCtxView, WasiSocketsView,
};

use super::{accepting, loopback};
use crate::shim::resolver::{Failure, Resolver};
use crate::shim::wasi::component::State;

/// Names [`Resolver`] to wasmtime.
struct HasResolver;

impl HasData for HasResolver {
    type Data<'a> = &'a Resolver;
}

impl ip_name_lookup::Host for &Resolver {}

impl<T> ip_name_lookup::HostWithStore<T> for HasResolver {
    async fn resolve_addresses(
        store: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<IpAddress>, ip_name_lookup::ErrorCode>> {
        use ip_name_lookup::ErrorCode;
        let found = store.with(|mut store| store.get().look_up(&name)).await;
        let told = found.map(|found| found.into_iter().map(IpAddress::from).collect());
        Ok(told.map_err(|failure| match failure {
            Failure::Denied => ErrorCode::AccessDenied,
            Failure::Invalid => ErrorCode::InvalidArgument,
            Failure::Unresolvable => ErrorCode::NameUnresolvable,
            Failure::Temporary => ErrorCode::TemporaryResolverFailure,
            Failure::Permanent => ErrorCode::PermanentResolverFailure,
        }))
    }
}

/// All of wasi:sockets 0.3.
pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<State, WasiSockets>(linker, WasiSocketsView::sockets)?;
    ip_name_lookup::add_to_linker::<State, HasResolver>(linker, |state| &state.resolver)?;
    limit(linker)
}

/// Puts the counting functions before the stock ones.
fn limit(linker: &mut Linker<State>) -> wasmtime::Result<()> {
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
            if let Err(code) = loopback::settle(store.data_mut(), &socket).await? {
                return Ok((Err(code),));
            }
            let listening = accepting::listen(store.as_context_mut(), socket).await;
            let (mut stock, _, _) = store.data_mut().sockets();
            Ok((told(&mut stock, listening)?,))
        })
    })?;
    loopback::add_to_linker(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What the guest is told, or why it ends.
type Told<T> = wasmtime::Result<Result<T, ErrorCode>>;

pub fn told<T>(stock: &mut WasiSocketsCtxView<'_>, result: SocketResult<T>) -> Told<T> {
    match result {
        Ok(made) => Ok(Ok(made)),
        Err(error) => stock.convert_error_code(error).map(Err),
    }
}

fn create_tcp(state: &mut State, family: IpAddressFamily) -> Told<Resource<TcpSocket>> {
    let (mut stock, sockets, _) = state.sockets();
    if !sockets.admit(stock.table) {
        return Ok(Err(ErrorCode::OutOfMemory));
    }
    let made = HostTcpSocket::create(&mut stock, family);
    told(&mut stock, made)
}

async fn create_udp(state: &mut State, family: IpAddressFamily) -> Told<Resource<UdpSocket>> {
    let (mut stock, sockets, _) = state.sockets();
    if !sockets.admit(stock.table) {
        return Ok(Err(ErrorCode::OutOfMemory));
    }
    let made = HostUdpSocket::create(&mut stock, family).await;
    told(&mut stock, made)
}
