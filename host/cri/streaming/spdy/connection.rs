//! One connection: a task that reads and a task that writes, and the streams between them.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::Fault;
use super::frame::{self, Control, HEAD, Head, Last, Reset};
use super::headers::{Headers, Unpacker};
use super::writing::{Out, UNWRITTEN, write_all};
use crate::cri::streaming::flow::{Broken, Inflow, Source, Waiting};

/// Bytes read at a time.
const READ: usize = 128 << 10;

/// Streams that a peer may have open at once.
const MOST_STREAMS: usize = 2048;

/// How long what a peer has sent may find no taker before the peer is asked whether it is there:
/// its going would not be read.
const PROBE: Duration = Duration::from_secs(1);

/// How long a peer may take to close a connection on which everything has been said.
const FAREWELL: Duration = Duration::from_secs(10);

/// Which side of a connection this is: who asked for it opens streams with odd numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// The connection as its user holds it. Dropping it ends both tasks once the streams' writers are
/// dropped too.
pub struct Connection {
    out: mpsc::Sender<Out>,
    /// The next stream's number; held until its opening is on its way, for they go in order.
    next: tokio::sync::Mutex<u32>,
    opened: mpsc::Sender<(u32, Source, Weak<AtomicBool>)>,
    waiting: Waiting,
    gone: watch::Receiver<bool>,
}

/// A stream with both of its halves.
pub struct Stream {
    pub headers: Headers,
    pub inflow: Inflow,
    pub writer: Writer,
}

/// The outgoing half of a stream. Dropped before [`Writer::finish`], the stream is reset.
pub struct Writer {
    stream: u32,
    out: mpsc::Sender<Out>,
    reset: Arc<AtomicBool>,
    is_finished: bool,
}

/// Begins to speak SPDY on `io`. The streams that the peer opens come out of the receiver, which
/// ends with the connection.
pub fn start(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    role: Role,
) -> (Connection, mpsc::Receiver<Stream>) {
    let (read, write) = tokio::io::split(io);
    let (out, to_write) = mpsc::channel(UNWRITTEN);
    let (accepted, streams) = mpsc::channel(64);
    let (opened, own) = mpsc::channel(64);
    let (tell_gone, gone) = watch::channel(false);
    let waiting = Waiting::new();
    let reader = Reader {
        role,
        out: out.downgrade(),
        accepted,
        own,
        waiting: waiting.clone(),
        unpacker: Unpacker::new(),
        streams: HashMap::new(),
        newest: 0,
    };
    let (cut, is_cut) = oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            read = reader.run(read) => if let Err(error) = read {
                tracing::debug!(%error, "a client's connection ends");
            },
            Ok(()) = is_cut => {}
        }
        tell_gone.send_replace(true);
    });
    tokio::spawn(async move {
        if let Err(error) = write_all(write, to_write).await {
            tracing::debug!(%error, "a client takes no more");
            // The reader may have gone already.
            let _ = cut.send(());
        }
    });
    let next = tokio::sync::Mutex::new(if role == Role::Client { 1 } else { 2 });
    (Connection { out, next, opened, waiting, gone }, streams)
}

impl Connection {
    /// Opens a stream with these headers; the peer's reply is not waited for.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Broken> {
        let mut next = self.next.lock().await;
        let stream = *next;
        *next += 2;
        let (source, inflow) = self.waiting.inflow();
        let writer = Writer::new(stream, self.out.clone());
        let entry = (stream, source, Arc::downgrade(&writer.reset));
        self.opened.send(entry).await.map_err(|_| Broken)?;
        self.out.send(Out::SynStream(stream, headers.clone())).await.map_err(|_| Broken)?;
        Ok(Stream { headers, inflow, writer })
    }

    /// Resolves once the peer has gone.
    pub async fn gone(&self) {
        let mut gone = self.gone.clone();
        // A reader that is no more has gone as well.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Says that nothing more comes, and waits until the peer has closed the connection: closed
    /// here first, what it has not read yet would be lost.
    pub async fn close(self) {
        let _ = self.out.send(Out::Frame(frame::go_away(0))).await;
        let _ = self.out.send(Out::Close).await;
        let _ = timeout(FAREWELL, self.gone()).await;
    }
}

impl Writer {
    fn new(stream: u32, out: mpsc::Sender<Out>) -> Self {
        Self { stream, out, reset: Arc::default(), is_finished: false }
    }

    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Broken> {
        if self.reset.load(Ordering::Relaxed) {
            return Err(Broken);
        }
        self.out.send(Out::Data(self.stream, Last::No, bytes)).await.map_err(|_| Broken)
    }

    pub async fn finish(mut self) -> Result<(), Broken> {
        self.is_finished = true;
        if self.reset.load(Ordering::Relaxed) {
            return Err(Broken);
        }
        self.out.send(Out::Data(self.stream, Last::Yes, Bytes::new())).await.map_err(|_| Broken)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_finished || self.reset.load(Ordering::Relaxed) {
            return;
        }
        let reset = Out::Frame(frame::rst_stream(self.stream, Reset::Cancel));
        if let Err(mpsc::error::TrySendError::Full(reset)) = self.out.try_send(reset)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let out = self.out.clone();
            runtime.spawn(async move { out.send(reset).await });
        }
    }
}

struct Entry {
    /// Until the peer's half has ended.
    source: Option<Source>,
    reset: Weak<AtomicBool>,
}

