//! The shim over a real socket with real guests, in this process: the test's thread takes the
//! part of the process's first one. What needs root is left out without it.

mod bench;
mod calls;
mod ends;
mod guests;
mod programs;
