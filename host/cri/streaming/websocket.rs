//! Kubernetes' WebSockets: messages whose first byte names a channel (v4 and v5 of
//! channel.k8s.io, plain and in base64), and SPDY inside binary messages. Knows nothing of what
//! the channels are for.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::flow::{Broken, Inflow, Source, Waiting};

/// Bytes of one message that a client may send; kubectl sends 32 KiB.
const LARGEST: usize = 4 << 20;

/// Messages that wait to be written.
const UNWRITTEN: usize = 16;

/// How long what a client has sent may find no taker before the client is asked whether it is
/// there: its going would not be read.
const PROBE: Duration = Duration::from_secs(1);

/// How long a client may take to close after everything has been said.
const FAREWELL: Duration = Duration::from_secs(10);

/// The channel of v5 that says which other one has ended.
const CLOSE: u8 = 255;

/// How messages name their channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Binary,
    /// A digit, and the rest in base64.
    Base64,
}

/// A subprotocol for channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: &'static str,
    pub form: Form,
    /// Whether one channel can end alone (v5).
    pub halves: bool,
    /// Whether the error channel carries a status in JSON (v4 and later).
    pub status: bool,
}

/// In the order in which they are taken.
pub const PROTOCOLS: [Protocol; 6] = [
    Protocol { name: "v5.channel.k8s.io", form: Form::Binary, halves: true, status: true },
    Protocol { name: "v4.channel.k8s.io", form: Form::Binary, halves: false, status: true },
    Protocol { name: "v4.base64.channel.k8s.io", form: Form::Base64, halves: false, status: true },
    Protocol { name: "channel.k8s.io", form: Form::Binary, halves: false, status: false },
    Protocol { name: "base64.channel.k8s.io", form: Form::Base64, halves: false, status: false },
    Protocol { name: "", form: Form::Binary, halves: false, status: false },
];

/// Begins to speak WebSocket on a connection that has been upgraded.
pub async fn accept<I: AsyncRead + AsyncWrite + Unpin>(io: I) -> WebSocketStream<I> {
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await
}

pub fn config() -> WebSocketConfig {
    let limits = WebSocketConfig::default();
    limits.max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST))
}

/// A connection of channels.
pub struct Connection {
    protocol: Protocol,
    out: mpsc::Sender<Message>,
    gone: watch::Receiver<bool>,
}

/// The outgoing half of a channel.
pub struct Writer {
    channel: u8,
    protocol: Protocol,
    out: mpsc::Sender<Message>,
}

/// Begins to carry channels. `incoming` are those that the client may write to.
pub fn channels<I>(
    stream: WebSocketStream<I>,
    protocol: Protocol,
    incoming: &[u8],
) -> (Connection, HashMap<u8, Inflow>)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let waiting = Waiting::new();
    let (mut sources, mut inflows) = (HashMap::new(), HashMap::new());
    for &channel in incoming {
        let (source, inflow) = waiting.inflow();
        sources.insert(channel, source);
        inflows.insert(channel, inflow);
    }
    let (sink, messages) = stream.split();
    let (out, to_write) = mpsc::channel(UNWRITTEN);
    let (tell_gone, gone) = watch::channel(false);
    let (cut, is_cut) = oneshot::channel();
    let reader = Reader { protocol, sources, out: out.downgrade() };
    tokio::spawn(async move {
        tokio::select! {
            read = reader.run(messages) => if let Err(error) = read {
                tracing::debug!(%error, "a client's connection ends");
            },
            Ok(()) = is_cut => {}
        }
        tell_gone.send_replace(true);
    });
    tokio::spawn(async move {
        if let Err(error) = write_all(sink, to_write).await {
            tracing::debug!(%error, "a client takes no more");
            // The reader may have gone already.
            let _ = cut.send(());
        }
    });
    (Connection { protocol, out, gone }, inflows)
}

impl Connection {
    pub fn writer(&self, channel: u8) -> Writer {
        Writer { channel, protocol: self.protocol, out: self.out.clone() }
    }