struct Reader {
    role: Role,
    out: mpsc::WeakSender<Out>,
    accepted: mpsc::Sender<Stream>,
    own: mpsc::Receiver<(u32, Source, Weak<AtomicBool>)>,
    waiting: Waiting,
    unpacker: Unpacker,
    streams: HashMap<u32, Entry>,
    /// The highest number that the peer has used.
    newest: u32,
}

impl Reader {
    async fn run<I: AsyncRead>(mut self, mut read: ReadHalf<I>) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(READ);
        // Of a data frame whose end has not come yet.
        let mut rest: Option<(u32, Last, usize)> = None;
        loop {
            while self.step(&mut buffer, &mut rest).await.map_err(io::Error::other)? {}
            buffer.reserve(READ);
            if read.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Takes what is there of the next frame; false when more has to come first.
    async fn step(
        &mut self,
        buffer: &mut BytesMut,
        rest: &mut Option<(u32, Last, usize)>,
    ) -> Result<bool, Fault> {
        if let Some((stream, last, missing)) = *rest {
            if buffer.is_empty() && missing > 0 {
                return Ok(false);
            }
            let piece = buffer.split_to(missing.min(buffer.len())).freeze();
            let missing = missing - piece.len();
            *rest = (missing > 0).then_some((stream, last, missing));
            self.data(stream, piece, if missing > 0 { Last::No } else { last }).await;
            return Ok(true);
        }
        let Some(first) = buffer.first_chunk::<HEAD>() else { return Ok(false) };
        match frame::head(*first)? {
            Head::Data { stream, last, length } => {
                buffer.advance(HEAD);
                *rest = Some((stream, last, length));
            }
            Head::Control { kind, flags, length } => {
                if buffer.len() < HEAD + length {
                    return Ok(false);
                }
                buffer.advance(HEAD);
                let payload = buffer.split_to(length);
                self.control(frame::control(kind, flags, &payload)?).await?;
            }
        }
        Ok(true)
    }

    async fn data(&mut self, stream: u32, piece: Bytes, last: Last) {
        self.note_own();
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        if let Some(source) = &entry.source {
            let mut putting = std::pin::pin!(source.put(piece));
            while timeout(PROBE, putting.as_mut()).await.is_err() {
                if let Some(out) = self.out.upgrade() {
                    // The numbers of its own pings; where much waits to be written, that tells.
                    let id = if self.role == Role::Client { 1 } else { 2 };
                    let _ = out.try_send(Out::Frame(frame::ping(id)));
                }
            }
        }
        if last == Last::Yes
            && let Some(source) = entry.source.take()
        {
            source.end();
        }
    }

    async fn control(&mut self, control: Control<'_>) -> Result<(), Fault> {
        self.note_own();
        match control {
            Control::SynStream { stream, last, block } => {
                let headers = self.unpacker.unpack(block)?;
                self.accept(stream, last, headers).await?;
            }
            Control::SynReply { stream, last, block }
            | Control::Headers { stream, last, block } => {
                // Unpacked for the sake of the blocks after it.
                self.unpacker.unpack(block)?;
                self.data(stream, Bytes::new(), last).await;
            }
            Control::RstStream { stream } => {
                let writer = self.streams.remove(&stream).and_then(|entry| entry.reset.upgrade());
                writer.inspect(|reset| reset.store(true, Ordering::Relaxed));
            }
            Control::Ping { id } => {
                let is_own = (id % 2 == 1) == (self.role == Role::Client);
                if !is_own && let Some(out) = self.out.upgrade() {
                    // A peer that does not take what it asked for needs no answer.
                    let _ = out.try_send(Out::Frame(frame::ping(id)));
                }
            }
            Control::GoAway | Control::Other => {}
        }
        Ok(())
    }

    async fn accept(&mut self, stream: u32, last: Last, headers: Headers) -> Result<(), Fault> {
        let is_peers = (stream % 2 == 1) == (self.role == Role::Server);
        if !is_peers || stream <= self.newest {
            return Err(Fault("a stream number that is not the next one"));
        }
        self.newest = stream;
        let Some(out) = self.out.upgrade() else { return Ok(()) };
        if self.streams.len() >= MOST_STREAMS {
            self.streams.retain(|_, e| e.source.is_some() || e.reset.strong_count() > 0);
        }
        if self.streams.len() >= MOST_STREAMS {
            let refusal = frame::rst_stream(stream, Reset::RefusedStream);
            let _ = out.send(Out::Frame(refusal)).await;
            return Ok(());
        }
        let (source, inflow) = self.waiting.inflow();
        let writer = Writer::new(stream, out.clone());
        let reset = Arc::downgrade(&writer.reset);
        let source = match last {
            Last::No => Some(source),
            Last::Yes => {
                source.end();
                None
            }
        };
        self.streams.insert(stream, Entry { source, reset });
        let _ = out.send(Out::SynReply(stream)).await;
        // Nobody takes streams any more: its writer resets it.
        let _ = self.accepted.send(Stream { headers, inflow, writer }).await;
        Ok(())
    }

    /// Enters the streams that this side has opened since.
    fn note_own(&mut self) {
        while let Ok((stream, source, reset)) = self.own.try_recv() {
            self.streams.insert(stream, Entry { source: Some(source), reset });
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
