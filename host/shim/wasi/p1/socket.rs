//! Listening sockets that a module begins with and the connections that it accepts. WASI 0.1 has
//! no call that makes a socket, so these are all there are. The kernel's sockets never block:
//! a call that may wait does so in `poll`, where a kill reaches it.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, accept_with, recv, sendmsg,
    shutdown,
};

use super::errno::{Code, Result};
use super::memory::Buffers;
use super::table::{Descriptor, Entry, flags, rights};
use super::{Call, Guest};
use crate::model::sockets::Listen;
use crate::shim::kill::Kill;
use crate::shim::network::Guard;
use crate::shim::sockets;
use crate::shim::wasi::fs::uninterrupted;

/// `riflags` and `sdflags`.
const PEEK: u32 = 1;
const WAIT_ALL: u32 = 2;
const SHUT_READ: u32 = 1;
const SHUT_WRITE: u32 = 2;

/// A kernel's socket, closed when dropped.
pub struct Socket(OwnedFd);

/// A listening socket that the module begins with.
///
/// Go wants one that does not block and finds out by asking for its flags; who accepts without
/// ever asking, as Rust's and C's libraries do, means to wait. So it says that it does not block,
/// and does not from then on.
pub struct Listener {
    socket: Socket,
    is_told: AtomicBool,
}

impl Listener {
    /// The guest is about to hear the flags, or has chosen them.
    pub fn tell(&self) {
        self.is_told.store(true, Ordering::Relaxed);
    }

