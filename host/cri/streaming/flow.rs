//! Halves of a client's streams, whatever carries them: what comes in, bounded in memory, and
//! what goes out. Knows nothing of who reads or writes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{spdy, websocket};

/// Bytes of one connection that came and that nobody has taken yet. Until some are taken, the
/// connection is not read.
pub const WAITING: usize = 16 << 20;

/// What a piece costs beside its bytes.
const OVERHEAD: usize = 128;

/// A piece that is shorter is copied, so that it does not keep a whole buffer: that may be of
/// twice this size, so what waits takes twice [`WAITING`] of memory at most.
const WORTH_KEEPING: usize = 64 << 10;

/// Bytes that are carried in one piece.
const PIECE: usize = 64 << 10;

/// The stream broke off before its end: it was reset, or the client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client's stream broke off")]
pub struct Broken;

enum Piece {
    /// With its place among what waits, until it is taken.
    Data(Bytes, #[expect(dead_code, reason = "held")] OwnedSemaphorePermit),
    End,
}

/// The incoming half of a stream.
pub struct Inflow(mpsc::UnboundedReceiver<Piece>);

impl Inflow {
    /// The next bytes; `None` after the last ones.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        match self.0.recv().await {
            Some(Piece::Data(bytes, _)) => Ok(Some(bytes)),
            Some(Piece::End) => {
                self.0.close();
                Ok(None)
            }
            None => Err(Broken),
        }
    }
}

/// What a connection has waiting.
#[derive(Clone)]
pub struct Waiting(Arc<Semaphore>);

impl Waiting {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(WAITING)))
    }

    /// A stream's incoming half and the source that fills it.
    pub fn inflow(&self) -> (Source, Inflow) {
        let (pieces, inflow) = mpsc::unbounded_channel();
        (Source { pieces, waiting: self.clone() }, Inflow(inflow))
    }
}

/// Fills an [`Inflow`]. Dropped without [`Source::end`], the stream is broken.
pub struct Source {
    pieces: mpsc::UnboundedSender<Piece>,
    waiting: Waiting,
}

impl Source {
    /// Hands `bytes` on; waits while too much is waiting. What nobody wants is dropped.
    pub async fn put(&self, bytes: Bytes) {
        if bytes.is_empty() || self.pieces.is_closed() {
            return;
        }
        let bytes =
            if bytes.len() < WORTH_KEEPING { Bytes::copy_from_slice(&bytes) } else { bytes };
        let cost = u32::try_from((bytes.len() + OVERHEAD).min(WAITING)).unwrap_or(u32::MAX);
        // Nobody closes the semaphore.
        let Ok(permit) = self.waiting.0.clone().acquire_many_owned(cost).await else { return };
        let _ = self.pieces.send(Piece::Data(bytes, permit));
    }

    pub fn end(self) {
        let _ = self.pieces.send(Piece::End);
    }
}

/// The outgoing half of a stream.
pub enum Outflow {
    Spdy(spdy::Writer),
    WebSocket(websocket::Writer),
}

impl Outflow {
    /// Waits while the client takes nothing.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Broken> {
        match self {
            Self::Spdy(writer) => writer.send(bytes).await,
            Self::WebSocket(writer) => writer.send(bytes).await,
        }
    }

    /// Hands on what `from` gives, to its end. When it fails, this stream is reset by being
    /// dropped.
    pub async fn carry(mut self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            match from.read_buf(&mut buffer).await {
                Ok(0) => return self.finish().await,
                Ok(_) if self.send(buffer.split().freeze()).await.is_ok() => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Says that nothing more comes.
    pub async fn finish(self) {
        // A client that has gone needs not be told.
        let _ = match self {
            Self::Spdy(writer) => writer.finish().await,
            Self::WebSocket(writer) => writer.finish().await,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_and_a_break_are_told_apart() {
        let waiting = Waiting::new();
        let (source, mut inflow) = waiting.inflow();
        source.put(Bytes::from_static(b"text")).await;
        source.end();
        assert_eq!(inflow.next().await, Ok(Some(Bytes::from_static(b"text"))));
        assert_eq!(inflow.next().await, Ok(None));
        let (source, mut inflow) = waiting.inflow();
        drop(source);
        assert_eq!(inflow.next().await, Err(Broken));
    }

    #[tokio::test]
    async fn what_nobody_takes_holds_the_connection_up() {
        let waiting = Waiting::new();
        let (source, mut inflow) = waiting.inflow();
        let piece = Bytes::from(vec![0; WAITING / 2]);
        source.put(piece.clone()).await;
        let mut second = std::pin::pin!(source.put(piece));
        assert!(futures::poll!(second.as_mut()).is_pending());
        inflow.next().await.unwrap();
        second.await;
    }

    #[tokio::test]
    async fn what_came_for_one_who_has_gone_costs_nothing() {
        let waiting = Waiting::new();
        let (source, inflow) = waiting.inflow();
        drop(inflow);
        for _ in 0..4 {
            source.put(Bytes::from(vec![0; WAITING / 2])).await;
        }
    }
}
