//! remotecommand: a program's streams between a client and a session of the runtime, whatever
//! carries them. Knows nothing of tokens or HTTP.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;

use super::flow::{Inflow, Outflow};
use super::{spdy, websocket};
use crate::error::{Error, Result};
use crate::model::container::Exit;
use crate::runtime::{Resizer, Session, Wanted};

/// How long a client may take to open its streams (the kubelet's and containerd's number).
const STREAMS: Duration = Duration::from_secs(30);

/// Bytes of a program's output in one piece.
const PIECE: usize = 64 << 10;

/// Bytes of terminal sizes that have not been understood yet.
const SIZES: usize = 4096;

/// The channels of the WebSocket protocols.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// SPDY's protocols in the order in which they are taken; v5 is for WebSockets alone.
pub const SPDY_PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// How the error stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A metav1.Status (v4 and later).
    Status,
    /// One sentence, of failures alone.
    Text,
}

/// A client's streams.
pub struct Channels {
    stdin: Option<Inflow>,
    sizes: Option<Inflow>,
    stdout: Option<Outflow>,
    stderr: Option<Outflow>,
    error: Outflow,
    /// The halves that the client reads and nothing is said on. They end with the program:
    /// kubectl and crictl take the end of standard input's for the end of the program, and send
    /// no more.
    silent: Vec<Outflow>,
    form: Form,
    client: Client,
}

enum Client {
    Spdy(spdy::Connection),
    WebSocket(websocket::Connection),
}

impl Client {
    async fn gone(&self) {
        match self {
            Self::Spdy(connection) => connection.gone().await,
            Self::WebSocket(connection) => connection.gone().await,
        }
    }

    async fn close(self) {
        match self {
            Self::Spdy(connection) => connection.close().await,
            Self::WebSocket(connection) => connection.close().await,
        }
    }
}

impl Channels {
    /// Waits until the client has opened every stream that was asked for.
    pub async fn of_spdy(
        (client, mut opened): (spdy::Connection, mpsc::Receiver<spdy::Stream>),
        protocol: &str,
        wanted: Wanted,
    ) -> Result<Self> {
        let is_old = matches!(protocol, "v2.channel.k8s.io" | "channel.k8s.io");
        let form = if protocol == "v4.channel.k8s.io" { Form::Status } else { Form::Text };
        let (mut stdin, mut sizes, mut stdout, mut stderr, mut error) =
            (None, None, None, None, None);
        let mut silent = Vec::new();
        let all = async {
            loop {
                let is_whole = error.is_some()
                    && stdin.is_some() == wanted.stdin
                    && stdout.is_some() == wanted.stdout
                    && stderr.is_some() == (wanted.stderr && !wanted.terminal)
                    && sizes.is_some() == (wanted.terminal && !is_old);
                if is_whole {
                    return Some(());
                }
                let stream = opened.recv().await?;
                match stream.headers.get("streamtype") {
                    Some("stdin") if wanted.stdin => {
                        stdin = Some(stream.inflow);
                        silent.push(Outflow::Spdy(stream.writer));
                    }
                    Some("resize") if wanted.terminal && !is_old => {
                        sizes = Some(stream.inflow);
                        silent.push(Outflow::Spdy(stream.writer));
                    }
                    Some("stdout") if wanted.stdout => stdout = Some(stream.writer),
                    Some("stderr") if wanted.stderr => stderr = Some(stream.writer),
                    Some("error") => error = Some(stream.writer),
                    // Reset by being dropped.
                    _ => {}
                }
            }
        };
        let whole = timeout(STREAMS, all).await;
        let is_whole = matches!(whole, Ok(Some(())));
        let error = error.filter(|_| is_whole).ok_or_else(|| {
            Error::DeadlineExceeded("the client did not open its streams".to_owned())
        })?;
        Ok(Self {
            stdin,
            sizes,
            stdout: stdout.map(Outflow::Spdy),
            stderr: stderr.map(Outflow::Spdy),
            error: Outflow::Spdy(error),
            silent,
            form,
            client: Client::Spdy(client),
        })
    }

    pub async fn of_websocket<I>(
        stream: WebSocketStream<I>,
        protocol: websocket::Protocol,
        wanted: Wanted,
    ) -> Self
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (client, mut incoming) = websocket::channels(stream, protocol, &[STDIN, RESIZE]);
        let writer = |channel| Outflow::WebSocket(client.writer(channel));
        let mut channels = Self {
            stdin: incoming.remove(&STDIN).filter(|_| wanted.stdin),
            sizes: incoming.remove(&RESIZE).filter(|_| wanted.terminal),
            stdout: wanted.stdout.then(|| writer(STDOUT)),
            stderr: (wanted.stderr && !wanted.terminal).then(|| writer(STDERR)),
            error: writer(ERROR),
            silent: Vec::new(),
            form: if protocol.status { Form::Status } else { Form::Text },
            client: Client::WebSocket(client),
        };
        // Tells the client that somebody is there, as the kubelet's own servers do.
        let first = channels.stdout.as_mut().or(channels.stderr.as_mut());
        let _ = first.unwrap_or(&mut channels.error).send(Bytes::new()).await;
        channels
    }
}

/// What a client is told when the program has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An exec's exit code.
    Exit,
    /// Of an attachment, nothing: the pod tells how the container ended.
    Silent,
}

