//! The ABI's error numbers, and what stops a call.

use rustix::io::Errno;

use crate::shim::kill::Killed;

/// An error number of wasi_snapshot_preview1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u16);

impl Code {
    pub const BAD_DESCRIPTOR: Self = Self(8);
    pub const FAULT: Self = Self(21);
    pub const INTERRUPTED: Self = Self(27);
    pub const INVALID: Self = Self(28);
    pub const IO: Self = Self(29);
    pub const IS_DIRECTORY: Self = Self(31);
    pub const TOO_MANY_DESCRIPTORS: Self = Self(33);
    pub const NAME_TOO_LONG: Self = Self(37);
    pub const NOT_DIRECTORY: Self = Self(54);
    pub const NOT_SOCKET: Self = Self(57);
    pub const NOT_SUPPORTED: Self = Self(58);
    pub const OVERFLOW: Self = Self(61);
    pub const CANNOT_SEEK: Self = Self(70);
    pub const NOT_CAPABLE: Self = Self(76);

    pub fn number(self) -> u16 {
        self.0
    }
}

impl From<Errno> for Code {
    /// What the kernel said; numbers that the ABI does not have become `io`.
    fn from(errno: Errno) -> Self {
        Self(match errno {
            Errno::TOOBIG => 1,
            Errno::ACCESS => 2,
            Errno::ADDRINUSE => 3,
            Errno::ADDRNOTAVAIL => 4,
            Errno::AGAIN => 6,
            Errno::BADF => 8,
            Errno::BUSY => 10,
            Errno::CANCELED => 11,
            Errno::CONNABORTED => 13,
            Errno::CONNREFUSED => 14,
            Errno::CONNRESET => 15,
            Errno::DEADLK => 16,
            Errno::DOM => 18,
            Errno::DQUOT => 19,
            Errno::EXIST => 20,
            Errno::FAULT => 21,
            Errno::FBIG => 22,
            Errno::HOSTUNREACH => 23,
            Errno::ILSEQ => 25,
            Errno::INTR => 27,
            Errno::INVAL => 28,
            Errno::ISDIR => 31,
            Errno::LOOP => 32,
            Errno::MFILE => 33,
            Errno::MLINK => 34,
            Errno::NAMETOOLONG => 37,
            Errno::NFILE => 41,
            Errno::NOBUFS => 42,
            Errno::NODEV => 43,
            Errno::NOENT => 44,
            Errno::NOLCK => 46,
            Errno::NOLINK => 47,
            Errno::NOMEM => 48,
            Errno::NOSPC => 51,
            Errno::NOSYS => 52,
            Errno::NOTCONN => 53,
            Errno::NOTDIR => 54,
            Errno::NOTEMPTY => 55,
            Errno::NOTSOCK => 57,
            Errno::OPNOTSUPP => 58,
            Errno::NOTTY => 59,
            Errno::NXIO => 60,
            Errno::OVERFLOW => 61,
            Errno::PERM => 63,
            Errno::PIPE => 64,
            Errno::RANGE => 68,
            Errno::ROFS => 69,
            Errno::SPIPE => 70,
            Errno::STALE => 72,
            Errno::TIMEDOUT => 73,
            Errno::TXTBSY => 74,
            Errno::XDEV => 75,
            _ => return Self::IO,
        })
    }
}

/// Why a call did not do what it was asked.
#[derive(Debug)]
pub enum Stop {
    /// The guest goes on with this number.
    Code(Code),
    /// The guest ends.
    End(wasmtime::Error),
}

pub type Result<T, E = Stop> = std::result::Result<T, E>;

impl From<Code> for Stop {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Code(errno.into())
    }
}

impl From<Killed> for Stop {
    fn from(killed: Killed) -> Self {
        Self::End(wasmtime::Error::new(killed))
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Errno::from_io_error(&error).map_or(Self::Code(Code::IO), Self::from)
    }
}
