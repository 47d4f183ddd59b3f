//! The list RPCs' streaming twins: the same answers in messages of a bounded size, for lists
//! beyond what one message holds.

use std::pin::Pin;

use futures::Stream;
use prost::Message;
use tonic::Status;

/// Bytes of items in one message, unless one item alone has more.
const CHUNK: usize = 1 << 20;

pub(super) type Chunks<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

/// `items` in messages that `wrap` makes.
pub(super) fn chunks<T, R>(items: Vec<T>, wrap: fn(Vec<T>) -> R) -> Chunks<R>
where
    T: Message + 'static,
    R: Send + 'static,
{
    let mut items = items.into_iter().peekable();
    let pieces = std::iter::from_fn(move || {
        let mut piece = vec![items.next()?];
        let mut size = piece.iter().map(Message::encoded_len).sum::<usize>();
        while let Some(item) = items.next_if(|item| size + item.encoded_len() <= CHUNK) {
            size += item.encoded_len();
            piece.push(item);
        }
        Some(Ok(wrap(piece)))
    });
    Box::pin(futures::stream::iter(pieces))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::proto::cri;

    #[tokio::test]
    async fn every_item_comes_once_and_no_message_is_too_large() {
        let image = |number: usize| cri::Image {
            id: number.to_string(),
            repo_tags: vec!["x".repeat(if number == 7 { 3 * CHUNK } else { 1000 })],
            ..Default::default()
        };
        let wrap = |images| cri::StreamImagesResponse { images };
        let messages: Vec<_> =
            chunks((0..5000).map(image).collect(), wrap).map(Result::unwrap).collect().await;
        let ids: Vec<String> =
            messages.iter().flat_map(|m| m.images.iter().map(|image| image.id.clone())).collect();
        assert_eq!(ids, (0..5000).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(messages.len() > 4);
        for message in &messages {
            assert!(message.encoded_len() <= CHUNK + 64 * 1024 || message.images.len() == 1);
        }
    }
}
