//! Bodies of messages with something that lives as long as they do.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::{Error, WasiBody};

/// A body beside what is let go when it has been read or nobody wants it any more.
pub struct Holding<T> {
    body: WasiBody,
    _held: T,
}

/// `body`, holding `held`.
pub fn holding<T: Send + Unpin + 'static>(body: WasiBody, held: T) -> WasiBody {
    Holding { body, _held: held }.boxed_unsync()
}

impl<T: Unpin> Body for Holding<T> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A peer's body that fails when its next piece takes too long.
pub struct Patient {
    body: Incoming,
    patience: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Patient {
    pub fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, sleep: Box::pin(sleep(patience)) }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let next = Instant::now() + self.patience;
                self.sleep.as_mut().reset(next);
                Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)))
            }
            Poll::Pending => {
                let late = self.sleep.as_mut().poll(cx);
                late.map(|()| Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
