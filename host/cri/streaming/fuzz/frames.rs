//! What clients send in SPDY: sessions as crictl was seen to begin them, frames in whatever
//! order, and frames that are none.

use super::Random;
use super::client::Step;
use crate::cri::streaming::spdy::frame::{self, Last, Reset, kind};
use crate::cri::streaming::spdy::headers::{Headers, Packer};

/// crictl v1.36 exec -i: its streams error, stdin, stdout and stderr, each a frame; Go's zlib.
const EXEC: [&str; 6] = [
    "800300010000002900000001000000000000\
     78f9e3c6a7c2626060600 4a7b392a2d4c45c6851c29a0a0a680000000 0ffff",
    "8003000100000017000000030000000000 00c22e555c9292990700000 0ffff",
    "800300010000001900000005000000000000c22ac5565c92925f5a02000000ffff",
    "800300010000001500000007000000000000c229975a5404000000ffff",
    "000000030000000b736f6d6520696e7075740a",
    "0000000301000000",
];

/// A PING and a GOAWAY as moby/spdystream writes them.
const FAREWELL: &str = "800300060000000400000001800300070000000800000000 00000000";

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

/// The frames of the session that was seen.
pub fn seen() -> Vec<Vec<u8>> {
    EXEC.iter().chain([&FAREWELL]).map(|text| unhex(text)).collect()
}

const NAMES: [&str; 6] = ["error", "stdin", "stdout", "stderr", "resize", "data"];

const VALUES: [&str; 10] =
    ["0", "1", "80", "8080", "7", "65536", "-1", "", "v4.channel.k8s.io", "\u{0}a"];

/// Frames in the making; header blocks go on from each other.
pub struct Script {
    packer: Packer,
    next: u32,
    pub steps: Vec<Step>,
}

impl Script {
    pub fn new() -> Self {
        Self { packer: Packer::new(), next: 1, steps: Vec::new() }
    }

    pub fn push(&mut self, bytes: Vec<u8>) {
        self.steps.push(Step::Bytes(bytes));
    }

    /// The next stream, with these headers.
    pub fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.next;
        self.next += 2;
        let block = self.packer.pack(&Headers::new(headers));
        self.push(frame::syn_stream(stream, Last::No, &block));
        stream
    }

    pub fn data(&mut self, stream: u32, bytes: &[u8], last: Last) {
        self.push([&frame::data_head(stream, last, bytes.len()), bytes].concat());
    }

    /// One more frame, most often one that could be.
    pub fn anything(&mut self, random: &mut Random) {
        let stream = self.some_stream(random);
        let last = if random.once_in(4) { Last::Yes } else { Last::No };
        match random.below(60) {
            0..15 => {
                let (request, port) = (random.below(5).to_string(), *random.pick(&VALUES));
                let kind = *random.pick(&NAMES);
                self.open(&[("streamtype", kind), ("port", port), ("requestid", &request)]);
            }
            15..32 => {
                let most = *random.pick(&[20, 1000, 70_000]);
                let bytes = random.bytes(most);
                self.data(stream, &bytes, last);
            }
            32..38 => self.push(frame::rst_stream(stream, Reset::Cancel)),
            38..42 => self.push(frame::ping(random.next() as u32)),
            42..45 => self.push(frame::go_away(stream)),
            45..49 => {
                // A reply or headers, for a stream of whichever side.
                let block = self.packer.pack(&Headers::new(&[("a", *random.pick(&VALUES))]));
                self.push(frame::syn_reply(stream, &block));
            }
            // SETTINGS, WINDOW_UPDATE and kinds that there are not.
            49..54 => self.raw(random.below(14) as u16, random.next() as u8, random),
            54..59 => self.odd_block(random),
            _ => self.flood(stream, random),
        }
    }

    /// A stream that may be open, or may not be one.
    fn some_stream(&self, random: &mut Random) -> u32 {
        match random.below(10) {
            0 => random.next() as u32,
            1 => *random.pick(&[0, 2, self.next, 0x7fff_ffff, u32::MAX]),
            _ => 2 * random.below(self.next as usize / 2 + 1) as u32 + 1,
        }
    }

    fn raw(&mut self, kind: u16, flags: u8, random: &mut Random) {
        let payload = random.bytes(40);
        let [a, b] = kind.to_be_bytes();
        // Now and then longer than it says, or than there may be.
        let length = match random.below(6) {
            0 => 0x00ff_ffff,
            1 => payload.len() as u32 + 5,
            _ => payload.len() as u32,
        };
        let [_, c, d, e] = length.to_be_bytes();
        self.push([&[0x80, 3, a, b, flags, c, d, e], payload.as_slice()].concat());
    }

    /// A stream whose headers are too many, too large, cut short or no headers.
    fn odd_block(&mut self, random: &mut Random) {
        let long = "0".repeat(1 << (4 + random.below(18)));
        let many = vec![("a", "b"); random.below(400)];
        let block = match random.below(5) {
            0 => self.packer.pack(&Headers::new(&[("streamtype", &long)])),
            1 => self.packer.pack(&Headers::new(&many)),
            2 => {
                let block = self.packer.pack(&Headers::new(&[("streamtype", "stdin")]));
                block[..random.below(block.len())].to_vec()
            }
            // Without the dictionary that both have.
            3 => unhex("789c6360606200040000ffff"),
            _ => random.bytes(200),
        };
        let stream = if random.once_in(4) { self.some_stream(random) } else { self.next };
        self.next = self.next.max(stream.saturating_add(2) & 0x7fff_ffff);
        self.push(frame::syn_stream(stream, Last::No, &block));
    }

    /// Much of one thing.
    fn flood(&mut self, stream: u32, random: &mut Random) {
        let times = 1 + random.below(*random.clone().pick(&[4, 40, 500]));
        match random.below(5) {
            0 => self.steps.push(Step::Again(frame::ping(1), times)),
            1 => self.steps.push(Step::Again(frame::rst_stream(stream, Reset::Cancel), times)),
            2 => {
                let bytes = vec![7; *random.pick(&[10, 16 << 10, 100 << 10])];
                let whole = [&frame::data_head(stream, Last::No, bytes.len()), &*bytes].concat();
                self.steps.push(Step::Again(whole, times));
            }
            3 => {
                // A small frame that is held, in the middle of much that is not.
                let held = frame::data_head(stream, Last::No, 17 << 10).to_vec();
                let none = frame::data_head(0, Last::No, 100 << 10).to_vec();
                let all = [held, vec![1; 17 << 10], none, vec![2; 100 << 10]].concat();
                self.steps.push(Step::Again(all, times));
            }
            _ => {
                for request in 0..times {
                    let request = format!("{request}{}", "x".repeat(random.below(9000)));
                    let kind = *random.pick(&NAMES);
                    self.open(&[("streamtype", kind), ("requestid", &request)]);
                }
            }
        }
    }
}

/// Kinds that a server may send.
pub const ANSWERS: [u16; 4] = [kind::SYN_REPLY, kind::RST_STREAM, kind::PING, kind::GOAWAY];
