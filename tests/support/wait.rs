//! Waiting for a condition, with a deadline. Tests never sleep for a guess.

use std::future::Future;
use std::time::{Duration, Instant};

/// Long enough for a busy machine of two cores; a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(5);

/// Asks until there is an answer, and gives it. `what` is the sentence of the panic at the
/// deadline.
pub async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    eventually_async(what, || std::future::ready(ask())).await
}

/// As [`eventually`], for a question that takes a call to answer.
pub async fn eventually_async<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}
