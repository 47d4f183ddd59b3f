//! A container's standard input when it is to have one: a pipe or a terminal. The guest has one
//! end; the other stays with the container, so that reads wait until somebody writes there or the
//! container ends. Knows nothing of guests or of whoever attaches.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::unix::pipe;

use super::lock;
use super::spec::StdinSource;
use super::terminal::Terminal;
use crate::error::{Error, Result};

/// Bytes fed at a time.
const PIECE: usize = 64 << 10;

pub struct Input {
    /// Until the guest takes it.
    guests: Mutex<Option<OwnedFd>>,
    /// What keeps the guest's reads waiting; for whoever attaches.
    other: Mutex<Option<Other>>,
    is_once: bool,
}

enum Other {
    Pipe(OwnedFd),
    Terminal(Arc<Terminal>),
}

impl Input {
    pub fn open(source: StdinSource) -> Result<Option<Self>> {
        let (guests, other) = match source {
            StdinSource::Nothing => return Ok(None),
            StdinSource::Pipe { .. } => {
                let doing = || Error::sys("making the pipe of a standard input");
                let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(doing())?;
                rustix::io::ioctl_fionbio(&writer, true).map_err(doing())?;
                (reader, Other::Pipe(writer))
            }
            StdinSource::Terminal { .. } => {
                let (terminal, inner) = Terminal::open()?;
                (inner, Other::Terminal(terminal))
            }
        };
        let is_once = matches!(
            source,
            StdinSource::Pipe { once: true } | StdinSource::Terminal { once: true }
        );
        Ok(Some(Self { guests: Mutex::new(Some(guests)), other: Mutex::new(Some(other)), is_once }))
    }

    /// The guest's end, once.
    pub fn take_guests(&self) -> Option<OwnedFd> {
        lock(&self.guests).take()
    }

    pub fn terminal(&self) -> Option<Arc<Terminal>> {
        match &*lock(&self.other) {
            Some(Other::Terminal(terminal)) => Some(terminal.clone()),
            _ => None,
        }
    }

    /// A descriptor of one's own to write input to; never blocks. `None` once it has been closed.
    pub fn writer(&self) -> io::Result<Option<OwnedFd>> {
        match &*lock(&self.other) {
            Some(Other::Pipe(writer)) => Ok(Some(rustix::io::fcntl_dupfd_cloexec(writer, 3)?)),
            Some(Other::Terminal(terminal)) => terminal.keyboard().map(Some),
            None => Ok(None),
        }
    }

    /// An attachment that gave input is over (CRI's stdin_once: then there is no more).
    pub fn attachment_is_over(&self) {
        if self.is_once {
            // A terminal has no end but the container's.
            lock(&self.other).take_if(|other| matches!(other, Other::Pipe(_)));
        }
    }
}

/// Carries what comes out of the pipe `from` to `to`, which never blocks, until either ends;
/// `seen` sees it once `to` has taken what it takes at once: a terminal that gets its interrupt
/// key throws away what it has to show, and that is not to be what comes after. Inside a tokio runtime.
pub async fn feed(from: OwnedFd, to: OwnedFd, mut seen: impl FnMut(&[u8])) -> io::Result<()> {
    let mut from = pipe::Receiver::from_owned_fd(from)?;
    // SAFETY: an OwnedFd's descriptor stays open and the same for as long as the OwnedFd lives.
    let to = unsafe { AsyncFd::register_with_interest(to, Interest::WRITABLE) }
        .map_err(|error| error.into_parts().1)?;
    let mut bytes = vec![0; PIECE];
    loop {
        let count = from.read(&mut bytes).await?;
        let mut rest = bytes.get(..count).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        // What it does not take, or why, the writes below find out.
        let taken = rustix::io::write(to.get_ref(), rest).unwrap_or(0);
        seen(rest);
        rest = rest.get(taken..).unwrap_or_default();
        while !rest.is_empty() {
            let written = to
                .async_io(Interest::WRITABLE, |fd| match rustix::io::write(fd.as_fd(), rest) {
                    // A signal says nothing about the descriptor.
                    Err(Errno::INTR) => Ok(0),
                    written => Ok(written?),
                })
                .await?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn what_one_writes_the_guest_reads_and_the_end_is_not_the_inputs_end() {
        let input = Input::open(StdinSource::Pipe { once: false }).unwrap().unwrap();
        let mut guests = std::fs::File::from(input.take_guests().unwrap());
        for text in ["first", "later"] {
            let (from, mut client) = std::io::pipe().unwrap();
            client.write_all(text.as_bytes()).unwrap();
            drop(client);
            feed(from.into(), input.writer().unwrap().unwrap(), |_| {}).await.unwrap();
            input.attachment_is_over();
            let mut bytes = [0; 5];
            guests.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, text.as_bytes());
        }
    }

    #[test]
    fn an_input_for_once_ends_with_its_attachment() {
        let input = Input::open(StdinSource::Pipe { once: true }).unwrap().unwrap();
        let mut guests = std::fs::File::from(input.take_guests().unwrap());
        input.attachment_is_over();
        assert!(input.writer().unwrap().is_none());
        assert_eq!(guests.read(&mut [0; 1]).unwrap(), 0);
    }
}
