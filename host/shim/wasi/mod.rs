//! WASI for guests: files on one path layer (`fs`), and the three kinds of guest above it;
//! `component` is what p2 and p3 share. Knows nothing of containers' lives.

mod component;
pub mod fs;
pub mod p1;
pub mod p2;
pub mod p3;
mod working_dir;
