//! A listener's connections, given to the guest only while they are within the container's
//! descriptors. wasmtime-wasi's stream accepts for as long as it is read, so it is read by the
//! host, one connection at a time, and what is too much waits: one connection here, the others
//! with the kernel.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use wasmtime::component::{
    Access, Destination, Resource, Source, StreamConsumer, StreamProducer, StreamReader,
    StreamResult,
};
use wasmtime::{AsContextMut as _, StoreContextMut};
use wasmtime_wasi::p3::bindings::sockets::types::HostTcpSocketWithStore;
use wasmtime_wasi::p3::sockets::{SocketError, SocketResult};
use wasmtime_wasi::sockets::{TcpSocket, WasiSockets, WasiSocketsView};

use crate::shim::lock;
use crate::shim::wasi::component::State;

type Connection = Resource<TcpSocket>;

/// How long a guest that has too many descriptors waits until it is looked at again: files and
/// the container's execs give theirs back without telling.
const AGAIN: Duration = Duration::from_millis(20);

/// Makes a socket listen; the stream of its connections.
pub async fn listen(
    mut store: StoreContextMut<'_, State>,
    socket: Connection,
) -> SocketResult<StreamReader<Connection>> {
    let view = <State as WasiSocketsView>::sockets;
    let access = Access::<State, WasiSockets>::new(store.as_context_mut(), view);
    let stock = <WasiSockets as HostTcpSocketWithStore<State>>::listen(access, socket).await?;
    let between = Arc::<Mutex<Between>>::default();
    let taken = stock.pipe(&mut store, Taking(between.clone()));
    let given = taken.and_then(|()| {
        StreamReader::new(&mut store, Giving { between, again: Box::pin(sleep(AGAIN)) })
    });
    given.map_err(SocketError::trap)
}

/// What is between wasmtime-wasi's stream and the guest's.
#[derive(Default)]
struct Between {
    connection: Option<Connection>,
    /// The guest reads.
    is_wanted: bool,
    /// One of the streams has ended.
    is_over: bool,
    /// Who waits for the other side.
    taking: Option<Waker>,
    giving: Option<Waker>,
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Reads wasmtime-wasi's stream.
struct Taking(Arc<Mutex<Between>>);

impl StreamConsumer<State> for Taking {
    type Item = Connection;

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<State>,
        mut source: Source<'_, Connection>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut between = lock(&self.0);
        if between.is_over {
            if let Some(connection) = between.connection.take() {
                store.data_mut().table.delete(connection)?;
            }
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        if between.is_wanted && between.connection.is_none() {
            let mut connection = None;
            source.read(&mut store, &mut connection)?;
            between.connection = connection;
            wake(&mut between.giving);
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        if finish {
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        between.taking = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let mut between = lock(&self.0);
        between.is_over = true;
        wake(&mut between.giving);
    }
}

/// Writes the guest's stream.
struct Giving {
    between: Arc<Mutex<Between>>,
    again: Pin<Box<Sleep>>,
}

impl StreamProducer<State> for Giving {
    type Item = Connection;
    type Buffer = Option<Connection>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        mut destination: Destination<'a, Connection, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = self.get_mut();
        let mut between = lock(&this.between);
        between.is_wanted = true;
        wake(&mut between.taking);
        if between.connection.is_some() {
            let (stock, sockets, _) = store.data_mut().sockets();
            if sockets.are_within(stock.table) {
                // Without room it is only asked whether there is one.
                if destination.remaining(&mut store) != Some(0) {
                    destination.set_buffer(between.connection.take());
                    between.is_wanted = false;
                }
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            if !finish && this.again.as_mut().poll(cx).is_ready() {
                this.again.set(sleep(AGAIN));
                // To be woken by it.
                let _ = this.again.as_mut().poll(cx);
            }
        } else if between.is_over {
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        if finish {
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        between.giving = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        let mut between = lock(&self.between);
        between.is_over = true;
        wake(&mut between.taking);
    }
}
