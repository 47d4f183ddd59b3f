//! The streams of remotecommand, over SPDY and over WebSockets, between whatever a client sends
//! and whatever a program does.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::answers::{Channels as Messages, Spdy};
use super::client::{Step, mutate, talk};
use super::frames::{Script, seen};
use super::{Random, fuzz};
use crate::cri::streaming::remote::{Channels, Ending, SPDY_PROTOCOLS, serve};
use crate::cri::streaming::spdy::frame::Last;
use crate::cri::streaming::spdy::{Role, start};
use crate::cri::streaming::websocket::{Form, PROTOCOLS, Protocol, accept};
use crate::runtime::Wanted;
use crate::runtime::streams_tests::{Program, pair};

/// A program that reads, writes and ends as it likes, and ends with its session.
async fn run(program: impl Future<Output = Program>, mut random: Random) {
    let mut program = program.await;
    match random.below(8) {
        0 => return,
        1 => return program.is_refused().await,
        2 => return program.ends(3).await,
        _ => program.begins().await,
    }
    let (stdin, stdout, stderr) =
        (program.stdin.take(), program.stdout.take(), program.stderr.take());
    let reads = !random.once_in(4);
    let input = async {
        if let Some(mut stdin) = stdin.filter(|_| reads) {
            let _ = tokio::io::copy(&mut stdin, &mut tokio::io::sink()).await;
        }
    };
    let pieces = random.below(*random.clone().pick(&[2, 10, 400]));
    let writes = async |end: Option<tokio::net::unix::pipe::Sender>| {
        let Some(mut end) = end else { return };
        for _ in 0..pieces {
            if end.write_all(&[b'x'; 3000]).await.is_err() {
                return;
            }
        }
    };
    let lasts = random.once_in(2);
    let all = async {
        futures::join!(writes(stdout), writes(stderr), async {
            if lasts {
                input.await;
            }
        });
    };
    let (outlet_says, inlet) = (all, program.inlet());
    tokio::select! {
        () = outlet_says => program.ends(i32::from(random.next() as u8)).await,
        () = Program::session_over(inlet) => {}
    }
}

fn wanted(random: &mut Random) -> Wanted {
    let terminal = random.once_in(3);
    Wanted {
        stdin: random.once_in(2),
        stdout: !random.once_in(4),
        stderr: !terminal && random.once_in(2),
        terminal,
    }
}

fn size(random: &mut Random) -> Vec<u8> {
    let sizes = [
        "{\"Width\":80,\"Height\":24}\n",
        "{\"Width\":80,",
        "{\"Width\":99999999999,\"Height\":-1}",
        "[[[[[[[[[[[[[[[[",
        "{}",
        "\u{0}",
    ];
    random.pick(&sizes).repeat(1 + random.below(300)).into_bytes()
}

/// The streams that were asked for, input and sizes on them, and anything in between.
fn over_spdy(random: &mut Random, wanted: Wanted) -> Vec<Step> {
    let mut script = Script::new();
    if random.once_in(5) {
        seen().into_iter().for_each(|frame| script.push(frame));
        return script.steps;
    }
    let mut names = vec!["error"];
    names.extend(wanted.stdin.then_some("stdin"));
    names.extend(wanted.stdout.then_some("stdout"));
    names.extend(wanted.stderr.then_some("stderr"));
    names.extend((wanted.terminal && !random.once_in(4)).then_some("resize"));
    let turn = random.below(names.len());
    names.rotate_left(turn);
    for name in &names {
        let stream = script.open(&[("streamtype", name)]);
        if *name == "resize" {
            let size = size(random);
            script.data(stream, &size, Last::No);
        }
        if random.once_in(6) {
            script.anything(random);
        }
    }
    for _ in 0..random.below(20) {
        match names.iter().position(|name| *name == "stdin") {
            Some(place) if random.once_in(2) => {
                let bytes = random.bytes(5000);
                let last = if random.once_in(5) { Last::Yes } else { Last::No };
                script.data(2 * place as u32 + 1, &bytes, last);
            }
            _ => script.anything(random),
        }
    }
    script.steps
}

