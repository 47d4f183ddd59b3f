//! `poll_oneoff`: waits for clocks and for standard input. Files are always ready.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::descriptor::put;
use super::errno::{Code, Result};
use super::memory::{Memory, Span};
use super::table::{Descriptor, rights};
use super::{Call, Guest, clock};
use crate::shim::guest::Stdin;
use crate::shim::kill::Kill;

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
    Waiting,
    /// How many bytes can be read or written, where that is known.
    Ready(u64),
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
    let mut input = false;
    loop {
        let mut events = 0;
        let mut earliest: Option<Instant> = None;
        let mut waits_for_input = false;
        for index in 0..count {
            let subscription = Subscription::read(&call.memory, from, index, &start)?;
            let state = match subscription.wanted {
                Wanted::Clock(Some(deadline)) if deadline <= Instant::now() => State::Ready(0),
                Wanted::Clock(deadline) => {
                    earliest = match (earliest, deadline) {
                        (Some(one), Some(other)) => Some(one.min(other)),
                        (one, other) => one.or(other),
                    };
                    State::Waiting
                }
                Wanted::Descriptor(fd) => {
                    let state = call.guest.state(fd, subscription.kind, input);
                    waits_for_input |= matches!(state, State::Waiting);
                    state
                }
                Wanted::Wrong(code) => State::Failed(code),
            };
            let (error, bytes) = match state {
                State::Waiting => continue,
                State::Ready(bytes) => (0, bytes),
                State::Failed(code) => (code.number(), 0),
            };
            // Never past the subscriptions' number, which has been checked; a guest whose two
            // lists overlap harms itself alone.
            let mut event = [0; EVENT as usize];
            put(&mut event, 0, &subscription.userdata);
            put(&mut event, 8, &error.to_le_bytes());
            put(&mut event, 10, &[subscription.kind]);
            put(&mut event, 16, &bytes.to_le_bytes());
            call.memory.put(to + events * EVENT, &event)?;
            events += 1;
        }
        if events > 0 {
            return call.memory.put_u32(ready, events);
        }
        match (&call.guest.stdin, waits_for_input) {
            (Stdin::Descriptor(fd), true) => {
                let fd = PollFd::new(fd, PollFlags::IN);
                input = wait_for(fd, &call.guest.kill, earliest)?;
            }
            _ => call.guest.kill.sleep_until(earliest)?,
        }
    }
}

impl Guest {
    /// `input`: standard input has been found ready.
    fn state(&self, fd: u32, kind: u8, input: bool) -> State {
        let entry = match self.table.get(fd) {
            Ok(entry) => entry,
            Err(_) => return State::Failed(Code::BAD_DESCRIPTOR),
        };
        let right = if kind == 1 { rights::READ | rights::READ_DIR } else { rights::WRITE };
        match (&entry.descriptor, &self.stdin) {
            _ if entry.rights & right == 0 => State::Failed(Code::BAD_DESCRIPTOR),
            (Descriptor::Stdin, Stdin::Descriptor(_)) if !input && !self.has_input() => {
                State::Waiting
            }
            (Descriptor::File(file), _) if kind == 1 => State::Ready(file.left().unwrap_or(0)),
            _ => State::Ready(1),
        }
    }

    /// Whether a read of standard input would not wait.
    fn has_input(&self) -> bool {
        let Stdin::Descriptor(fd) = &self.stdin else { return true };
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0) | Err(Errno::INTR))
    }
}

/// Whether `fd` was ready by `deadline` (`None`: for ever).
fn wait_for(fd: PollFd<'_>, kill: &Kill, deadline: Option<Instant>) -> Result<bool> {
    let mut fds = [fd];
    loop {
        kill.check()?;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec::try_from(left).unwrap_or_default());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(found) => return Ok(found > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
