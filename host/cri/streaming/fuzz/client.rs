//! The client of a session: what it sends, in which pieces, and how it goes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::Random;

/// How long a client waits for a server that takes or says nothing, before it goes.
const PATIENCE: Duration = Duration::from_millis(2);

/// What is sent.
pub enum Step {
    Bytes(Vec<u8>),
    /// The same bytes so often.
    Again(Vec<u8>, usize),
}

/// Reads what a server says.
pub trait Answers {
    fn feed(&mut self, bytes: &[u8]);

    /// All has been said and read.
    fn end(&mut self);
}

/// Changes what the steps say here and there, as a faulty client or line would.
pub fn mutate(random: &mut Random, steps: &mut [Step]) {
    for step in steps {
        let (Step::Bytes(bytes) | Step::Again(bytes, _)) = step;
        while !bytes.is_empty() && random.once_in(3) {
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = *random.pick(&[0, 1, 2, 0x7f, 0x80, 0xff]),
                2 => drop(bytes.remove(at)),
                3 => bytes.truncate(at),
                4 => drop(bytes.splice(at..at, random.bytes(12))),
                _ => {
                    let end = at + random.below(bytes.len() - at);
                    bytes.extend_from_within(at..end);
                }
            }
        }
    }
}

/// Talks to a server until all is said, then goes in one way or another.
pub async fn talk(
    random: &mut Random,
    stream: DuplexStream,
    (steps, answers): (Vec<Step>, &mut dyn Answers),
) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut listens = !random.once_in(8);
    let goes_at_once = random.once_in(3);
    let mut random = random.another();
    let says = async {
        for step in steps {
            let (bytes, times) = match step {
                Step::Bytes(bytes) => (bytes, 1),
                Step::Again(bytes, times) => (bytes, times),
            };
            for _ in 0..times {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let piece = match random.below(3) {
                        0 if rest.len() < 1000 => 1 + random.below(rest.len().min(16)),
                        _ => rest.len(),
                    };
                    // One that takes no more, or has gone.
                    match timeout(PATIENCE, write.write(&rest[..piece])).await {
                        Ok(Ok(count)) => rest = &rest[count..],
                        _ => return,
                    }
                }
            }
        }
    };
    let mut buffer = vec![0; 8 << 10];
    {
        let mut says = std::pin::pin!(says);
        loop {
            tokio::select! {
                () = says.as_mut() => break,
                count = read.read(&mut buffer), if listens => match count {
                    Ok(count) if count > 0 => answers.feed(&buffer[..count]),
                    _ => listens = false,
                },
            }
        }
    }
    if goes_at_once || !listens {
        return;
    }
    // It waits for the rest, ends its half, and reads to the end; or gives up.
    while let Ok(Ok(count)) = timeout(PATIENCE, read.read(&mut buffer)).await {
        if count == 0 {
            return answers.end();
        }
        answers.feed(&buffer[..count]);
    }
    let _ = write.shutdown().await;
    while let Ok(Ok(count)) = timeout(PATIENCE, read.read(&mut buffer)).await {
        if count == 0 {
            return answers.end();
        }
        answers.feed(&buffer[..count]);
    }
}
