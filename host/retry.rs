//! What fails for a moment and is tried again: accepting while the kernel has no more
//! descriptors, receiving while it has no memory.

use std::io;
use std::time::Duration;

/// Keeps what fails at once from spinning until it passes.
const PAUSE: Duration = Duration::from_millis(50);

/// Repeats `attempt` until it succeeds.
pub async fn until_ok<T, F>(mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(_) => pause().await,
        }
    }
}

/// Between two attempts.
pub async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fails_is_tried_again_after_a_pause() {
        let begun = tokio::time::Instant::now();
        let mut failures = 2_i32;
        let value = until_ok(|| {
            let outcome =
                if failures == 0 { Ok(7) } else { Err(io::ErrorKind::OutOfMemory.into()) };
            failures -= 1;
            std::future::ready(outcome)
        });
        assert_eq!(value.await, 7);
        assert!(begun.elapsed() >= 2 * PAUSE);
    }
}
