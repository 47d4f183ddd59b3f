//! Reads what a server says, more strictly than clients do.

use std::collections::HashMap;

use bytes::{Buf, BytesMut};

use super::client::Answers;
use super::frames;
use crate::cri::streaming::spdy::frame::{self, Control, HEAD, Head, Last};
use crate::cri::streaming::spdy::headers::Unpacker;
use crate::cri::streaming::websocket::Form;

/// What is known of a stream that the server has replied to.
#[derive(Default)]
pub struct Said {
    pub bytes: Vec<u8>,
    pub has_ended: bool,
    pub is_reset: bool,
}

/// Bytes kept of each stream.
const KEPT: usize = 64 << 10;

pub struct Spdy {
    unread: BytesMut,
    unpacker: Unpacker,
    /// A data frame's stream, whether it is its last, and what is missing of it.
    within: Option<(u32, Last, usize)>,
    pub streams: HashMap<u32, Said>,
}

impl Spdy {
    pub fn new() -> Self {
        let (unread, unpacker, streams) = (BytesMut::new(), Unpacker::new(), HashMap::new());
        Self { unread, unpacker, within: None, streams }
    }

    fn step(&mut self) -> bool {
        if let Some((stream, last, missing)) = self.within.take() {
            let count = missing.min(self.unread.len());
            let said = self.streams.get_mut(&stream).expect("data before a reply");
            assert!(!said.has_ended && !said.is_reset, "data after the end of {stream}");
            let room = KEPT.saturating_sub(said.bytes.len()).min(count);
            said.bytes.extend_from_slice(&self.unread[..room]);
            self.unread.advance(count);
            if count < missing {
                self.within = Some((stream, last, missing - count));
                return false;
            }
            said.has_ended = last == Last::Yes;
            return true;
        }
        let Some(first) = self.unread.first_chunk::<HEAD>() else { return false };
        match frame::head(*first).expect("a frame") {
            Head::Data { stream, last, length } => {
                self.unread.advance(HEAD);
                self.within = Some((stream, last, length));
            }
            Head::Control { kind, flags, length } => {
                if self.unread.len() < HEAD + length {
                    return false;
                }
                let payload = self.unread.split_to(HEAD + length).split_off(HEAD);
                assert!(frames::ANSWERS.contains(&kind), "a frame of kind {kind}");
                self.control(&frame::control(kind, flags, &payload).expect("a control frame"));
            }
        }
        true
    }

    fn control(&mut self, control: &Control<'_>) {
        match control {
            Control::SynReply { stream, block, .. } => {
                self.unpacker.unpack(block).expect("a header block");
                let before = self.streams.insert(*stream, Said::default());
                assert!(before.is_none(), "{stream} is replied to twice");
            }
            Control::RstStream { stream } => {
                let said = self.streams.entry(*stream).or_default();
                assert!(!said.has_ended, "a reset after the end of {stream}");
                said.is_reset = true;
            }
            _ => {}
        }
    }
}

impl Answers for Spdy {
    fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while self.step() {}
    }

    fn end(&mut self) {
        assert!(self.within.is_none() && self.unread.is_empty(), "the last frame is cut short");
    }
}

/// A server's WebSocket messages for channels.
pub struct Channels {
    unread: BytesMut,
    form: Form,
}

impl Channels {
    pub fn new(form: Form) -> Self {
        Self { unread: BytesMut::new(), form }
    }

    fn step(&mut self) -> bool {
        let [first, second, rest @ ..] = self.unread.as_ref() else { return false };
        let (first, second) = (*first, *second);
        assert!(first & 0xf0 == 0x80, "one frame is one message");
        let (length, head) = match second {
            length @ 0..126 => (usize::from(length), 2),
            126 => match rest.first_chunk::<2>() {
                Some(bytes) => (usize::from(u16::from_be_bytes(*bytes)), 4),
                None => return false,
            },
            127 => match rest.first_chunk::<8>() {
                Some(bytes) => (u64::from_be_bytes(*bytes) as usize, 10),
                None => return false,
            },
            _ => panic!("a server masks nothing"),
        };
        if self.unread.len() < head + length {
            return false;
        }
        let message = self.unread.split_to(head + length).split_off(head);
        match first & 0xf {
            2 if self.form == Form::Binary => assert!(matches!(message[0], 1..=3 | 255)),
            1 if self.form == Form::Base64 => assert!(matches!(message[0], b'1'..=b'3')),
            8..=10 => assert!(message.len() < 126),
            other => panic!("a message of kind {other}"),
        }
        true
    }
}

impl Answers for Channels {
    fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while self.step() {}
    }

    fn end(&mut self) {
        assert!(self.unread.is_empty(), "the last message is cut short");
    }
}