    /// Resolves once the client has gone.
    pub async fn gone(&self) {
        let mut gone = self.gone.clone();
        // A reader that is no more has gone as well.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Says goodbye and waits until the client has closed the connection.
    pub async fn close(self) {
        // Without a code Kubernetes' clients take it for a failure.
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = self.out.send(Message::Close(Some(normal))).await;
        let _ = timeout(FAREWELL, self.gone()).await;
    }
}

impl Writer {
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Broken> {
        let message = message(self.protocol.form, self.channel, &bytes);
        self.out.send(message).await.map_err(|_| Broken)
    }

    pub async fn finish(self) -> Result<(), Broken> {
        if !self.protocol.halves {
            return Ok(());
        }
        let message = message(self.protocol.form, CLOSE, &[self.channel]);
        self.out.send(message).await.map_err(|_| Broken)
    }
}

fn message(form: Form, channel: u8, bytes: &[u8]) -> Message {
    match form {
        Form::Binary => {
            let mut whole = BytesMut::with_capacity(bytes.len() + 1);
            whole.extend_from_slice(&[channel]);
            whole.extend_from_slice(bytes);
            Message::Binary(whole.freeze())
        }
        Form::Base64 => Message::text(format!("{channel}{}", STANDARD.encode(bytes))),
    }
}

/// A message's channel and bytes; `None` for what is no message of a channel.
fn parse(form: Form, message: Message) -> Option<(u8, Bytes)> {
    let mut bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => text.into(),
        _ => return None,
    };
    let first = *bytes.first()?;
    bytes.advance(1);
    match form {
        Form::Binary => Some((first, bytes)),
        Form::Base64 => Some((first.checked_sub(b'0')?, STANDARD.decode(bytes).ok()?.into())),
    }
}

struct Reader {
    protocol: Protocol,
    sources: HashMap<u8, Source>,
    out: mpsc::WeakSender<Message>,
}

impl Reader {
    async fn run<I: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        mut messages: SplitStream<WebSocketStream<I>>,
    ) -> Result<(), Error> {
        while let Some(message) = messages.next().await {
            let Some((channel, bytes)) = parse(self.protocol.form, message?) else { continue };
            if channel == CLOSE && self.protocol.halves {
                if let Some(source) = bytes.first().and_then(|ended| self.sources.remove(ended)) {
                    source.end();
                }
            } else if let Some(source) = self.sources.get(&channel) {
                let mut putting = std::pin::pin!(source.put(bytes));
                while timeout(PROBE, putting.as_mut()).await.is_err() {
                    if let Some(out) = self.out.upgrade() {
                        // Where much waits to be written, that tells.
                        let _ = out.try_send(Message::Ping(Bytes::new()));
                    }
                }
            }
        }
        Ok(())
    }
}

async fn write_all<I: AsyncRead + AsyncWrite + Unpin>(
    mut sink: SplitSink<WebSocketStream<I>, Message>,
    mut to_write: mpsc::Receiver<Message>,
) -> Result<(), Error> {
    while let Some(message) = to_write.recv().await {
        let is_last = matches!(message, Message::Close(_));
        sink.send(message).await?;
        if is_last {
            return Ok(());
        }
    }
    sink.close().await
}

/// Binary messages as one stream of bytes, whatever their borders.
pub struct Tunnel<I> {
    messages: WebSocketStream<I>,
    read: Bytes,
}

impl<I> Tunnel<I> {
    pub fn new(messages: WebSocketStream<I>) -> Self {
        Self { messages, read: Bytes::new() }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read.is_empty() {
            match ready!(Pin::new(&mut self.messages).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.read = bytes,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.messages).poll_ready(cx)).map_err(io::Error::other)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.messages).start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.messages).poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.messages).poll_close(cx).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_in_both_forms() {
        for form in [Form::Binary, Form::Base64] {
            let read = parse(form, message(form, 2, b"\0text"));
            assert_eq!(read, Some((2, Bytes::from_static(b"\0text"))));
        }
    }

    #[test]
    fn what_is_no_channels_message_is_passed_over() {
        assert_eq!(parse(Form::Binary, Message::Binary(Bytes::new())), None);
        assert_eq!(parse(Form::Base64, Message::text("!")), None);
        assert_eq!(parse(Form::Base64, Message::text("1%%")), None);
    }
}
