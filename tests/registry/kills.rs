//! A daemon that is killed while it pulls: the next one finds a store that is whole, and pulls on.

use std::time::Duration;

use wasmpod::proto::cri;

use super::fake::{Fake, Reply};
use super::kit::*;
use crate::images::kit::{Entry, digest, files, gzip, layer, module};
use crate::support::Daemon;

const ROUNDS: u32 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_of_a_pull_leaves_a_store_that_is_whole() {
    let fake = Fake::start();
    let tars: Vec<Vec<u8>> = (0..3)
        .map(|mark| {
            let noise = large(mark, 400_000);
            layer(&[Entry::File("a.wasm", &module(mark)), Entry::File("data", &noise)])
        })
        .collect();
    let layers: Vec<_> = tars.iter().map(|tar| ("tar+gzip", gzip(tar), tar.clone())).collect();
    let made = classic(("wasi", "wasm"), &["a.wasm"], &layers);
    made.put(&fake, "app", "1");
    // Slow enough that a kill can come between any two steps.
    fake.rule(|seen, _| {
        std::thread::sleep(Duration::from_millis(if seen.method == "GET" { 15 } else { 0 }));
        None::<Reply>
    });
    let name = format!("{}/app:1", fake.host());
    let mut daemon = Daemon::start().await;
    let (mut broken_off, mut done) = (0, 0);
    for round in 0..ROUNDS {
        let (mut images, wanted) = (daemon.images(), name.clone());
        let pull = tokio::spawn(async move {
            let image = Some(cri::ImageSpec { image: wanted, ..Default::default() });
            let request = cri::PullImageRequest { image, ..Default::default() };
            images.pull_image(request).await
        });
        // Another moment each round, from the first question to after the last step.
        let moment = std::time::Instant::now() + Duration::from_millis(u64::from(round) * 25);
        while std::time::Instant::now() < moment {
            tokio::task::yield_now().await;
        }
        daemon.kill();
        match pull.await.unwrap() {
            Ok(_) => done += 1,
            Err(_) => broken_off += 1,
        }
        daemon.restart().await;
        check(&daemon, &made, &name).await;
    }
    assert!(broken_off > 0, "no kill was early enough: {done} pulls were done");
    let request = cri::PullImageRequest {
        image: Some(cri::ImageSpec { image: name.clone(), ..Default::default() }),
        ..Default::default()
    };
    daemon.images().pull_image(request).await.unwrap();
    check(&daemon, &made, &name).await;
}

/// What is there is whole, and nothing else is there.
async fn check(daemon: &Daemon, made: &Made, name: &str) {
    let list = daemon.images().list_images(cri::ListImagesRequest { filter: None }).await.unwrap();
    let images = list.into_inner().images;
    let store = daemon.root().join("images");
    assert!(files(&store.join("tmp")).is_empty());
    let blobs = files(&store.join("blobs/sha256"));
    for blob in &blobs {
        let bytes = std::fs::read(store.join("blobs/sha256").join(blob)).unwrap();
        assert_eq!(digest(&bytes), format!("sha256:{blob}"));
    }
    match images.as_slice() {
        [] => assert_eq!(blobs.len(), 0, "blobs of no image"),
        [image] => {
            assert_eq!(image.repo_tags, [name]);
            assert_eq!(image.id, made.parts[0].digest);
            assert_eq!(blobs.len(), made.parts.len() + 1);
        }
        more => panic!("{more:?}"),
    }
}
