//! The frames of SPDY: a connection whose streams are used in every way that their users have,
//! and port-forward, also within WebSockets.

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::answers::Spdy;
use super::client::{Answers, Step, mutate, talk};
use super::frames::{Script, seen};
use super::remotecommand::{message, over_websocket};
use super::{Random, fuzz};
use crate::cri::streaming::forward::{Dial, over_channels, over_spdy};
use crate::cri::streaming::spdy::{Connection, Role, Stream, start};
use crate::cri::streaming::websocket::{PROTOCOLS, Tunnel, accept};
use crate::error::{Error, Result};

/// Bytes that a pod says unasked.
const MUCH: u64 = 4 << 20;

/// Streams that are kept open and not read.
const KEPT: usize = 64;

async fn drain(mut stream: Stream) {
    while let Ok(Some(_)) = stream.inflow.next().await {}
    let _ = stream.writer.finish().await;
}

async fn echo(mut stream: Stream) {
    while let Ok(Some(bytes)) = stream.inflow.next().await {
        if stream.writer.send(bytes).await.is_err() {
            return;
        }
    }
    let _ = stream.writer.finish().await;
}

async fn answer(mut stream: Stream, count: usize) {
    for _ in 0..count {
        if stream.writer.send(Bytes::from(vec![1; 1 + 30 * count])).await.is_err() {
            return;
        }
    }
}

async fn user((connection, mut opened): (Connection, mpsc::Receiver<Stream>), mut random: Random) {
    let mut kept = Vec::new();
    let mut until = if random.once_in(4) { random.below(6) } else { usize::MAX };
    while until > 0
        && let Some(stream) = opened.recv().await
    {
        until -= 1;
        match random.below(6) {
            0 => drop(tokio::spawn(drain(stream))),
            1 | 2 => drop(tokio::spawn(echo(stream))),
            3 => drop(tokio::spawn(answer(stream, random.below(100)))),
            4 => drop(stream),
            _ => kept.push(stream),
        }
        if kept.len() > KEPT {
            kept.clear();
        }
    }
    if until == 0 {
        drop((opened, kept));
        return connection.close().await;
    }
    connection.gone().await;
}

/// A pod whose ports do what their numbers say.
#[derive(Clone)]
struct Pod;

impl Dial for Pod {
    async fn dial(&self, port: u16) -> Result<TcpStream> {
        if port == 1 {
            return Err(Error::Unavailable("nothing listens there".to_owned()));
        }
        let doing = || Error::io("connecting");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(doing())?;
        let address = listener.local_addr().map_err(doing())?;
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut other, _) = other.map_err(doing())?;
        tokio::spawn(async move {
            let (mut read, mut write) = other.split();
            match port {
                // It says nothing and listens.
                80 => drop(tokio::io::copy(&mut read, &mut tokio::io::sink()).await),
                // It says much and does not listen.
                8080 => {
                    drop(tokio::io::copy(&mut tokio::io::repeat(1).take(MUCH), &mut write).await)
                }
                _ => drop(tokio::io::copy(&mut read, &mut write).await),
            }
        });
        one.map_err(doing())
    }
}

/// What is read by others.
struct Unread;

impl Answers for Unread {
    fn feed(&mut self, _: &[u8]) {}

    fn end(&mut self) {}
}

fn steps(random: &mut Random) -> Vec<Step> {
    let mut script = Script::new();
    if random.once_in(3) {
        seen().into_iter().for_each(|frame| script.push(frame));
    }
    for _ in 0..random.below(40) {
        script.anything(random);
    }
    if random.once_in(2) {
        mutate(random, &mut script.steps);
    }
    script.steps
}

async fn session(mut random: Random) {
    let (near, far) = tokio::io::duplex(1 << (4 + random.below(13)));
    let mut answers = Spdy::new();
    let (serving, steps, answers): (_, _, &mut dyn Answers) = match random.below(6) {
        0..3 => {
            let using = user(start(far, Role::Server), random.another());
            (tokio::spawn(using), steps(&mut random), &mut answers)
        }
        3 => {
            let forwarding = over_spdy(start(far, Role::Server), Pod);
            (tokio::spawn(forwarding), steps(&mut random), &mut answers)
        }
        4 => {
            let forwarding = async {
                let tunnel = Tunnel::new(accept(far).await);
                over_spdy(start(tunnel, Role::Server), Pod).await;
            };
            let steps = steps(&mut random).into_iter().map(|step| match step {
                Step::Bytes(bytes) => Step::Bytes(message(&mut random, 0x82, &bytes)),
                Step::Again(bytes, times) => Step::Again(message(&mut random, 0x82, &bytes), times),
            });
            let steps = steps.collect();
            (tokio::spawn(forwarding), steps, &mut Unread)
        }
        _ => {
            let protocol = *random.pick(&PROTOCOLS);
            let ports = vec![*random.pick(&[0, 1, 80, 8080]), 7];
            let forwarding =
                async move { over_channels(accept(far).await, protocol, (Pod, ports)).await };
            (tokio::spawn(forwarding), over_websocket(&mut random, protocol.form), &mut Unread)
        }
    };
    talk(&mut random, near, (steps, answers)).await;
    // A panic of it is noticed anyway.
    let _ = serving.await;
}

#[test]
fn whatever_frames_a_client_sends_its_connection_ends_and_takes_little() {
    fuzz("spdy", session);
}
