//! wasi:sockets/ip-name-lookup of 0.2 over the container's own resolver.

use std::net::IpAddr;

use tokio::task::{AbortHandle, JoinHandle};
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    Host, HostResolveAddressStream, ResolveAddressStream,
};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress};
use wasmtime_wasi::p2::{DynPollable, Network, Pollable, SocketResult};

use super::sockets::SocketsView;
use crate::shim::resolver::Failure;
use crate::shim::wasi::component::{borrow, own};

type Found = Result<Vec<IpAddr>, Failure>;

/// The table's entry behind a `resolve-address-stream`. Dropping it ends the look-up.
enum Stream {
    Waiting { task: JoinHandle<Found>, _end: AbortOnDrop },
    Found(std::vec::IntoIter<IpAddr>),
    Failed(Failure),
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stream {
    fn settled(found: Found) -> Self {
        match found {
            Ok(addresses) => Self::Found(addresses.into_iter()),
            Err(failure) => Self::Failed(failure),
        }
    }
}

#[async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {
        if let Self::Waiting { task, .. } = self {
            let found = task.await.unwrap_or(Err(Failure::Temporary));
            *self = Self::settled(found);
        }
    }
}

fn code(failure: Failure) -> ErrorCode {
    match failure {
        Failure::Denied => ErrorCode::AccessDenied,
        Failure::Invalid => ErrorCode::InvalidArgument,
        Failure::Unresolvable => ErrorCode::NameUnresolvable,
        Failure::Temporary => ErrorCode::TemporaryResolverFailure,
        Failure::Permanent => ErrorCode::PermanentResolverFailure,
    }
}

impl Host for SocketsView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        self.stock.table.get(&network)?;
        let task = tokio::spawn(self.resolver.look_up(&name));
        let abort = AbortOnDrop(task.abort_handle());
        Ok(own(self.stock.table.push(Stream::Waiting { task, _end: abort })?))
    }
}

impl HostResolveAddressStream for SocketsView<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        match self.stock.table.get_mut(&borrow(&stream))? {
            Stream::Waiting { .. } => Err(ErrorCode::WouldBlock.into()),
            Stream::Found(addresses) => Ok(addresses.next().map(IpAddress::from)),
            Stream::Failed(failure) => Err(code(*failure).into()),
        }
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        wasmtime_wasi_io::poll::subscribe(self.stock.table, borrow::<_, Stream>(&stream))
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.stock.table.delete(own::<_, Stream>(stream))?;
        Ok(())
    }
}