/// A client's frame: masked, and by its first byte whatever it wants to be.
pub fn message(random: &mut Random, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = random.next().to_be_bytes();
    frame.extend_from_slice(&mask[..4]);
    frame.extend(payload.iter().zip(mask[..4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

pub fn over_websocket(random: &mut Random, form: Form) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..random.below(30) {
        let channel = *random.pick(&[0, 0, 0, 4, 4, 255, 1, 9]);
        let bytes = match channel {
            4 => size(random),
            255 => vec![*random.pick(&[0, 0, 4, 7])],
            _ => random.bytes(*random.clone().pick(&[10, 3000, 100_000])),
        };
        let (kind, payload) = match form {
            Form::Binary => (0x82, [&[channel], bytes.as_slice()].concat()),
            Form::Base64 => {
                use base64::Engine as _;
                let text = base64::engine::general_purpose::STANDARD.encode(bytes);
                (0x81, format!("{}{text}", channel % 10).into_bytes())
            }
        };
        // Now and then a ping, a close, a piece of a message, or no kind at all.
        let kind = if random.once_in(8) { random.next() as u8 } else { kind };
        let frame = message(random, kind, &payload);
        let times = if random.once_in(200) { random.below(400) } else { 1 };
        steps.push(Step::Again(frame, times));
    }
    steps
}

async fn spdy_session(mut random: Random) {
    let (protocol, wanted) = (*random.pick(&SPDY_PROTOCOLS), wanted(&mut random));
    let mut steps = over_spdy(&mut random, wanted);
    if random.once_in(2) {
        mutate(&mut random, &mut steps);
    }
    let (near, far) = tokio::io::duplex(1 << (4 + random.below(13)));
    let (opening, program) = pair(wanted);
    let running = tokio::spawn(run(program, random.another()));
    let serving = tokio::spawn(async move {
        let channels = Channels::of_spdy(start(far, Role::Server), protocol, wanted).await;
        if let Ok(channels) = channels {
            serve(channels, Ending::Exit, opening).await;
        }
    });
    let mut answers = Spdy::new();
    talk(&mut random, near, (steps, &mut answers)).await;
    let _ = futures::join!(serving, running);
}

async fn websocket_session(mut random: Random) {
    let (protocol, wanted) = (*random.pick(&PROTOCOLS), wanted(&mut random));
    let mut steps = over_websocket(&mut random, protocol.form);
    if random.once_in(2) {
        mutate(&mut random, &mut steps);
    }
    let (near, far) = tokio::io::duplex(1 << (4 + random.below(13)));
    let (opening, program) = pair(wanted);
    let running = tokio::spawn(run(program, random.another()));
    let serving = tokio::spawn(serve_websocket(far, (protocol, wanted), opening));
    let mut answers = Messages::new(protocol.form);
    talk(&mut random, near, (steps, &mut answers)).await;
    let _ = futures::join!(serving, running);
}

async fn serve_websocket(
    far: DuplexStream,
    (protocol, wanted): (Protocol, Wanted),
    opening: impl Future<Output = crate::error::Result<crate::runtime::Session>>,
) {
    let channels = Channels::of_websocket(accept(far).await, protocol, wanted).await;
    serve(channels, Ending::Exit, opening).await;
}

#[test]
fn whatever_a_client_sends_its_session_ends_and_takes_little() {
    fuzz("remotecommand", async |mut random: Random| match random.below(2) {
        0 => spdy_session(random).await,
        _ => websocket_session(random).await,
    });
}

/// crictl and kubectl take the end of the server's half for the end of the program.
#[tokio::test]
async fn the_inputs_other_half_ends_with_the_program_and_not_before() {
    let wanted = Wanted { stdin: true, ..Wanted::default() };
    let (near, far) = tokio::io::duplex(64 << 10);
    let (client, _) = start(near, Role::Client);
    let (opening, program) = pair(wanted);
    let serving = tokio::spawn(async move {
        let channels = Channels::of_spdy(start(far, Role::Server), SPDY_PROTOCOLS[0], wanted).await;
        serve(channels.unwrap(), Ending::Exit, opening).await;
    });
    let open = async |kind| {
        use crate::cri::streaming::spdy::Headers;
        client.open(Headers::new(&[("streamtype", kind)])).await.unwrap()
    };
    let (_error, mut stdin) = (open("error").await, open("stdin").await);
    let mut program = program.await;
    program.begins().await;
    stdin.writer.send("typed".into()).await.unwrap();
    let mut came = [0; 5];
    program.stdin.as_mut().unwrap().read_exact(&mut came).await.unwrap();
    assert_eq!(&came, b"typed");
    let mut ending = std::pin::pin!(stdin.inflow.next());
    assert!(futures::poll!(ending.as_mut()).is_pending());
    program.ends(0).await;
    assert_eq!(ending.await, Ok(None));
    drop((client, stdin.writer, _error));
    serving.await.unwrap();
}
