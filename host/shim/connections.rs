//! Who is connected, and when nobody needs this shim any more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tonic::transport::server::Connected;

use crate::retry;

/// How long a shim without sandboxes and connections waits for the next.
pub const LONELY: Duration = Duration::from_secs(60);

/// One connection; counted while it is open.
pub struct Connection {
    stream: UnixStream,
    count: watch::Sender<usize>,
}

/// The listener's connections, each counted in `count`.
pub fn incoming(
    listener: UnixListener,
    count: watch::Sender<usize>,
) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold((listener, count), |(listener, count)| async move {
        let (stream, _) = retry::until_ok(|| listener.accept()).await;
        count.send_modify(|count| *count += 1);
        let connection = Connection { stream, count: count.clone() };
        Some((Ok(connection), (listener, count)))
    })
}

/// Resolves when there has been neither a connection nor a sandbox for `patience`. No timer runs
/// while there is one.
pub async fn lonely(
    patience: Duration,
    mut connections: watch::Receiver<usize>,
    mut sandboxes: watch::Receiver<usize>,
) {
    loop {
        let is_alone = *connections.borrow_and_update() == 0 && *sandboxes.borrow_and_update() == 0;
        let wait = async {
            if is_alone {
                tokio::time::sleep(patience).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = wait => return,
            changed = connections.changed() => if changed.is_err() { return },
            changed = sandboxes.changed() => if changed.is_err() { return },
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.count.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shim_is_lonely_only_without_sandboxes_and_connections() {
        let patience = Duration::from_millis(5);
        let (connections, sandboxes) = (watch::Sender::new(1usize), watch::Sender::new(1usize));
        let mut waits =
            tokio::spawn(lonely(patience, connections.subscribe(), sandboxes.subscribe()));
        connections.send_replace(0);
        assert!(tokio::time::timeout(patience * 10, &mut waits).await.is_err());
        sandboxes.send_replace(0);
        let deadline = Duration::from_secs(10);
        tokio::time::timeout(deadline, waits).await.expect("it is alone").expect("ends well");
    }
}
