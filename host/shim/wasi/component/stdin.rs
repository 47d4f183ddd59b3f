//! A component's standard input. Empty, a file, or a pipe that is waited for without holding
//! the thread where the interface allows it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::InputStream;

use super::transfer::Reader;
use crate::shim::guest::Stdin;
use crate::shim::kill::Kill;
use crate::shim::wasi::fs::{Result, uninterrupted};

/// Shared by all streams of it: what one takes, the others do not see.
#[derive(Clone)]
pub struct Input {
    source: Arc<Source>,
    kill: Arc<Kill>,
}

enum Source {
    Empty,
    /// Always ready.
    File(OwnedFd),
    Pipe(AsyncFd<OwnedFd>),
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

impl Input {
    /// Inside a tokio runtime, with I/O if it is a descriptor.
    pub fn new(stdin: Stdin, kill: Arc<Kill>) -> io::Result<Self> {
        let source = match stdin {
            Stdin::Empty => Source::Empty,
            Stdin::Descriptor(fd) => watched(fd)?,
        };
        Ok(Self { source: Arc::new(source), kill })
    }

    /// Reads what is there; `None`: nothing yet. 0 is the end.
    pub fn try_read(&self, bytes: &mut [u8]) -> Result<Option<usize>> {
        match &*self.source {
            Source::Empty => Ok(Some(0)),
            Source::File(fd) => self.read(fd.as_fd(), bytes).map(Some),
            Source::Pipe(fd) if self.has_input(fd.as_fd(), Some(&NOW))? => {
                self.read(fd.as_fd(), bytes).map(Some)
            }
            Source::Pipe(_) => Ok(None),
        }
    }

    /// Reads, waiting on this thread until there is something or the guest is killed.
    pub fn read_waiting(&self, bytes: &mut [u8]) -> Result<usize> {
        if let Source::Pipe(fd) = &*self.source {
            self.has_input(fd.as_fd(), None)?;
        }
        Ok(self.try_read(bytes)?.unwrap_or(0))
    }

    /// Resolves when [`Input::try_read`] has something to say.
    pub async fn ready(&self) {
        let Source::Pipe(fd) = &*self.source else { return };
        // An error is then what the next read gives.
        while let Ok(mut guard) = fd.readable().await {
            if self.has_input(fd.as_fd(), Some(&NOW)) != Ok(false) {
                guard.retain_ready();
                return;
            }
            guard.clear_ready();
        }
    }

    /// [`Input::try_read`] for a task, which is woken when there is something. Only the task
    /// that came last is.
    pub fn poll_input(&self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<Result<usize>> {
        loop {
            let guard = match &*self.source {
                Source::Pipe(fd) => match ready!(fd.poll_read_ready(cx)) {
                    Ok(guard) => Some(guard),
                    Err(_) => return Poll::Ready(Err(Errno::IO)),
                },
                Source::Empty | Source::File(_) => None,
            };
            match (self.try_read(bytes), guard) {
                (Ok(None), Some(mut guard)) => guard.clear_ready(),
                (read, _) => return Poll::Ready(read.map(Option::unwrap_or_default)),
            }
        }
    }

    fn read(&self, fd: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize> {
        uninterrupted(&self.kill, || rustix::io::read(fd, &mut *bytes))
    }

    fn has_input(&self, fd: BorrowedFd<'_>, timeout: Option<&Timespec>) -> Result<bool> {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        uninterrupted(&self.kill, || poll(&mut fds, timeout)).map(|ready| ready > 0)
    }
}

/// A pipe, or a regular file, of which epoll takes none.
fn watched(fd: OwnedFd) -> io::Result<Source> {
    // SAFETY: an OwnedFd's descriptor stays open and the same for as long as the OwnedFd lives.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    match registered.map_err(AsyncFdRegisterError::into_parts) {
        Ok(fd) => Ok(Source::Pipe(fd)),
        Err((fd, error)) if error.raw_os_error() == Some(libc::EPERM) => Ok(Source::File(fd)),
        Err((_, error)) => Err(error),
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_input(cx, buf.initialize_unfilled()))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        match &*self.source {
            Source::Pipe(fd) => rustix::termios::isatty(fd.get_ref()),
            Source::Empty | Source::File(_) => false,
        }
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Reader::Input(self.clone()))
    }
}
