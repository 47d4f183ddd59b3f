//! Two things that the stock interfaces lack here: new sockets and connections are refused while
//! the container has too many descriptors, and a guest that polls without a pause still lets the runtime look
//! for events.

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, Network, SocketError, SocketResult, TcpSocket,
    UdpSocket,
};
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi_io::bindings::wasi::io::poll;

use crate::shim::resolver::Resolver;
use crate::shim::wasi::component::Sockets;

/// What creating sockets and looking names up see of a Store.
pub struct SocketsView<'a> {
    pub stock: WasiSocketsCtxView<'a>,
    pub sockets: &'a mut Sockets,
    pub resolver: &'a Resolver,
}

/// Names [`SocketsView`] to wasmtime.
pub struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = SocketsView<'a>;
}

impl SocketsView<'_> {
    fn admit(&mut self) -> SocketResult<()> {
        match self.sockets.admit(self.stock.table) {
            true => Ok(()),
            false => Err(ErrorCode::NewSocketLimit.into()),
        }
    }
}

/// What `accept` gives.
type Accepted = (Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);

impl SocketsView<'_> {
    /// The stock function, for a guest that has a descriptor left.
    pub fn accept(
        &mut self,
        socket: Resource<TcpSocket>,
    ) -> wasmtime::Result<Result<Accepted, ErrorCode>> {
        let accepted = match self.admit() {
            Ok(()) => HostTcpSocket::accept(&mut self.stock, socket),
            Err(error) => Err(error),
        };
        match accepted {
            Ok(accepted) => Ok(Ok(accepted)),
            Err(error) => {
                self.sockets.count(self.stock.table);
                network::Host::convert_error_code(&mut self.stock, error).map(Err)
            }
        }
    }
}

impl network::Host for SocketsView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.stock.convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        network::Host::network_error_code(&mut self.stock, error)
    }
}

impl network::HostNetwork for SocketsView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.stock, network)
    }
}

impl tcp_create_socket::Host for SocketsView<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.admit()?;
        self.stock.create_tcp_socket(family)
    }
}

impl udp_create_socket::Host for SocketsView<'_> {
    async fn create_udp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> SocketResult<Resource<UdpSocket>> {
        self.admit()?;
        self.stock.create_udp_socket(family).await
    }
}

/// What polling sees of a Store.
pub struct PollView<'a> {
    pub table: &'a mut ResourceTable,
    pub sockets: &'a mut Sockets,
    pub polls: &'a mut u32,
}

/// Names [`PollView`] to wasmtime.
pub struct HasPoll;

impl HasData for HasPoll {
    type Data<'a> = PollView<'a>;
}

/// Polls between two looks at the runtime's events.
const POLLS: u32 = 16;

impl PollView<'_> {
    /// The guest's thread is also the one that hears of sockets and timers. A poll that is
    /// answered at once never lets it listen, so that a guest in a loop of those would never
    /// see anything change.
    async fn listen_now_and_then(&mut self) {
        *self.polls = (*self.polls + 1) % POLLS;
        if *self.polls == 0 {
            self.sockets.count(self.table);
            tokio::task::yield_now().await;
        }
    }
}

impl poll::Host for PollView<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.listen_now_and_then().await;
        poll::Host::poll(self.table, pollables).await
    }
}

impl poll::HostPollable for PollView<'_> {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.listen_now_and_then().await;
        poll::HostPollable::ready(self.table, pollable).await
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.listen_now_and_then().await;
        poll::HostPollable::block(self.table, pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, pollable)
    }
}
