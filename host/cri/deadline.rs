//! A caller's deadline: what it wants is given up in time to say so.

use std::future::Future;
use std::time::Duration;

use tonic::metadata::MetadataMap;

use crate::error::{Error, Result};

/// Of a deadline, left for the answer's way; tonic's own timer says CANCELLED when it is first.
const MARGIN: Duration = Duration::from_millis(50);

/// Does something within the caller's `grpc-timeout`, where it has one; `doing` is for the error.
pub async fn within<T>(
    metadata: &MetadataMap,
    doing: impl FnOnce() -> String,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(timeout) = timeout(metadata) else { return work.await };
    let patience = timeout.saturating_sub(MARGIN.min(timeout / 10));
    match tokio::time::timeout(patience, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::DeadlineExceeded(format!(
            "{} did not end within the caller's {timeout:?}",
            doing()
        ))),
    }
}

/// gRPC's "TimeoutValue TimeoutUnit": at most eight digits and a letter.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (value, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = value.parse().ok().filter(|_| value.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(text: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        metadata
    }

    #[test]
    fn timeouts_have_every_unit_of_grpc() {
        for (text, expected) in [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("120S", Some(Duration::from_secs(120))),
            ("99m", Some(Duration::from_millis(99))),
            ("5u", Some(Duration::from_micros(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("7", None),
            ("S", None),
            ("-1S", None),
            ("123456789S", None),
        ] {
            assert_eq!(timeout(&metadata(text)), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn what_takes_longer_is_given_up_and_named() {
        let never = std::future::pending::<Result<()>>();
        let error = within(&metadata("20m"), || "pulling x".to_owned(), never).await.unwrap_err();
        assert!(matches!(&error, Error::DeadlineExceeded(text) if text.starts_with("pulling x")));
    }
}
