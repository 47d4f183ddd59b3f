//! Where programs in here read and write: the process's own streams, files, memory between the
//! stages of a pipeline. Cheap to clone; clones share what they stand for, as descriptors do.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use crate::sys;

/// Bytes that a pipeline whose stages run one after the other holds between two of them.
pub const MEMORY: usize = 8 << 20;
/// Bytes that are written at once.
const CHUNK: usize = 1 << 16;

#[derive(Clone)]
pub enum Stream {
    Null,
    Stdin,
    Stdout,
    Stderr,
    File(Rc<sys::File>),
    Memory(Rc<RefCell<VecDeque<u8>>>),
    /// From a process.
    Pipe(Rc<sys::PipeReader>),
}

impl Stream {
    pub fn file(file: sys::File) -> Self {
        Self::File(Rc::new(file))
    }

    /// Empty, and read what is written to it.
    pub fn memory() -> Self {
        Self::Memory(Rc::default())
    }

    pub fn of_text(text: &str) -> Self {
        Self::Memory(Rc::new(RefCell::new(text.as_bytes().iter().copied().collect())))
    }

    pub fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Null | Self::Stdout | Self::Stderr => Ok(0),
            Self::Stdin => sys::read_stdin(bytes),
            Self::File(file) => file.read(bytes),
            Self::Memory(memory) => memory.borrow_mut().read(bytes),
            Self::Pipe(reader) => reader.read(bytes),
        }
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Null => Ok(()),
            Self::Stdin | Self::Pipe(_) => Err(io::Error::other("Bad file descriptor")),
            Self::Stdout => sys::write_stdout(bytes),
            Self::Stderr => sys::write_stderr(bytes),
            Self::File(file) => {
                let mut left = bytes;
                while !left.is_empty() {
                    let wrote = file.write(left)?;
                    if wrote == 0 {
                        return Err(ErrorKind::StorageFull.into());
                    }
                    left = left.get(wrote..).unwrap_or_default();
                }
                Ok(())
            }
            Self::Memory(memory) => {
                let mut memory = memory.borrow_mut();
                if memory.len() + bytes.len() > MEMORY {
                    let room = MEMORY.saturating_sub(memory.len());
                    memory.extend(bytes.iter().take(room));
                    return Err(io::Error::new(
                        ErrorKind::BrokenPipe,
                        "the pipe holds 8 MiB and the next program runs only after this one",
                    ));
                }
                memory.extend(bytes);
                Ok(())
            }
        }
    }

    /// Whether both stand for the same.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null)
            | (Self::Stdin, Self::Stdin)
            | (Self::Stdout, Self::Stdout)
            | (Self::Stderr, Self::Stderr) => true,
            (Self::File(a), Self::File(b)) => Rc::ptr_eq(a, b),
            (Self::Memory(a), Self::Memory(b)) => Rc::ptr_eq(a, b),
            (Self::Pipe(a), Self::Pipe(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }

    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Stdin => sys::stdin_is_terminal(),
            Self::Stdout => sys::stdout_is_terminal(),
            _ => false,
        }
    }

    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        self.clone().read_to_end(&mut all)?;
        Ok(all)
    }

    /// One line with its end, byte by byte so that whoever reads next finds the rest.
    pub fn read_line(&self) -> io::Result<Vec<u8>> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while self.read(&mut byte)? == 1 {
            line.extend_from_slice(&byte);
            if byte == *b"\n" {
                break;
            }
        }
        Ok(line)
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Stream::read(self, bytes)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Stream::write(self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard output, gathered into large writes. What was not flushed is lost with it.
pub struct Out {
    stream: Stream,
    bytes: Vec<u8>,
}

impl Out {
    pub fn new(stream: Stream) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.write_all(text.as_bytes())?;
        self.write_all(b"\n")
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.stream.write(&bytes)
    }
}