/// Carries a session that `opening` gives, until the program or the client ends.
pub async fn serve(
    mut channels: Channels,
    ending: Ending,
    opening: impl Future<Output = Result<Session>>,
) {
    let outcome = tokio::select! {
        () = channels.client.gone() => return,
        session = opening => match session {
            Ok(session) => carry(&mut channels, session).await,
            Err(error) => Err(error),
        },
    };
    let Some(outcome) = outcome.transpose() else { return };
    let told = match (outcome, ending) {
        (Ok(exit), Ending::Exit) => told(channels.form, &exit),
        (Ok(_), Ending::Silent) => told_success(channels.form),
        (Err(error), _) => told_failure(channels.form, &error.to_string()),
    };
    let mut error = channels.error;
    if !told.is_empty() {
        let _ = error.send(told.into()).await;
    }
    let outputs = [channels.stdout, channels.stderr].into_iter().flatten();
    for outflow in outputs.chain(channels.silent) {
        outflow.finish().await;
    }
    error.finish().await;
    channels.client.close().await;
}

/// The exit; `None` when the client went before it.
async fn carry(channels: &mut Channels, session: Session) -> Result<Option<Exit>> {
    let Session { stdin, stdout, stderr, mut control } = session;
    let typing = channels.stdin.take().zip(stdin).map(|(from, to)| tokio::spawn(type_in(from, to)));
    let sizing = channels.sizes.take().map(|from| tokio::spawn(size(from, control.terminal())));
    let ended = async {
        let out = show(stdout, channels.stdout.as_mut());
        let err = show(stderr, channels.stderr.as_mut());
        futures::join!(out, err);
        control.ended().await.map(Some)
    };
    let outcome = tokio::select! {
        outcome = ended => outcome,
        () = channels.client.gone() => Ok(None),
    };
    for task in [typing, sizing].into_iter().flatten() {
        task.abort();
    }
    outcome
}

/// The client's input, until either side ends it.
async fn type_in(mut from: Inflow, mut to: pipe::Sender) {
    while let Ok(Some(bytes)) = from.next().await {
        if to.write_all(&bytes).await.is_err() {
            // The program reads no more; what the client still sends is dropped.
            return;
        }
    }
}

/// A program's output, until it ends or the client takes no more of it.
async fn show(from: Option<pipe::Receiver>, to: Option<&mut Outflow>) {
    let (Some(mut from), Some(to)) = (from, to) else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        match from.read_buf(&mut buffer).await {
            Ok(0) => return,
            Ok(_) if to.send(buffer.split().freeze()).await.is_ok() => {}
            Ok(_) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::debug!(%error, "a session's pipe cannot be read");
                return;
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Sizes as the client sends them: JSON objects, one after the other.
async fn size(mut from: Inflow, terminal: Resizer) {
    let mut unread = Vec::new();
    while let Ok(Some(bytes)) = from.next().await {
        unread.extend_from_slice(&bytes);
        for Size { width, height } in sizes(&mut unread) {
            terminal.resize(width, height);
        }
        if unread.len() > SIZES {
            return;
        }
    }
}

/// Takes the whole sizes off the front.
fn sizes(unread: &mut Vec<u8>) -> Vec<Size> {
    let mut stream = serde_json::Deserializer::from_slice(unread).into_iter::<Size>();
    let mut sizes = Vec::new();
    let mut read = 0;
    while let Some(next) = stream.next() {
        match next {
            Ok(size) => sizes.push(size),
            Err(error) if error.is_eof() => break,
            // What it is not can be anything: nothing after it is understood.
            Err(_) => {
                read = unread.len();
                break;
            }
        }
        read = stream.byte_offset();
    }
    unread.drain(..read);
    sizes
}

fn told(form: Form, exit: &Exit) -> String {
    if exit.code == 0 {
        return told_success(form);
    }
    let message = format!("command terminated with non-zero exit code: exit code {}", exit.code);
    match form {
        Form::Text => message,
        Form::Status => json!({
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": exit.code.to_string()}]},
        })
        .to_string(),
    }
}

fn told_success(form: Form) -> String {
    match form {
        Form::Text => String::new(),
        Form::Status => json!({"metadata": {}, "status": "Success"}).to_string(),
    }
}

fn told_failure(form: Form, message: &str) -> String {
    match form {
        Form::Text => message.to_owned(),
        Form::Status => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: {message}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": message}]},
            "code": 500,
        })
        .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::Reason;

    #[test]
    fn sizes_are_read_however_they_are_cut() {
        let mut unread = b"{\"Width\":80,\"Height\":24}{\"Width\":1".to_vec();
        assert_eq!(sizes(&mut unread), [Size { width: 80, height: 24 }]);
        unread.extend_from_slice(b"32,\"Height\":43}\n");
        assert_eq!(sizes(&mut unread), [Size { width: 132, height: 43 }]);
        unread.extend_from_slice(b"{\"Width\":-1}");
        assert_eq!(sizes(&mut unread), []);
        assert!(unread.is_empty());
    }

    #[test]
    fn an_exit_code_is_told_as_clients_look_for_it() {
        let exit =
            |code| Exit { code, reason: Reason::Error, message: String::new(), finished_at: 0 };
        let status: serde_json::Value =
            serde_json::from_str(&told(Form::Status, &exit(3))).unwrap();
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        assert!(told(Form::Status, &exit(0)).contains("Success"));
        assert_eq!(told(Form::Text, &exit(0)), "");
    }
}
