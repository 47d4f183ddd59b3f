//! The shim's side of a session, for tests of what carries sessions.

use std::future::Future;
use std::os::fd::OwnedFd;

use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::streams::{Session, Wanted, session_over};
use crate::error::Result;
use crate::passing::{Inlet, Outlet, halves};
use crate::proto::shim as wire;
use wire::session_reply::Reply;
use wire::session_request::Stream;

/// A program as its session sees it.
pub struct Program {
    outlet: Outlet,
    inlet: Inlet,
    pub stdin: Option<pipe::Receiver>,
    pub stdout: Option<pipe::Sender>,
    pub stderr: Option<pipe::Sender>,
}

/// A session and the program behind it; the session opens once the program has said something.
pub fn pair(
    wanted: Wanted,
) -> (impl Future<Output = Result<Session>>, impl Future<Output = Program>) {
    let (near, far) = UnixStream::pair().unwrap();
    (session_over(near, wanted), program(far))
}

async fn program(far: UnixStream) -> Program {
    let (outlet, mut inlet) = halves(far);
    let asked = inlet.receive::<wire::SessionRequest>().await.unwrap();
    let mut program = Program { outlet, inlet, stdin: None, stdout: None, stderr: None };
    // A session that was given up before it asked.
    let Some((request, descriptors)) = asked else { return program };
    let writer = |end: OwnedFd| Some(pipe::Sender::from_owned_fd(end).unwrap());
    for (stream, end) in request.descriptors().zip(descriptors) {
        match stream {
            Stream::Stdin => program.stdin = Some(pipe::Receiver::from_owned_fd(end).unwrap()),
            Stream::Stdout => program.stdout = writer(end),
            Stream::Stderr => program.stderr = writer(end),
        }
    }
    program
}

impl Program {
    pub async fn begins(&mut self) {
        self.say(Reply::Begun(wire::Empty {})).await;
    }

    pub async fn is_refused(&mut self) {
        let code = tonic::Code::NotFound.into();
        self.say(Reply::Refused(wire::Refusal { code, message: "no such thing".to_owned() })).await;
    }

    pub async fn ends(mut self, code: i32) {
        self.say(Reply::Ended(wire::Exit { code, ..Default::default() })).await;
    }

    async fn say(&mut self, reply: Reply) {
        // A session that has gone is not told.
        let _ = self.outlet.send(&wire::SessionReply { reply: Some(reply) }, &[]).await;
    }

    /// Resolves once the session has gone.
    pub async fn session_over(inlet: &mut Inlet) {
        while let Ok(Some(_)) = inlet.receive::<wire::SessionControl>().await {}
    }

    pub fn inlet(&mut self) -> &mut Inlet {
        &mut self.inlet
    }
}
