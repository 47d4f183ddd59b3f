//! Tests of one connection.

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::cri::streaming::spdy::headers::Packer;

fn pair() -> ((Connection, mpsc::Receiver<Stream>), (Connection, mpsc::Receiver<Stream>)) {
    let (one, other) = tokio::io::duplex(64 << 10);
    (start(one, Role::Client), start(other, Role::Server))
}

async fn all(mut inflow: Inflow) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    while let Some(piece) = inflow.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[tokio::test]
async fn streams_carry_both_ways_with_their_headers_and_halves_end_alone() {
    let ((client, _), (_server, mut accepted)) = pair();
    let mut asked = client.open(Headers::new(&[("streamtype", "data")])).await.unwrap();
    let given = accepted.recv().await.unwrap();
    assert_eq!(given.headers.get("streamtype"), Some("data"));
    let long = Bytes::from(vec![7; 3 << 20]);
    let sending = tokio::spawn(async move {
        asked.writer.send(long).await.unwrap();
        asked.writer.finish().await.unwrap();
        all(asked.inflow).await
    });
    assert_eq!(all(given.inflow).await.unwrap().len(), 3 << 20);
    let mut writer = given.writer;
    writer.send(Bytes::from_static(b"answer")).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(sending.await.unwrap().unwrap(), b"answer");
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_reset_and_others_go_on() {
    let ((client, _), (_server, mut accepted)) = pair();
    let first = client.open(Headers::default()).await.unwrap();
    let mut second = client.open(Headers::default()).await.unwrap();
    let (one, mut other) = (accepted.recv().await.unwrap(), accepted.recv().await.unwrap());
    drop(first);
    assert_eq!(all(one.inflow).await, Err(Broken));
    second.writer.send(Bytes::from_static(b"on")).await.unwrap();
    assert_eq!(other.inflow.next().await.unwrap().unwrap(), "on");
}

#[tokio::test]
async fn closing_lets_the_peer_read_everything_first() {
    let ((client, _), (server, mut accepted)) = pair();
    let asked = client.open(Headers::default()).await.unwrap();
    let given = accepted.recv().await.unwrap();
    let mut writer = given.writer;
    writer.send(Bytes::from(vec![1; 1 << 20])).await.unwrap();
    writer.finish().await.unwrap();
    let closing = tokio::spawn(server.close());
    assert_eq!(all(asked.inflow).await.unwrap().len(), 1 << 20);
    drop((asked.writer, client));
    closing.await.unwrap();
}

#[tokio::test]
async fn more_streams_than_a_peer_may_have_are_refused() {
    let ((client, _), (_server, mut accepted)) = pair();
    let mut open = Vec::new();
    for _ in 0..MOST_STREAMS {
        let asked = client.open(Headers::default()).await.unwrap();
        open.push((asked, accepted.recv().await.unwrap()));
    }
    let refused = client.open(Headers::default()).await.unwrap();
    assert_eq!(all(refused.inflow).await, Err(Broken));
    let (asked, given) = open.pop().unwrap();
    drop((asked, given));
    let _next = client.open(Headers::default()).await.unwrap();
}

/// Feeds `bytes` to a server as a client would, and waits until it has dealt with them.
async fn feed(bytes: &[u8]) {
    let (client, server) = tokio::io::duplex(1 << 20);
    let (connection, mut accepted) = start(server, Role::Server);
    let taking = tokio::spawn(async move {
        while let Some(stream) = accepted.recv().await {
            tokio::spawn(all(stream.inflow));
        }
    });
    let (mut read, mut write) = tokio::io::split(client);
    let draining = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut read, &mut tokio::io::sink()).await;
    });
    let _ = write.write_all(bytes).await;
    drop(write.shutdown().await);
    tokio::time::timeout(Duration::from_secs(10), connection.gone()).await.unwrap();
    drop(connection);
    taking.await.unwrap();
    draining.abort();
}

#[tokio::test]
async fn a_frame_that_never_ends_ends_the_connection() {
    feed(&[0x80, 3, 0, 1, 0, 1, 0, 1]).await;
}

/// Frames as a client could send them, with a fault here and there.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let id = 0u32..12;
    let piece = proptest::collection::vec(any::<u8>(), 0..300);
    let data = (id.clone(), any::<bool>(), piece.clone()).prop_map(|(id, fin, piece)| {
        let last = if fin { Last::Yes } else { Last::No };
        [frame::data_head(id, last, piece.len()).to_vec(), piece].concat()
    });
    let open = (id.clone(), any::<bool>()).prop_map(|(id, is_whole)| {
        let block = Packer::new().pack(&Headers::new(&[("streamtype", "data")]));
        let length = if is_whole { block.len() } else { block.len() / 2 };
        frame::syn_stream(id, Last::No, &block[..length])
    });
    let raw = (any::<u16>(), any::<u8>(), piece).prop_map(|(kind, flags, piece)| {
        let [a, b] = (kind % 12).to_be_bytes();
        let [c, d] = u16::try_from(piece.len()).unwrap().to_be_bytes();
        [vec![0x80, 3, a, b, flags, 0, c, d], piece].concat()
    });
    let reset = id.prop_map(|id| frame::rst_stream(id, Reset::Cancel));
    proptest::collection::vec(prop_oneof![data, open, raw, reset], 0..40)
        .prop_map(|frames| frames.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_frames_of_a_client_hold_a_connection_up(bytes in frames()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(feed(&bytes));
    }
}
