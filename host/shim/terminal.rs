//! A pseudo-terminal between a program and whoever looks at it: the kernel's line discipline
//! echoes, edits lines and knows which key interrupts. Knows nothing of guests or clients.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};
use tokio::sync::oneshot;

use super::cpu::Control;
use super::output::Output;
use crate::error::{Error, Result};

/// Bytes of output carried at a time; what the kernel keeps of a terminal.
const PIECE: usize = 4096;

/// The outer side.
pub struct Terminal(OwnedFd);

/// What a program has as its standard output and error.
pub struct Screen(OwnedFd);

impl Terminal {
    /// A new terminal and the program's side of it.
    pub fn open() -> Result<(Arc<Self>, OwnedFd)> {
        let doing = |error| Error::io("opening a terminal (is /dev/pts mounted?)")(error);
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: a plain call without pointers.
        let outer = unsafe { libc::posix_openpt(flags) };
        let outer = owned(outer).map_err(doing)?;
        // SAFETY: the descriptor is open; no pointers.
        if unsafe { libc::unlockpt(outer.as_raw_fd()) } != 0 {
            return Err(doing(io::Error::last_os_error()));
        }
        // SAFETY: TIOCGPTPEER takes open flags by value and gives a descriptor.
        let inner = unsafe { libc::ioctl(outer.as_raw_fd(), libc::TIOCGPTPEER, flags) };
        let inner = owned(inner).map_err(doing)?;
        rustix::io::ioctl_fionbio(&outer, true).map_err(Error::sys("setting a terminal up"))?;
        Ok((Arc::new(Self(outer)), inner))
    }

    /// Columns and rows; the program's side sees them at once.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        if let Err(error) = tcsetwinsize(&self.0, size) {
            tracing::debug!(%error, "a terminal cannot be resized");
        }
    }

    /// The outer side, to be written to: what is typed.
    pub fn keyboard(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(&self.0, 3)?)
    }

    /// Types an empty line.
    pub fn enter(&self) {
        // Where it takes nothing, nobody reads.
        let _ = rustix::io::write(&self.0, b"\n");
    }

    /// Whether the interrupt key is among `bytes`, while the terminal minds it.
    pub fn is_interrupted_by(&self, bytes: &[u8]) -> bool {
        let Ok(modes) = tcgetattr(&self.0) else { return false };
        let key = modes.special_codes[SpecialCodeIndex::VINTR];
        modes.local_modes.contains(LocalModes::ISIG) && key != 0 && bytes.contains(&key)
    }

    /// Carries what the program shows to `sink` on a thread of its own, until the program's side
    /// is closed everywhere. Resolves then. A sink that fails is not asked again: the program is
    /// not held up by it.
    /// `control` has the thread's share of the machine.
    pub fn show(
        self: &Arc<Self>,
        sink: Arc<dyn Output>,
        control: Arc<Control>,
    ) -> Result<oneshot::Receiver<()>> {
        let (over, is_over) = oneshot::channel();
        let own = self.clone();
        std::thread::Builder::new()
            .name(control.thread_name('t'))
            .spawn(move || {
                control.adopt();
                drop(control);
                own.carry(&*sink);
                drop(sink);
                // Whoever waited may have gone.
                let _ = over.send(());
            })
            .map_err(|error| Error::Exhausted(format!("starting a terminal's thread: {error}")))?;
        Ok(is_over)
    }

    fn carry(&self, sink: &dyn Output) {
        let mut bytes = [0; PIECE];
        let mut is_heard = true;
        loop {
            match rustix::io::read(&self.0, &mut bytes) {
                Ok(0) => return,
                Ok(count) if is_heard => {
                    is_heard = sink.write(bytes.get(..count).unwrap_or_default()).is_ok();
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // An error is then what the next read gives.
                    let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None);
                }
                // EIO: nobody has the program's side any more.
                Err(_) => return,
            }
        }
    }
}

fn owned(descriptor: i32) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a call has just given this descriptor to this function's caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

impl Screen {
    pub fn new(inner: OwnedFd) -> Self {
        Self(inner)
    }
}

impl Output for Screen {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        super::output::write_all(self.0.as_fd(), bytes, &|| false)
    }

    fn is_terminal(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::shim::output::Capture;

    #[test]
    fn what_is_shown_arrives_with_the_terminals_line_ends_and_ends_with_the_program() {
        let engines = crate::engine::Engines::plain();
        let (terminal, inner) = Terminal::open().unwrap();
        let sink = Arc::new(Capture::new(1 << 20));
        let over = terminal.show(sink.clone(), Control::free(&engines)).unwrap();
        let screen = Screen::new(inner);
        screen.write(b"one\ntwo\n").unwrap();
        drop(screen);
        over.blocking_recv().unwrap();
        assert_eq!(sink.take(), b"one\r\ntwo\r\n");
    }

    #[test]
    fn lines_are_edited_before_the_program_reads_them() {
        let (terminal, inner) = Terminal::open().unwrap();
        let keyboard = terminal.keyboard().unwrap();
        rustix::io::write(&keyboard, b"heX\x7fllo\r").unwrap();
        let mut line = String::new();
        BufReader::new(std::fs::File::from(inner)).read_line(&mut line).unwrap();
        assert_eq!(line, "hello\n");
    }

    #[test]
    fn the_interrupt_key_counts_while_the_terminal_minds_it() {
        let (terminal, inner) = Terminal::open().unwrap();
        assert!(terminal.is_interrupted_by(b"ab\x03"));
        assert!(!terminal.is_interrupted_by(b"ab"));
        let mut modes = tcgetattr(&inner).unwrap();
        modes.make_raw();
        rustix::termios::tcsetattr(&inner, rustix::termios::OptionalActions::Now, &modes).unwrap();
        assert!(!terminal.is_interrupted_by(b"\x03"));
    }

    #[test]
    fn a_size_is_seen_on_the_programs_side() {
        let (terminal, inner) = Terminal::open().unwrap();
        terminal.resize(132, 43);
        let size = rustix::termios::tcgetwinsize(&inner).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (132, 43));
    }
}
