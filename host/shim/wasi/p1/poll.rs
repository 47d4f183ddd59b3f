//! `poll_oneoff`: waits for clocks, standard input and sockets. Files are always ready.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::descriptor::put;
use super::errno::{Code, Result};
use super::memory::{Memory, Span};
use super::socket::Readiness;
use super::table::{Descriptor, rights};
use super::{Call, Guest, clock};
use crate::shim::guest::Stdin;

/// Bytes of a `subscription` and of an `event`.
const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;

/// Subscriptions of one call: the container's descriptors could all be among them.
const MOST: u32 = 4096;

/// The clock's time is a moment, not a duration.
const ABSOLUTE: u16 = 1;

/// What the guest waits for.
struct Subscription {
    userdata: [u8; 8],
    /// 0 clock, 1 reading, 2 writing; the event repeats it.
    kind: u8,
    wanted: Wanted,
}

enum Wanted {
    /// `None`: so late that it never comes.
    Clock(Option<Instant>),
    Descriptor(u32),
    /// There is no such clock, or no such kind.
    Wrong(Code),
}

/// When the call began, on each clock.
struct Start {
    instant: Instant,
    realtime: u64,
    monotonic: u64,
}

impl Subscription {
    fn read(memory: &Memory<'_>, from: u32, index: u32, start: &Start) -> Result<Self> {
        let at = from.checked_add(index * SUBSCRIPTION).ok_or(Code::FAULT)?;
        let bytes = memory.array::<{ SUBSCRIPTION as usize }>(at)?;
        let (userdata, rest) = bytes.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let (kind, rest) = rest.split_first().unwrap_or((&0, &[]));
        let union = rest.get(7..).unwrap_or_default();
        let id = u32::from_le_bytes(field(union, 0));
        let wanted = match *kind {
            0 => {
                let timeout = u64::from_le_bytes(field(union, 8));
                let absolute = u16::from_le_bytes(field(union, 24)) & ABSOLUTE != 0;
                start.deadline(id, timeout, absolute)
            }
            1 | 2 => Wanted::Descriptor(id),
            _ => return Err(Code::INVALID.into()),
        };
        Ok(Self { userdata: *userdata, kind: *kind, wanted })
    }
}

