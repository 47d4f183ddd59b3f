//! Moving bytes between a guest and its files, devices and standard streams. `Reader` and
//! `Writer` are both versions' streams; each read and write is done at once on this thread.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::stdin::Input;
use crate::shim::kill::{Kill, Killed};
use crate::shim::output::Output;
use crate::shim::wasi::fs::{Device, File, Result, uninterrupted};

/// Bytes moved by one call at most: what a guest makes the host hold.
pub const TRANSFER: usize = 64 * 1024;

/// A standard output that stops at the guest's kill.
#[derive(Clone)]
pub struct Guarded {
    output: Arc<dyn Output>,
    kill: Arc<Kill>,
}

impl Guarded {
    pub fn new(output: Arc<dyn Output>, kill: Arc<Kill>) -> Self {
        Self { output, kill }
    }

    /// Takes all of `bytes`. EINTR once the guest is killed.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let alive = || if self.kill.is_killed() { Err(Errno::INTR) } else { Ok(()) };
        alive()?;
        self.output.write(bytes).map_err(|error| match alive() {
            Err(killed) => killed,
            Ok(()) => Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })
    }
}

/// Where a stream reads.
pub enum Reader {
    File { file: Arc<File>, position: u64, kill: Arc<Kill> },
    Device(Device),
    Input(Input),
}

impl Reader {
    /// Reads what is there; `None`: nothing yet. 0 is the end.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<Option<usize>> {
        match self {
            Self::File { file, position, kill } => {
                let read = uninterrupted(kill, || file.read_at(bytes, *position))?;
                *position = position.saturating_add(read as u64);
                Ok(Some(read))
            }
            Self::Device(device) => device.read(bytes).map(Some),
            Self::Input(input) => input.try_read(bytes),
        }
    }

    /// [`Reader::read`] for a task that can be woken.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<Result<usize>> {
        match self {
            Self::Input(input) => input.poll_input(cx, bytes),
            other => Poll::Ready(other.read(bytes).map(Option::unwrap_or_default)),
        }
    }

    async fn wait(&self) {
        if let Self::Input(input) = self {
            input.ready().await;
        }
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        self.wait().await;
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = BytesMut::zeroed(size.min(TRANSFER));
        match Reader::read(self, &mut bytes).map_err(stream_error)? {
            None => Ok(Bytes::new()),
            Some(0) => Err(StreamError::Closed),
            Some(read) => {
                bytes.truncate(read);
                Ok(bytes.freeze())
            }
        }
    }
}

/// Where a stream writes.
pub enum Writer {
    File {
        file: Arc<File>,
        position: u64,
        kill: Arc<Kill>,
    },
    /// At the file's end, wherever that is by then.
    Append {
        file: Arc<File>,
        kill: Arc<Kill>,
    },
    Device(Device),
    Output(Guarded),
}

impl Writer {
    /// Writes some of `bytes` and says how many.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::File { file, position, kill } => {
                let written = uninterrupted(kill, || file.write_at(bytes, *position))?;
                *position = position.saturating_add(written as u64);
                Ok(written)
            }
            Self::Append { file, kill } => uninterrupted(kill, || file.append(bytes)),
            Self::Device(device) => device.write(bytes.len()),
            Self::Output(output) => output.write(bytes).map(|()| bytes.len()),
        }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> StreamResult<()> {
        while !bytes.is_empty() {
            match self.write(bytes).map_err(stream_error)? {
                0 => return Err(stream_error(Errno::IO)),
                written => bytes = bytes.get(written..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_all(&bytes)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_all(&bytes)
    }

    /// Nothing is kept back.
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(TRANSFER)
    }
}

fn stream_error(errno: Errno) -> StreamError {
    match errno {
        Errno::PIPE => StreamError::Closed,
        Errno::INTR => StreamError::Trap(wasmtime::Error::new(Killed)),
        errno => StreamError::LastOperationFailed(wasmtime::Error::new(errno)),
    }
}

/// Standard output or error, as wasmtime-wasi asks for it.
pub struct Standard(pub Guarded);

impl IsTerminal for Standard {
    fn is_terminal(&self) -> bool {
        self.0.output.is_terminal()
    }
}

impl StdoutStream for Standard {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Standard(self.0.clone()))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Writer::Output(self.0.clone()))
    }
}

impl AsyncWrite for Standard {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(bytes).map(|()| bytes.len()).map_err(io::Error::from))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