    pub fn ready(&self, wanted: PollFlags) -> Option<Readiness> {
        self.socket.ready(wanted)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What poll says of one.
pub struct Readiness {
    /// Bytes that can be read at once, where there is a number.
    pub bytes: u64,
    pub hangup: bool,
}

impl Socket {
    /// Listens in the calling thread's network namespace. `Err` is one sentence.
    pub fn listen(wanted: &Listen, guard: &Guard) -> std::result::Result<Self, String> {
        sockets::listen(wanted, guard).map(Self)
    }

    /// `None`: the call would wait.
    pub fn ready(&self, wanted: PollFlags) -> Option<Readiness> {
        let mut fds = [PollFd::new(&self.0, wanted)];
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(0) | Err(Errno::INTR) => None,
            _ => Some(Readiness {
                bytes: ioctl_fionread(&self.0).unwrap_or(0),
                hangup: fds.iter().any(|fd| fd.revents().contains(PollFlags::HUP)),
            }),
        }
    }

    /// Tries until it would not wait any more; with `NONBLOCK` among the entry's flags once.
    fn patiently<T>(
        &self,
        (kill, flags, ready): (&Kill, u16, PollFlags),
        mut attempt: impl FnMut() -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        loop {
            match uninterrupted(kill, &mut attempt) {
                Err(Errno::AGAIN) if flags & flags::NONBLOCK == 0 => {
                    kill.check()?;
                    let mut fds = [PollFd::new(&self.0, ready)];
                    uninterrupted(kill, || poll(&mut fds, None))?;
                }
                done => return Ok(done?),
            }
        }
    }

    /// Reads what is there, or waits for the first of it; 0 is the end.
    pub fn read(&self, kill: &Kill, flags: u16, bytes: &mut [u8]) -> Result<usize> {
        self.receive((kill, flags), bytes, RecvFlags::empty())
    }

    fn receive(
        &self,
        (kill, flags): (&Kill, u16),
        bytes: &mut [u8],
        how: RecvFlags,
    ) -> Result<usize> {
        self.patiently((kill, flags, PollFlags::IN), || {
            recv(&self.0, &mut *bytes, how).map(|(read, _)| read)
        })
    }

    /// Writes some of the bytes, waiting for room for the first.
    pub fn write(&self, kill: &Kill, flags: u16, bytes: &[IoSlice<'_>]) -> Result<usize> {
        // A reader that has gone is an error number, never a signal.
        self.patiently((kill, flags, PollFlags::OUT), || {
            sendmsg(&self.0, bytes, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Entry {
    /// The entry of a listening socket that the module begins with.
    pub fn listener(socket: Socket) -> Self {
        let listener = Listener { socket, is_told: AtomicBool::new(false) };
        let mut entry = Self::new(Descriptor::Listener(Arc::new(listener)), rights::LISTENER);
        entry.flags = flags::NONBLOCK;
        entry
    }

    fn connection(&self) -> Result<&Socket> {
        match &self.descriptor {
            Descriptor::Connection(socket) => Ok(socket),
            Descriptor::Listener(_) => Err(Errno::NOTCONN.into()),
            _ => Err(Code::NOT_SOCKET.into()),
        }
    }
}

pub fn sock_accept(call: &mut Call<'_>, fd: u32, wanted: u32, to: u32) -> Result<()> {
    let wanted = u16::try_from(wanted).map_err(|_| Code::INVALID)?;
    if wanted & !flags::NONBLOCK != 0 {
        return Err(Code::INVALID.into());
    }
    call.memory.put_u32(to, 0)?;
    let Guest { table, kill, ledger, .. } = &*call.guest;
    let entry = table.get(fd)?;
    let listener = match &entry.descriptor {
        Descriptor::Listener(listener) => listener.clone(),
        Descriptor::Connection(_) => return Err(Code::INVALID.into()),
        _ => return Err(Code::NOT_SOCKET.into()),
    };
    // Before the connection is taken off the queue: it waits there for a better time.
    let permit = ledger.socket().ok_or(Code::TOO_MANY_DESCRIPTORS)?;
    let how = if listener.is_told.load(Ordering::Relaxed) { entry.flags } else { 0 };
    let accepted = listener.socket.patiently((kill, how, PollFlags::IN), || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match accept_with(&listener.socket.0, flags) {
            // Gone before it was accepted: the next one then.
            Err(Errno::CONNABORTED) => Err(Errno::AGAIN),
            accepted => accepted,
        }
    })?;
    let connection = Descriptor::Connection(Socket(accepted));
    let mut entry = Entry::new(connection, rights::CONNECTION);
    (entry.flags, entry._permit) = (wanted, Some(permit));
    let fd = call.guest.table.add(entry);
    call.memory.put_u32(to, fd)
}

/// Where `sock_recv` says how much it got, and of what kind.
pub struct Received {
    pub bytes: u32,
    pub flags: u32,
}

pub fn sock_recv(
    call: &mut Call<'_>,
    fd: u32,
    buffers: Buffers,
    how: u32,
    to: Received,
) -> Result<()> {
    if how & !(PEEK | WAIT_ALL) != 0 {
        return Err(Code::INVALID.into());
    }
    let Guest { table, kill, .. } = &*call.guest;
    let entry = table.get(fd)?;
    let socket = entry.connection()?;
    let asked = (&**kill, entry.flags);
    let total = if how == WAIT_ALL {
        call.memory.fill(buffers, |bytes, _| {
            let mut filled = 0;
            while let Some(left) = bytes.get_mut(filled..).filter(|left| !left.is_empty()) {
                match socket.receive(asked, left, RecvFlags::empty()) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(super::errno::Stop::Code(_)) if filled > 0 => break,
                    Err(stop) => return Err(stop),
                }
            }
            Ok(filled)
        })?
    } else {
        let how = if how & PEEK != 0 { RecvFlags::PEEK } else { RecvFlags::empty() };
        socket.receive(asked, call.memory.first(buffers)?, how)? as u32
    };
    call.memory.put_u32(to.bytes, total)?;
    // No flag of a datagram can be set for a stream.
    call.memory.put(to.flags, &[0, 0])
}

pub fn sock_send(
    call: &mut Call<'_>,
    fd: u32,
    buffers: Buffers,
    how: u32,
    sent: u32,
) -> Result<()> {
    if how != 0 {
        return Err(Code::INVALID.into());
    }
    let Guest { table, kill, .. } = &*call.guest;
    let entry = table.get(fd)?;
    let socket = entry.connection()?;
    let total = call.memory.drain(buffers, |bytes, _| socket.write(kill, entry.flags, bytes))?;
    call.memory.put_u32(sent, total)
}

pub fn sock_shutdown(call: &mut Call<'_>, fd: u32, how: u32) -> Result<()> {
    let how = match how {
        SHUT_READ => Shutdown::Read,
        SHUT_WRITE => Shutdown::Write,
        _ if how == SHUT_READ | SHUT_WRITE => Shutdown::Both,
        _ => return Err(Code::INVALID.into()),
    };
    Ok(shutdown(&call.guest.table.get(fd)?.connection()?.0, how)?)
}
