//! Messages with descriptors over a unix stream socket: what a session between the daemon and a
//! shim is made of. Each message is a protobuf one with its length in front (u32, little
//! endian); descriptors travel with its first byte. Knows nothing of what is said.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Descriptors that one message may carry.
pub const MOST_DESCRIPTORS: usize = 4;

/// Bytes of one message: an exec's argv, and room.
const MOST_BYTES: usize = 4 << 20;

/// Bytes read at a time.
const PIECE: usize = 64 << 10;

/// The sending half of a connection.
#[derive(Debug)]
pub struct Outlet(Arc<UnixStream>);

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Inlet {
    stream: Arc<UnixStream>,
    bytes: Vec<u8>,
    /// Those of the message that is on its way.
    descriptors: Vec<OwnedFd>,
}

/// Both halves of `stream`.
pub fn halves(stream: UnixStream) -> (Outlet, Inlet) {
    let stream = Arc::new(stream);
    (Outlet(stream.clone()), Inlet { stream, bytes: Vec::new(), descriptors: Vec::new() })
}

impl Outlet {
    /// Sends the whole message; not to be given up in the middle.
    pub async fn send(
        &mut self,
        message: &impl Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let length = message.encoded_len();
        if length > MOST_BYTES || descriptors.len() > MOST_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too large"));
        }
        let mut bytes = Vec::with_capacity(length + 4);
        bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        message.encode(&mut bytes).map_err(io::Error::other)?;
        let mut rest = bytes.as_slice();
        let mut unsent = descriptors;
        while !rest.is_empty() {
            let sent = self
                .0
                .async_io(Interest::WRITABLE, || send_some(self.0.as_fd(), rest, unsent))
                .await?;
            unsent = &[];
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }
}

fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

impl Inlet {
    /// The next message and its descriptors; `None` once the other side has gone.
    pub async fn receive<M: Message + Default>(&mut self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        loop {
            if let Some(message) = self.take()? {
                let message = M::decode(message.as_slice()).map_err(io::Error::other)?;
                return Ok(Some((message, std::mem::take(&mut self.descriptors))));
            }
            let socket = self.stream.clone();
            let read = socket
                .async_io(Interest::READABLE, || {
                    receive_some(socket.as_fd(), &mut self.bytes, &mut self.descriptors)
                })
                .await?;
            if read == 0 {
                return Ok(None);
            }
            if self.descriptors.len() > MOST_DESCRIPTORS {
                return Err(io::Error::other("more descriptors came than a message has"));
            }
        }
    }

    /// The first message's bytes, once all of them are there.
    fn take(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(head) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MOST_BYTES {
            return Err(io::Error::other(format!("a message of {length} bytes is too large")));
        }
        let whole = length + 4;
        if self.bytes.len() < whole {
            return Ok(None);
        }
        Ok(Some(self.bytes.drain(..whole).skip(4).collect()))
    }
}

fn receive_some(
    socket: BorrowedFd<'_>,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut piece = vec![0; PIECE];
    let mut buffers = [IoSliceMut::new(&mut piece)];
    let received = recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    bytes.extend(piece.iter().take(received.bytes));
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::proto::shim as wire;

    fn argv(word: String) -> wire::ExecSession {
        wire::ExecSession { argv: vec![word], ..Default::default() }
    }

    #[tokio::test]
    async fn a_message_arrives_whole_with_its_descriptors() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut outlet, own) = halves(one);
        let (_outlet, mut inlet) = halves(other);
        drop(own);
        let (mut reader, writer) = std::io::pipe().unwrap();
        let long = argv("x".repeat(1 << 20));
        let sending = tokio::spawn(async move {
            outlet.send(&long, &[writer.as_fd()]).await.unwrap();
            outlet.send(&argv("second".to_owned()), &[]).await.unwrap();
        });
        let (first, mut descriptors) = inlet.receive::<wire::ExecSession>().await.unwrap().unwrap();
        assert_eq!(first.argv[0].len(), 1 << 20);
        let mut writer = std::fs::File::from(descriptors.pop().unwrap());
        assert!(descriptors.is_empty());
        let (second, descriptors) = inlet.receive::<wire::ExecSession>().await.unwrap().unwrap();
        assert_eq!((second.argv[0].as_str(), descriptors.len()), ("second", 0));
        sending.await.unwrap();
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert!(inlet.receive::<wire::ExecSession>().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_length_that_no_message_has_is_refused() {
        let (one, other) = UnixStream::pair().unwrap();
        let (_outlet, mut inlet) = halves(other);
        one.try_write(&u32::MAX.to_le_bytes()).unwrap();
        let error = inlet.receive::<wire::ExecSession>().await.unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
    }
}
