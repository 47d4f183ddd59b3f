//! A file system that does not answer: a small FUSE server whose one file, "file", takes opens at
//! once and keeps every read and write waiting until it is told to let go. Whoever waits in it
//! cannot be interrupted by a handled signal, as with a network file system whose server is gone.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Unmounted, and everybody let go, when dropped.
pub struct Tarpit {
    at: PathBuf,
    server: Arc<Server>,
}

struct Server {
    device: File,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: bool,
    contents: Vec<u8>,
    waiting: HashMap<u64, Call>,
}

enum Call {
    Read { offset: u64, size: usize },
    Write(Vec<u8>),
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// Of a request and of an answer.
const HEADER: usize = 40;

const TOP: u64 = 1;
const FILE: u64 = 2;

impl Tarpit {
    /// Mounts it at `at`, a folder. `None`, loudly, where the machine has no FUSE.
    pub fn at(at: &Path) -> Option<Self> {
        let device = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => {
                eprintln!("SKIPPED: FUSE: {error}");
                return None;
            }
        };
        let options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tarpit", at, "fuse", flags, options.as_c_str()).unwrap();
        let server = Arc::new(Server { device, state: Mutex::default() });
        let own = server.clone();
        std::thread::spawn(move || own.serve());
        Some(Self { at: at.to_owned(), server })
    }

    /// How many reads and writes wait.
    pub fn waiting(&self) -> usize {
        self.server.state.lock().unwrap().waiting.len()
    }

    /// Answers all that wait, and from now on at once.
    pub fn let_go(&self) {
        let waiting = {
            let mut state = self.server.state.lock().unwrap();
            state.open = true;
            std::mem::take(&mut state.waiting)
        };
        let mut waiting: Vec<_> = waiting.into_iter().collect();
        waiting.sort_by_key(|(unique, _)| *unique);
        waiting.into_iter().for_each(|(unique, call)| self.server.carry_out(unique, call));
    }

    /// What was written.
    pub fn contents(&self) -> Vec<u8> {
        self.server.state.lock().unwrap().contents.clone()
    }
}

impl Drop for Tarpit {
    fn drop(&mut self) {
        self.let_go();
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

impl Server {
    /// Ends when the last mount of it has gone.
    fn serve(&self) {
        let mut request = vec![0; (1 << 20) + 4096];
        while let Ok(length) = (&self.device).read(&mut request) {
            let bytes = &request[..length];
            let (opcode, unique, node) = (u32_at(bytes, 4), u64_at(bytes, 8), u64_at(bytes, 16));
            self.answer((opcode, unique, node), &bytes[HEADER..]);
        }
    }

    fn answer(&self, (opcode, unique, node): (u32, u64, u64), body: &[u8]) {
        match opcode {
            INIT => {
                let mut out = [7u32, 31, 0, 0].map(u32::to_le_bytes).concat();
                out.extend([16u16, 12].map(u16::to_le_bytes).concat());
                out.extend((128u32 << 10).to_le_bytes());
                out.resize(64, 0);
                self.reply(unique, 0, &out);
            }
            LOOKUP if body == b"file\0" => {
                let ids = [FILE, 0, 0, 0].map(u64::to_le_bytes).concat();
                self.reply(unique, 0, &[ids, vec![0; 8], self.attributes(FILE)].concat());
            }
            LOOKUP => self.reply(unique, ENOENT, &[]),
            GETATTR | SETATTR => {
                if opcode == SETATTR && node == FILE && u32_at(body, 0) & (1 << 3) != 0 {
                    let size = usize::try_from(u64_at(body, 16)).unwrap();
                    self.state.lock().unwrap().contents.resize(size, 0);
                }
                self.reply(unique, 0, &[vec![0; 16], self.attributes(node)].concat());
            }
            // With direct I/O, so that no cache answers.
            OPEN => self.reply(unique, 0, &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
            OPENDIR => self.reply(unique, 0, &[0; 16]),
            READ => {
                let size = usize::try_from(u32_at(body, 16)).unwrap();
                self.take(unique, Call::Read { offset: u64_at(body, 8), size });
            }
            WRITE => self.take(unique, Call::Write(body[HEADER..].to_vec())),
            STATFS => self.reply(unique, 0, &[0; 80]),
            RELEASE | RELEASEDIR | FLUSH | FSYNC => self.reply(unique, 0, &[]),
            // That an answer is not wanted any more: it is not given up all the same.
            FORGET | BATCH_FORGET | INTERRUPT => {}
            _ => self.reply(unique, ENOSYS, &[]),
        }
    }

    fn take(&self, unique: u64, call: Call) {
        {
            let mut state = self.state.lock().unwrap();
            if !state.open {
                state.waiting.insert(unique, call);
                return;
            }
        }
        self.carry_out(unique, call);
    }

    fn carry_out(&self, unique: u64, call: Call) {
        let mut state = self.state.lock().unwrap();
        match call {
            Call::Read { offset, size } => {
                let rest = state.contents.get(usize::try_from(offset).unwrap()..).unwrap_or(&[]);
                self.reply(unique, 0, &rest[..size.min(rest.len())]);
            }
            // Appended: that is what logs do.
            Call::Write(bytes) => {
                state.contents.extend_from_slice(&bytes);
                let size = u32::try_from(bytes.len()).unwrap();
                self.reply(unique, 0, &[size, 0].map(u32::to_le_bytes).concat());
            }
        }
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let size = match node {
            FILE => self.state.lock().unwrap().contents.len() as u64,
            _ => 0,
        };
        let mode: u32 = if node == TOP { 0o040_755 } else { 0o100_644 };
        let mut out = [node, size, 0, 0, 0, 0].map(u64::to_le_bytes).concat();
        out.extend([0u32, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_le_bytes).concat());
        out
    }

    fn reply(&self, unique: u64, errno: i32, body: &[u8]) {
        let length = u32::try_from(16 + body.len()).unwrap();
        let head = [length.to_le_bytes(), (-errno).to_le_bytes()].concat();
        // Whoever asked may have been killed.
        let _ =
            (&self.device).write(&[head, unique.to_le_bytes().to_vec(), body.to_vec()].concat());
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
