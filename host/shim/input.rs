//! A container's standard input when it is to have one: a pipe. The guest reads its end; the
//! other stays with the container, so that reads wait until somebody writes there or the
//! container ends. Knows nothing of guests or of whoever attaches.

use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::pipe::{PipeFlags, pipe_with};

use super::lock;
use crate::error::{Error, Result};

pub struct Input {
    /// Until the guest takes it.
    reader: Mutex<Option<OwnedFd>>,
    /// What keeps the guest's reads waiting; for whoever attaches.
    _writer: OwnedFd,
}

impl Input {
    pub fn open() -> Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
            .map_err(Error::sys("making the pipe of a standard input"))?;
        Ok(Self { reader: Mutex::new(Some(reader)), _writer: writer })
    }

    /// The guest's end, once.
    pub fn take_reader(&self) -> Option<OwnedFd> {
        lock(&self.reader).take()
    }
}
