//! What fails for a moment and is tried again: accepting while the kernel has no more
//! descriptors, receiving while it has no memory, removing a cgroup while its threads are leaving.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Keeps what fails at once from spinning until it passes.
const PAUSE: Duration = Duration::from_millis(50);

/// Between two attempts to remove a folder: from the first to the longest, doubled each time.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(100);

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

/// Removes a folder as soon as it is not busy any more, within `patience`. One that is not there is
/// none to remove. Blocks.
pub fn remove_busy(folder: &Path, patience: Duration) -> io::Result<()> {
    let begun = Instant::now();
    let mut pause = SHORTEST;
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy && begun.elapsed() < patience => {
                std::thread::sleep(pause);
            }
            outcome => return outcome,
        }
        pause = (pause * 2).min(LONGEST);
    }
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