/// `N` bytes of a structure that is long enough.
fn field<const N: usize>(structure: &[u8], at: usize) -> [u8; N] {
    structure.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

impl Start {
    fn now() -> Result<Self> {
        Ok(Self {
            instant: Instant::now(),
            realtime: clock::now(clock::REALTIME)?,
            monotonic: clock::now(clock::MONOTONIC)?,
        })
    }

    fn deadline(&self, id: u32, timeout: u64, absolute: bool) -> Wanted {
        let base = match id {
            clock::REALTIME => self.realtime,
            clock::MONOTONIC => self.monotonic,
            _ => return Wanted::Wrong(Code::NOT_SUPPORTED),
        };
        let wait = if absolute { timeout.saturating_sub(base) } else { timeout };
        Wanted::Clock(self.instant.checked_add(Duration::from_nanos(wait)))
    }
}

/// What is known of a subscription now.
enum State {
    /// For that of the descriptor.
    Waiting(PollFlags),
    Ready(Readiness),
    Failed(Code),
}

/// Where the subscriptions are, and where as many events go.
pub struct Lists {
    pub from: u32,
    pub to: u32,
    pub count: u32,
}

pub fn poll_oneoff(call: &mut Call<'_>, lists: Lists, ready: u32) -> Result<()> {
    let Lists { from, to, count } = lists;
    if count == 0 || count > MOST {
        return Err(Code::INVALID.into());
    }
    call.memory.bytes(Span { at: to, length: count * EVENT })?;
    let start = Start::now()?;
    loop {
        let mut events = 0;
        let mut earliest: Option<Instant> = None;
        let mut waiting = Vec::new();
        for index in 0..count {
            let subscription = Subscription::read(&call.memory, from, index, &start)?;
            let state = match subscription.wanted {
                Wanted::Clock(Some(deadline)) if deadline <= Instant::now() => State::ready(0),
                Wanted::Clock(deadline) => {
                    earliest = match (earliest, deadline) {
                        (Some(one), Some(other)) => Some(one.min(other)),
                        (one, other) => one.or(other),
                    };
                    continue;
                }
                Wanted::Descriptor(fd) => match call.guest.state(fd, subscription.kind) {
                    State::Waiting(flags) => {
                        waiting.push((fd, flags));
                        continue;
                    }
                    state => state,
                },
                Wanted::Wrong(code) => State::Failed(code),
            };
            let (error, is) = match state {
                State::Waiting(_) => continue,
                State::Ready(readiness) => (0, readiness),
                State::Failed(code) => (code.number(), Readiness { bytes: 0, hangup: false }),
            };
            // Never past the subscriptions' number, which has been checked; a guest whose two
            // lists overlap harms itself alone.
            let mut event = [0; EVENT as usize];
            put(&mut event, 0, &subscription.userdata);
            put(&mut event, 8, &error.to_le_bytes());
            put(&mut event, 10, &[subscription.kind]);
            put(&mut event, 16, &is.bytes.to_le_bytes());
            put(&mut event, 24, &u16::from(is.hangup).to_le_bytes());
            call.memory.put(to + events * EVENT, &event)?;
            events += 1;
        }
        if events > 0 {
            return call.memory.put_u32(ready, events);
        }
        match waiting.as_slice() {
            [] => call.guest.kill.sleep_until(earliest)?,
            waiting => call.guest.wait(waiting, earliest)?,
        }
    }
}

impl State {
    fn ready(bytes: u64) -> Self {
        Self::Ready(Readiness { bytes, hangup: false })
    }

    fn of(readiness: Option<Readiness>, flags: PollFlags) -> Self {
        readiness.map_or(Self::Waiting(flags), Self::Ready)
    }
}

impl Guest {
    fn state(&self, fd: u32, kind: u8) -> State {
        let entry = match self.table.get(fd) {
            Ok(entry) => entry,
            Err(_) => return State::Failed(Code::BAD_DESCRIPTOR),
        };
        let (right, flags) = match kind {
            1 => (rights::READ | rights::READ_DIR, PollFlags::IN),
            _ => (rights::WRITE, PollFlags::OUT),
        };
        match (&entry.descriptor, &self.stdin) {
            _ if entry.rights & right == 0 => State::Failed(Code::BAD_DESCRIPTOR),
            (Descriptor::Stdin, Stdin::Descriptor(_)) if !self.has_input() => State::Waiting(flags),
            (Descriptor::File(file), _) if kind == 1 => State::ready(file.left().unwrap_or(0)),
            (Descriptor::Listener(socket), _) => State::of(socket.ready(flags), flags),
            (Descriptor::Connection(socket), _) => State::of(socket.ready(flags), flags),
            _ => State::ready(1),
        }
    }

    /// Whether a read of standard input would not wait.
    fn has_input(&self) -> bool {
        let Stdin::Descriptor(fd) = &self.stdin else { return true };
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0) | Err(Errno::INTR))
    }

    /// Until one of the descriptors is ready, or `deadline` (`None`: for ever).
    fn wait(&self, waiting: &[(u32, PollFlags)], deadline: Option<Instant>) -> Result<()> {
        let fds = waiting.iter().filter_map(|&(fd, flags)| {
            let fd = match (&self.table.get(fd).ok()?.descriptor, &self.stdin) {
                (Descriptor::Stdin, Stdin::Descriptor(fd)) => fd.as_fd(),
                (Descriptor::Listener(socket), _) => socket.as_fd(),
                (Descriptor::Connection(socket), _) => socket.as_fd(),
                _ => return None,
            };
            Some(PollFd::from_borrowed_fd(fd, flags))
        });
        let mut fds: Vec<_> = fds.collect();
        loop {
            self.kill.check()?;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec::try_from(left).unwrap_or_default());
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
