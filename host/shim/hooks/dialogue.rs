//! A hook's call as it comes over the wire: one call, any number of questions and replies, and an
//! end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::codegen::Bytes;
use tonic::{Status, Streaming};

use super::functions::Talk;
use crate::error::{Error, Result};
use crate::interface::Call;
use crate::proto::shim as wire;
use crate::proto::shim::hook_word::Word;
use crate::shim::sandbox::Sandbox;

/// Where words go to the caller.
pub type Out = mpsc::Sender<Result<wire::HookWord, Status>>;

fn word(word: Word) -> wire::HookWord {
    wire::HookWord { word: Some(word) }
}

/// Has the hooks of `sandbox` called as `asked`, and carries on the talk until they have answered
/// or the caller has gone.
pub async fn converse(
    sandbox: Arc<Sandbox>,
    asked: wire::HookCall,
    (mut words, out): (Streaming<wire::HookWord>, Out),
) -> Result<()> {
    let call: Call = serde_json::from_slice(&asked.call)
        .map_err(|error| Error::Invalid(format!("a hook's call cannot be read: {error}")))?;
    let deadline = Instant::now() + Duration::from_millis(asked.deadline_ms);
    let (asks, mut questions) = mpsc::channel::<Bytes>(1);
    let (reply, replies) = mpsc::channel::<Bytes>(1);
    let (done, mut is_done) = oneshot::channel();
    sandbox.work(Box::new(move |home| {
        let answer = home.call(&call, Talk { asks, replies }, deadline.into_std());
        // The caller may have gone.
        let _ = done.send(answer);
    }))?;
    let end = loop {
        tokio::select! {
            answer = &mut is_done => match answer {
                Ok(Ok(answer)) => {
                    let text = serde_json::to_vec(&answer)
                        .map_err(|error| Error::Internal(format!("telling an answer: {error}")))?;
                    break Word::Answer(text.into());
                }
                Ok(Err(why)) => break Word::Broken(why),
                Err(_) => break Word::Broken("ended with its sandbox".to_owned()),
            },
            Some(question) = questions.recv() => {
                let _ = out.send(Ok(word(Word::Ask(question)))).await;
            }
            said = words.message() => match said {
                Ok(Some(wire::HookWord { word: Some(Word::Reply(text)) })) => {
                    let _ = reply.send(text).await;
                }
                // The caller has gone, and with this the hook's time.
                _ => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        }
    };
    let _ = out.send(Ok(word(end))).await;
    Ok(())
}
