//! A connection that breaks off when nothing moves on it for too long. Knows nothing of what moves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Its reader is told of the end: somebody has to read.
pub struct Idle<I> {
    io: I,
    most: Duration,
    moved: Instant,
    wake: Pin<Box<Sleep>>,
}

impl<I> Idle<I> {
    pub fn new(io: I, most: Duration) -> Self {
        let moved = Instant::now();
        Self { io, most, moved, wake: Box::pin(sleep_until(moved + most)) }
    }

    /// Ready once too much time has passed.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.wake.as_mut().poll(cx));
            let end = self.moved + self.most;
            if end <= Instant::now() {
                let seconds = self.most.as_secs();
                let sentence = format!("nothing has moved for {seconds} s");
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, sentence));
            }
            self.wake.as_mut().reset(end);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Idle<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.moved = Instant::now();
            return read;
        }
        self.poll_over(cx).map(Err)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Idle<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.moved = Instant::now();
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, pieces))?;
        self.moved = Instant::now();
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_reader_is_told_when_nothing_moves_and_not_while_something_does() {
        let (near, far) = tokio::io::duplex(64);
        let most = Duration::from_millis(200);
        let (mut read, mut write) = tokio::io::split(Idle::new(near, most));
        let (mut byte, mut moved) = ([0], Instant::now());
        for _ in 0..4 {
            let told = tokio::time::timeout(most / 4, read.read(&mut byte)).await;
            assert!(told.is_err() || moved.elapsed() >= most, "{told:?}");
            // What is written counts as well as what is read.
            moved = Instant::now();
            write.write_all(b"x").await.unwrap();
        }
        let told = read.read(&mut byte).await;
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(moved.elapsed() >= most, "{:?}", moved.elapsed());
        drop(far);
    }
}
