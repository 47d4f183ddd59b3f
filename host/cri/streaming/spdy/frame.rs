//! SPDY/3.1's frames as bytes (draft-mbelshe-httpbis-spdy-00, 2.2 and 2.6): eight bytes of head,
//! then a payload. Knows nothing of connections.

use super::Fault;

pub const HEAD: usize = 8;

/// Bytes of one control frame's payload; data may be as long as a length can say.
pub const LARGEST_CONTROL: usize = 64 << 10;

const VERSION: u16 = 3;
const IS_CONTROL: u8 = 0x80;
const FIN: u8 = 1;

/// Stream ids are 31 bits.
const ID: u32 = 0x7fff_ffff;

pub mod kind {
    pub const SYN_STREAM: u16 = 1;
    pub const SYN_REPLY: u16 = 2;
    pub const RST_STREAM: u16 = 3;
    pub const PING: u16 = 6;
    pub const GOAWAY: u16 = 7;
    pub const HEADERS: u16 = 8;
}

/// Why a stream is reset (2.6.3).
#[derive(Clone, Copy, Debug)]
pub enum Reset {
    RefusedStream = 3,
    Cancel = 5,
}

/// Whether a side has nothing more to say on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    No,
    Yes,
}

impl Last {
    fn flag(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Yes => FIN,
        }
    }

    fn of(flags: u8) -> Self {
        if flags & FIN == 0 { Self::No } else { Self::Yes }
    }
}

/// What a frame's first eight bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    Data { stream: u32, last: Last, length: usize },
    Control { kind: u16, flags: u8, length: usize },
}

/// A control frame. Those that change nothing here are `Other`.
#[derive(Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// The block unpacks to the stream's headers.
    SynStream {
        stream: u32,
        last: Last,
        block: &'a [u8],
    },
    SynReply {
        stream: u32,
        last: Last,
        block: &'a [u8],
    },
    RstStream {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    Headers {
        stream: u32,
        last: Last,
        block: &'a [u8],
    },
    /// SETTINGS, WINDOW_UPDATE (nobody minds windows in Kubernetes) and what is not known.
    Other,
}

pub fn head(bytes: [u8; HEAD]) -> Result<Head, Fault> {
    let [a, b, c, d, flags, length @ ..] = bytes;
    let [e, f, g] = length;
    let length = u32::from_be_bytes([0, e, f, g]) as usize;
    if a & IS_CONTROL == 0 {
        let stream = u32::from_be_bytes([a, b, c, d]);
        return Ok(Head::Data { stream, last: Last::of(flags), length });
    }
    if u16::from_be_bytes([a & !IS_CONTROL, b]) != VERSION {
        return Err(Fault("a frame of another SPDY than 3"));
    }
    if length > LARGEST_CONTROL {
        return Err(Fault("a control frame of more than 64 KiB"));
    }
    Ok(Head::Control { kind: u16::from_be_bytes([c, d]), flags, length })
}

/// Reads a control frame's payload.
pub fn control(kind: u16, flags: u8, payload: &[u8]) -> Result<Control<'_>, Fault> {
    let last = Last::of(flags);
    let cut = Fault("a control frame that is cut short");
    let number = |at: usize| {
        let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or(cut)
    };
    let block = |at: usize| payload.get(at..).ok_or(cut);
    Ok(match kind {
        kind::SYN_STREAM => Control::SynStream { stream: number(0)? & ID, last, block: block(10)? },
        kind::SYN_REPLY => Control::SynReply { stream: number(0)? & ID, last, block: block(4)? },
        kind::RST_STREAM => Control::RstStream { stream: number(0)? & ID },
        kind::PING => Control::Ping { id: number(0)? },
        kind::GOAWAY => Control::GoAway,
        kind::HEADERS => Control::Headers { stream: number(0)? & ID, last, block: block(4)? },
        _ => Control::Other,
    })
}

pub fn data_head(stream: u32, last: Last, length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = (stream & ID).to_be_bytes();
    let [_, e, f, g] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, last.flag(), e, f, g]
}

pub fn syn_stream(stream: u32, last: Last, block: &[u8]) -> Vec<u8> {
    // No stream that it belongs to, the highest priority, no slot.
    let fixed = [(stream & ID).to_be_bytes(), [0; 4]].concat();
    control_frame(kind::SYN_STREAM, last.flag(), &[&fixed, &[0, 0], block])
}

pub fn syn_reply(stream: u32, block: &[u8]) -> Vec<u8> {
    control_frame(kind::SYN_REPLY, 0, &[&(stream & ID).to_be_bytes(), block])
}

pub fn rst_stream(stream: u32, why: Reset) -> Vec<u8> {
    let status = (why as u32).to_be_bytes();
    control_frame(kind::RST_STREAM, 0, &[&(stream & ID).to_be_bytes(), &status])
}

pub fn ping(id: u32) -> Vec<u8> {
    control_frame(kind::PING, 0, &[&id.to_be_bytes()])
}

/// Status 0: nothing is wrong.
pub fn go_away(last_stream: u32) -> Vec<u8> {
    control_frame(kind::GOAWAY, 0, &[&(last_stream & ID).to_be_bytes(), &[0; 4]])
}

fn control_frame(kind: u16, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let payload = payload.concat();
    let [a, b] = VERSION.to_be_bytes();
    let [c, d] = kind.to_be_bytes();
    let [_, e, f, g] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = vec![a | IS_CONTROL, b, c, d, flags, e, f, g];
    frame.extend_from_slice(&payload);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(frame: &[u8]) -> Control<'_> {
        let (first, payload) = frame.split_first_chunk::<HEAD>().unwrap();
        let Head::Control { kind, flags, length } = head(*first).unwrap() else {
            panic!("no control frame")
        };
        assert_eq!(length, payload.len());
        control(kind, flags, payload).unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        let (stream, last, block) = (7, Last::Yes, b"block".as_slice());
        assert_eq!(
            parsed(&syn_stream(7, Last::Yes, b"block")),
            Control::SynStream { stream, last, block }
        );
        assert_eq!(
            parsed(&syn_reply(7, b"block")),
            Control::SynReply { stream, last: Last::No, block }
        );
        assert_eq!(parsed(&rst_stream(7, Reset::Cancel)), Control::RstStream { stream });
        assert_eq!(parsed(&ping(u32::MAX)), Control::Ping { id: u32::MAX });
        assert_eq!(parsed(&go_away(7)), Control::GoAway);
    }

    #[test]
    fn a_frame_of_another_version_is_refused() {
        assert!(head([0x80, 2, 0, 1, 0, 0, 0, 0]).unwrap_err().to_string().contains("SPDY"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_a_fault(
            first in any::<[u8; HEAD]>(),
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            if let Ok(Head::Control { kind, flags, .. }) = head(first) {
                let _ = control(kind, flags, &payload);
            }
        }

        #[test]
        fn data_heads_read_back(stream in 0..=ID, length in 0usize..1 << 24) {
            let expected = Head::Data { stream, last: Last::Yes, length };
            prop_assert_eq!(head(data_head(stream, Last::Yes, length)).unwrap(), expected);
        }
    }
}
