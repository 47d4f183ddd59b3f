//! The task that writes a connection's frames: what waits goes out as one write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;

use super::frame::{self, Last};
use super::headers::{Headers, Packer};

/// Frames that wait to be written, each with a piece of one stream.
pub const UNWRITTEN: usize = 16;

/// What the writing task is to send.
pub enum Out {
    SynStream(u32, Headers),
    SynReply(u32),
    Data(u32, Last, Bytes),
    Frame(Vec<u8>),
    /// Nothing follows.
    Close,
}

/// What is to be written next, as one write.
#[derive(Default)]
struct Batch(VecDeque<Bytes>);

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |bytes| bytes)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.0);
        pairs.map(|(slice, bytes)| *slice = IoSlice::new(bytes)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.0.front_mut() {
            if first.len() > count {
                return first.advance(count);
            }
            count -= first.len();
            self.0.pop_front();
        }
    }
}

/// Ends once nothing more comes: every sender has gone, or [`Out::Close`] came.
pub async fn write_all<I: AsyncWrite>(
    mut write: WriteHalf<I>,
    mut to_write: mpsc::Receiver<Out>,
) -> io::Result<()> {
    let mut packer = Packer::new();
    let (mut outs, mut batch) = (Vec::new(), Batch::default());
    while to_write.recv_many(&mut outs, UNWRITTEN).await > 0 {
        let mut is_last = false;
        for out in outs.drain(..) {
            let frame = match out {
                Out::SynStream(stream, headers) => {
                    frame::syn_stream(stream, Last::No, &packer.pack(&headers))
                }
                Out::SynReply(stream) => {
                    frame::syn_reply(stream, &packer.pack(&Headers::default()))
                }
                Out::Data(stream, last, bytes) => {
                    let head = frame::data_head(stream, last, bytes.len());
                    batch.0.push_back(Bytes::copy_from_slice(&head));
                    if !bytes.is_empty() {
                        batch.0.push_back(bytes);
                    }
                    continue;
                }
                Out::Frame(frame) => frame,
                Out::Close => {
                    is_last = true;
                    break;
                }
            };
            batch.0.push_back(frame.into());
        }
        write.write_all_buf(&mut batch).await?;
        write.flush().await?;
        if is_last {
            break;
        }
    }
    write.shutdown().await
}
