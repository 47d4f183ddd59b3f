//! Who looks at a container's output as it comes, beside its log. A look costs the container at
//! most [`PATIENCE`]: whoever takes no more than that loses what is written meanwhile and is told
//! how much it was. Knows nothing of guests or clients.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::lock;
use super::log::Stream;
use super::output::Output;
use crate::error::{Error, Result};

/// How long a guest's write waits for one who looks and does not take.
const PATIENCE: Duration = Duration::from_millis(250);

#[derive(Default)]
pub struct Taps {
    /// So that nobody's look costs nothing.
    any: AtomicBool,
    next: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// The container has ended.
    closed: bool,
    taps: Vec<(u64, Arc<Tap>)>,
}

struct Tap {
    stdout: Option<Mutex<Line>>,
    stderr: Option<Mutex<Line>>,
}

/// A pipe to one who looks.
struct Line {
    writer: OwnedFd,
    /// Bytes that it did not get since it last took some.
    missed: u64,
    gone: bool,
}

/// One look; over when dropped.
pub struct Look {
    taps: Arc<Taps>,
    number: u64,
}

impl Taps {
    /// What is written from now on goes to these pipes as well. They are closed with the look,
    /// or when the container ends.
    pub fn look(
        self: &Arc<Self>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> Result<Look> {
        let tap = Tap { stdout: line(stdout)?, stderr: line(stderr)? };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = lock(&self.open);
        if !open.closed {
            open.taps.push((number, Arc::new(tap)));
            self.any.store(true, Ordering::Release);
        }
        Ok(Look { taps: self.clone(), number })
    }

    /// Ends every look.
    pub fn close(&self) {
        let mut open = lock(&self.open);
        open.closed = true;
        open.taps.clear();
        self.any.store(false, Ordering::Release);
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let taps: Vec<_> = lock(&self.open).taps.iter().map(|(_, tap)| tap.clone()).collect();
        for tap in taps {
            let line = match stream {
                Stream::Stdout => &tap.stdout,
                Stream::Stderr => &tap.stderr,
            };
            if let Some(line) = line {
                lock(line).write(bytes);
            }
        }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let mut open = lock(&self.taps.open);
        open.taps.retain(|(number, _)| *number != self.number);
        self.taps.any.store(!open.taps.is_empty(), Ordering::Release);
    }
}

fn line(writer: Option<OwnedFd>) -> Result<Option<Mutex<Line>>> {
    let Some(writer) = writer else { return Ok(None) };
    rustix::io::ioctl_fionbio(&writer, true).map_err(Error::sys("setting a client's pipe up"))?;
    Ok(Some(Mutex::new(Line { writer, missed: 0, gone: false })))
}

impl Line {
    fn write(&mut self, bytes: &[u8]) {
        if self.missed > 0 {
            let notice = format!("\r\nwasmpod: {} bytes are missing here\r\n", self.missed);
            match rustix::io::write(&self.writer, notice.as_bytes()) {
                Ok(_) => self.missed = 0,
                Err(_) => return self.missed += bytes.len() as u64,
            }
        }
        let mut rest = bytes;
        while !rest.is_empty() && !self.gone {
            match rustix::io::write(&self.writer, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN) if self.takes_soon() => {}
                Err(Errno::AGAIN) => return self.missed += rest.len() as u64,
                Err(Errno::INTR) => {}
                Err(_) => self.gone = true,
            }
        }
    }

    fn takes_soon(&self) -> bool {
        let patience = Timespec::try_from(PATIENCE).unwrap_or_default();
        let mut fds = [PollFd::new(&self.writer, PollFlags::OUT)];
        matches!(poll(&mut fds, Some(&patience)), Ok(1) | Err(Errno::INTR))
    }
}

/// A stream of a container: its log, and everybody who looks.
pub struct Tapped {
    pub log: Arc<dyn Output>,
    pub taps: Arc<Taps>,
    pub stream: Stream,
}

impl Output for Tapped {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.log.write(bytes)?;
        self.taps.write(self.stream, bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::shim::output::Discard;

    fn tapped(taps: &Arc<Taps>) -> Tapped {
        Tapped { log: Arc::new(Discard), taps: taps.clone(), stream: Stream::Stdout }
    }

    #[test]
    fn everybody_who_looks_sees_what_is_written_meanwhile() {
        let taps = Arc::new(Taps::default());
        let output = tapped(&taps);
        output.write(b"before ").unwrap();
        let (mut one, writer) = std::io::pipe().unwrap();
        let first = taps.look(Some(writer.into()), None).unwrap();
        output.write(b"both ").unwrap();
        let (mut other, writer) = std::io::pipe().unwrap();
        let _second = taps.look(Some(writer.into()), None).unwrap();
        drop(first);
        output.write(b"one").unwrap();
        taps.close();
        output.write(b"after").unwrap();
        let mut text = String::new();
        one.read_to_string(&mut text).unwrap();
        assert_eq!(text, "both ");
        text.clear();
        other.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one");
    }

    #[test]
    fn one_who_does_not_take_is_told_what_it_missed_and_holds_nobody_up() {
        let taps = Arc::new(Taps::default());
        let output = tapped(&taps);
        let (mut slow, writer) = std::io::pipe().unwrap();
        let _look = taps.look(Some(writer.into()), None).unwrap();
        for _ in 0..1000 {
            output.write(&[b'x'; 4096]).unwrap();
        }
        let mut bytes = vec![0; 64 << 10];
        slow.read_exact(&mut bytes).unwrap();
        output.write(b"again").unwrap();
        taps.close();
        let mut text = String::new();
        slow.read_to_string(&mut text).unwrap();
        let missed = 1000 * 4096 - (64 << 10);
        assert_eq!(text, format!("\r\nwasmpod: {missed} bytes are missing here\r\nagain"));
    }
}
